"""What is compiled for older chips, on the GPU that is there: `pytest -m gpu`.

The driver compiles the PTX of sm_75 to sm_89 for a newer device. Calls go
through the public functions, which believe that the device is of that chip.
"""

from __future__ import annotations

import flash_attn_mlir as fa
import pytest
from cases import Case
from flash_attn_mlir import _attention
from test_gpu import check, draw, generator, inputs, reference64  # noqa: F401
from test_gradients import check as check_gradients

pytestmark = pytest.mark.gpu

CHIPS = {"sm_75": (7, 5), "sm_80": (8, 0), "sm_86": (8, 6), "sm_89": (8, 9)}


@pytest.fixture(params=CHIPS)
def chip(request, torch, monkeypatch):
    if torch.cuda.get_device_capability() < CHIPS[request.param]:
        pytest.skip(f"the device is older than {request.param}")
    monkeypatch.setattr(_attention, "_chips", {torch.cuda.current_device(): request.param})
    kernels = {}
    monkeypatch.setattr(_attention, "_kernels", kernels)
    yield request.param
    assert {key[0] for key in kernels} == {request.param}


def type_for(chip, index):
    return "float16" if chip == "sm_75" else ["float16", "bfloat16"][index % 2]


CASES = [
    Case(batch, seqlen_q, seqlen_k, heads, heads_k, head_dim, **options)
    for head_dim in (16, 64, 128, 256)
    for batch, seqlen_q, seqlen_k, heads, heads_k, options in [
        (2, 128, 256, 2, 2, {}),
        (1, 133, 301, 4, 2, {"causal": True}),  # ragged, grouped
        (2, 200, 64, 2, 1, {"causal": True}),  # rows without a live key on top
        (1, 150, 150, 3, 3, {"window": (20, 5)}),
        (1, 1, 300, 4, 1, {}),  # decode
        (1, 70, 90, 2, 2, {"unaligned": True, "causal": True}),
        (1, 70, 90, 2, 2, {"softcap": 5.0, "scale": 0.3}),
    ]
] + [Case(1, 70, 90, 2, 1, head_dim, causal=True) for head_dim in (1, 10, 59, 90, 96, 192, 255)]


@pytest.mark.parametrize("index", range(len(CASES)))
def test_forward(torch, generator, chip, index):  # noqa: F811
    case, dtype = CASES[index], type_for(chip, index)
    q, k, v = inputs(torch, generator, case, dtype)
    out, lse, _ = fa.flash_attn_func(q, k, v, return_attn_probs=True, **case.options())
    check(torch, dtype, out, lse, *reference64(torch, q, k, v, case))


@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize("index", range(len(CASES)))
def test_backward(torch, generator, chip, index, deterministic):  # noqa: F811
    case, dtype = CASES[index], type_for(chip, index)
    q, k, v = (x.requires_grad_() for x in inputs(torch, generator, case, dtype))
    out = fa.flash_attn_func(q, k, v, deterministic=deterministic, **case.options())
    dout = draw(torch, generator, dtype, *out.shape)
    gradients = torch.autograd.grad(out, (q, k, v), dout)
    upcast = [x.detach().double().cpu().numpy() for x in (q, k, v, dout)]
    want = case.gradients(*upcast)
    check_gradients(dtype, [x.double().cpu().numpy() for x in gradients], *want)


def test_many_heads(torch, generator, chip):  # noqa: F811
    """More than 65,535 (batch, head) pairs."""
    case = Case(700, 20, 30, 100, 50, 16)
    q, k, v = inputs(torch, generator, case, "float16")
    out, lse, _ = fa.flash_attn_func(q, k, v, return_attn_probs=True)
    check(torch, "float16", out, lse, *reference64(torch, q, k, v, case))


def test_bf16_is_refused_on_turing(torch, monkeypatch):
    monkeypatch.setattr(_attention, "_chips", {torch.cuda.current_device(): "sm_75"})
    q = torch.zeros(1, 8, 1, 64, dtype=torch.bfloat16, device="cuda")
    with pytest.raises(NotImplementedError, match="'bf16', which chip sm_75 has no schedule for"):
        fa.flash_attn_func(q, q, q)
