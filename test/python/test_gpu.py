"""Results on a GPU: `pytest -m gpu`. Every artifact that the device can run is tested.

Errors are measured against float64 on the same (upcast) inputs and may be at most
1.1 times those of PyTorch's flash backend, where that has the feature.
"""

from __future__ import annotations

import flash_attn_mlir as fa
import numpy as np
import pytest
from cases import EDGES, Case, random_case
from flash_attn_mlir import _attention, _fa
from reference import Sizes, bounds
from test_gradients import check as check_gradients

pytestmark = pytest.mark.gpu

DTYPES = ["float16", "bfloat16"]


def chips():
    try:
        import torch
    except ImportError:
        return ["sm_80"]
    if not torch.cuda.is_available():
        return ["sm_80"]
    own = _fa.chip_of_capability(*torch.cuda.get_device_capability())
    return ["sm_80", "sm_90a"] if own == "sm_90a" else [own]


@pytest.fixture(params=chips())
def chip(request):
    return request.param


@pytest.fixture
def generator(torch, rng):
    return torch.Generator("cuda").manual_seed(int(rng.integers(1 << 60)))


def draw(torch, generator, dtype, *shape):
    return torch.randn(shape, device="cuda", generator=generator).to(getattr(torch, dtype))


def inputs(torch, generator, case, dtype):
    q = draw(torch, generator, dtype, case.batch, case.seqlen_q, case.heads, case.head_dim)
    k, v = (
        draw(torch, generator, dtype, case.batch, case.seqlen_k, case.heads_k, case.head_dim)
        for _ in range(2)
    )
    if case.unaligned:
        q, k, v = (unaligned(torch, x) for x in (q, k, v))
    return q, k, v


def unaligned(torch, x):
    big = torch.full(
        (*x.shape[:2], x.shape[2] + 1, x.shape[3] + 3), float("nan"), dtype=x.dtype, device=x.device
    )
    view = big[:, :, 1:, 1 : 1 + x.shape[3]]
    view.copy_(x)
    return view


def run(chip, q, k, v, causal=False, window_size=(-1, -1), softcap=0.0, softmax_scale=None):
    """flash_attn_func with a given artifact; an unaligned tensor can't take sm_90a."""
    operands = [_attention._Operand(n, x, 4) for n, x in zip("qkv", (q, k, v))]
    options = _attention._check_options(0.0, softmax_scale, window_size, softcap, None, False)
    aligned = all(x.view.alignment == 16 and not x.view.broadcast for x in operands)
    if chip == "sm_90a" and not aligned:
        chip = "sm_80"
    return _attention._forward(operands, options, causal, chip)


def reference64(torch, q, k, v, case):
    """float64 on the device: o, lse and Sizes, as reference.attention returns them."""
    group = case.heads // case.heads_k
    q, k, v = (x.double().transpose(1, 2) for x in (q, k, v))
    k, v = (x.repeat_interleave(group, 1) for x in (k, v))
    scale = case.head_dim**-0.5 if case.scale is None else case.scale
    s = scale * (q @ k.transpose(2, 3))
    products = abs(scale) * q.norm(dim=-1)[..., :, None] * k.norm(dim=-1)[..., None, :]
    if case.softcap:
        tanh = torch.tanh(s / case.softcap)
        s, products = case.softcap * tanh, products * (1 - tanh**2)
    products = products + s.abs()
    m = torch.arange(case.seqlen_q, device=q.device)[:, None] + case.seqlen_k - case.seqlen_q
    n = torch.arange(case.seqlen_k, device=q.device)[None, :]
    left, right = case.window
    right = 0 if case.causal else right
    keep = torch.ones(case.seqlen_q, case.seqlen_k, dtype=torch.bool, device=q.device)
    if left >= 0:
        keep &= n >= m - left
    if right >= 0:
        keep &= n <= m + right
    s = s.masked_fill(~keep, -torch.inf)
    lse = torch.logsumexp(s, -1)
    p = torch.exp(s - torch.where(lse.isinf(), 0.0, lse)[..., None])
    out = p @ v
    score_size = 1 + torch.where(lse.isinf(), 0.0, lse.abs()) + (p * products).sum(-1)
    value_size = (p**2 @ (v**2).sum(-1, keepdim=True)).sqrt()[..., 0]
    sizes = Sizes(score_size, torch.maximum(value_size, out.norm(dim=-1)))
    return out.transpose(1, 2), lse, sizes


def measure(torch, out, expected, norms):
    """L2 errors of the tensor and of rows, relative to `norms` of the rows; rows of
    norm 0 (without a live key) must be exactly 0."""
    out = out.double()
    dead = norms == 0
    assert (out[dead] == 0).all(), "a row without a live key is not exactly zero"
    rows = (out - expected).norm(dim=-1)
    if bool(dead.all()):
        return 0.0, rows
    return float(rows.norm() / norms.norm()), rows / torch.where(dead, 1.0, norms)


def check(torch, dtype, out, lse, expected, expected_lse, sizes, limits=None):
    """`limits` on (relative L2, largest row error) take the place of the bounds."""
    dead = expected_lse.isinf()
    assert torch.equal(lse[dead].double(), expected_lse[dead])
    if not out.numel():
        return
    tensor, row, log = bounds(dtype, sizes.score)
    norms = sizes.value.transpose(1, 2)
    if limits:
        tensor, row = limits[0], torch.full_like(row, limits[1])
        norms = expected.norm(dim=-1)
    measured, rows = measure(torch, out, expected, norms)
    assert measured <= tensor, f"relative L2 {measured:.3g} > {tensor:.3g}"
    within("row error", rows, row.transpose(1, 2))
    within("lse error", (lse.double() - expected_lse)[~dead].abs(), log[~dead])


def within(what, errors, bound):
    exceeding = ~(errors <= bound)  # NaN exceeds
    assert not bool(exceeding.any()), (
        f"{what} {float(errors[exceeding].max()):.3g} > {float(bound[exceeding].max()):.3g}"
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", EDGES, ids=range(len(EDGES)))
def test_edges(torch, generator, chip, dtype, case):
    q, k, v = inputs(torch, generator, case, dtype)
    check(torch, dtype, *run(chip, q, k, v, **case.options()), *reference64(torch, q, k, v, case))


@pytest.mark.parametrize("head_dim", [*range(8, 257, 8), 1, 2, 3, 7, 59, 111, 255])
def test_head_dims(torch, generator, rng, chip, head_dim):
    case = random_case(rng, 300, [head_dim])
    q, k, v = inputs(torch, generator, case, "float16")
    check(
        torch, "float16", *run(chip, q, k, v, **case.options()), *reference64(torch, q, k, v, case)
    )


def in_pairs(torch, x):
    """The same values, two elements off, where strides are even and no multiple of 8:
    4 bytes of alignment."""
    size = x.shape[3]
    pitch = next(p for p in range(size + 2, size + 6) if p % 2 == 0 and p % 8)
    big = torch.full((*x.shape[:3], pitch), float("nan"), dtype=x.dtype, device=x.device)
    view = big[..., 2 : 2 + size]
    view.copy_(x)
    return view


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("head_dim", [2, 10, 64, 90, 128, 256])
def test_four_byte_alignment(torch, generator, dtype, causal, head_dim):
    case = Case(2, 133, 201, 4, 2, head_dim, causal=causal)
    q, k, v = (in_pairs(torch, x) for x in inputs(torch, generator, case, dtype))
    for name, x in zip("qkv", (q, k, v)):
        assert _attention._Operand(name, x, 4).view.alignment == 4
    result = run("sm_80", q, k, v, causal=causal)
    check(torch, dtype, *result, *reference64(torch, q, k, v, case))
    # Bit for bit what other copies give.
    dense = run("sm_80", *(x.contiguous() for x in (q, k, v)), causal=causal)
    assert torch.equal(result[0], dense[0]) and torch.equal(result[1], dense[1])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("head_dim", [1, 7, 59, 127, 255])
@pytest.mark.parametrize("lengths", [False, True])
def test_four_byte_alignment_of_odd_rows(torch, generator, dtype, head_dim, lengths):
    """The last copy of a row reads one element; NaN beside the rows does not leak."""
    case = Case(2, 133, 201, 4, 2, head_dim)
    q, k, v = (in_pairs(torch, x) for x in inputs(torch, generator, case, dtype))
    out = in_pairs(torch, torch.zeros_like(q))
    guard = torch.as_strided(
        out, (*out.shape[:3], 1), out.stride(), out.storage_offset() + head_dim
    )
    lse = torch.full((2, 4, 133), float("nan"), device="cuda")
    kernel = fa.compile(
        chip="sm_80",
        dtype={"float16": "f16", "bfloat16": "bf16"}[dtype],
        head_dim=head_dim,
        lengths=lengths,
        alignment=4,
    )
    # All rows are used; the test of lengths is whether their kernel copies the same.
    full = [torch.full((2,), n, dtype=torch.int32, device="cuda") for n in (133, 201)]
    kernel(q, k, v, head_dim**-0.5, *(full if lengths else ()), out, lse)
    check(torch, dtype, out, lse, *reference64(torch, q, k, v, case))
    assert bool(guard.isnan().all()), "memory beside a row of the result was written"
    with pytest.raises(ValueError, match="argument 1 .k. starts at .* multiple of 4 bytes"):
        shifted = torch.as_strided(k, k.shape, k.stride(), k.storage_offset() + 1)
        kernel(q, shifted, v, head_dim**-0.5, *(full if lengths else ()), out, lse)


@pytest.mark.parametrize("index", range(40))
def test_random(torch, generator, rng, chip, index):
    case = random_case(rng, 600)
    dtype = DTYPES[index % 2]
    q, k, v = inputs(torch, generator, case, dtype)
    check(torch, dtype, *run(chip, q, k, v, **case.options()), *reference64(torch, q, k, v, case))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("head_dim", [32, 64, 96, 128, 192, 256])
@pytest.mark.parametrize("seqlen", [113, 512, 1024])
def test_no_worse_than_torch_flash(torch, generator, chip, dtype, causal, head_dim, seqlen):
    from torch.nn.attention import SDPBackend, sdpa_kernel

    case = Case(2, seqlen, seqlen, 4, 4, head_dim, causal=causal)
    q, k, v = inputs(torch, generator, case, dtype)
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
        peer = torch.nn.functional.scaled_dot_product_attention(
            *(x.transpose(1, 2) for x in (q, k, v)), is_causal=causal
        ).transpose(1, 2)
    expected = reference64(torch, q, k, v, case)
    peer_tensor, peer_rows = measure(torch, peer, expected[0], expected[0].norm(dim=-1))
    # Largest values of few rows vary more than a norm does.
    half_bound = float(bounds(dtype, expected[2].score)[1].max()) / 2
    limits = (1.1 * peer_tensor, max(1.1 * float(peer_rows.max()), half_bound))
    check(torch, dtype, *run(chip, q, k, v, causal=causal), *expected, limits)


def test_current_stream(torch, generator):
    q = draw(torch, generator, "float16", 2, 4096, 8, 64)
    expected = fa.flash_attn_func(q, q, q)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        x = torch.zeros_like(q)
        torch.cuda._sleep(50_000_000)
        x.copy_(q)  # only this stream's order makes x right
        out = fa.flash_attn_func(x, x, x)
    stream.synchronize()
    assert torch.equal(out, expected)


def test_cuda_graph(torch, generator):
    q = draw(torch, generator, "float16", 2, 333, 4, 64)
    fa.flash_attn_func(q, q, q, causal=True)  # compiled and loaded before the capture
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = fa.flash_attn_func(q, q, q, causal=True)
    for _ in range(3):
        q.copy_(draw(torch, generator, "float16", *q.shape))
        graph.replay()
        assert torch.equal(out, fa.flash_attn_func(q, q, q, causal=True))


def test_results_repeat_bit_for_bit(torch, generator, chip):
    q, k, v = (draw(torch, generator, "bfloat16", 2, 1500, 4, 128) for _ in range(3))
    first = run(chip, q, k, v, causal=True)
    for _ in range(20):
        again = run(chip, q, k, v, causal=True)
        assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])


@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize("head_dim", [40, 64, 128, 256])
def test_gradients(torch, generator, head_dim, deterministic):
    """What this device runs for a training step."""
    case = Case(2, 333, 517, 4, 2, head_dim, causal=True)
    q, k, v = (x.requires_grad_() for x in inputs(torch, generator, case, "bfloat16"))
    out = fa.flash_attn_func(q, k, v, causal=True, deterministic=deterministic)
    dout = draw(torch, generator, "bfloat16", *out.shape)
    gradients = torch.autograd.grad(out, (q, k, v), dout)
    upcast = [x.detach().double().cpu().numpy() for x in (q, k, v, dout)]
    want = case.gradients(*upcast)
    check_gradients("bfloat16", [x.double().cpu().numpy() for x in gradients], *want)


@pytest.mark.parametrize("head_dim", [64, 128, 256])
@pytest.mark.parametrize("chip", [None, "sm_80"])
def test_deterministic_gradients_repeat(torch, generator, chip, head_dim, monkeypatch):
    """Bit for bit; also when PyTorch is told to be deterministic."""
    if chip:
        monkeypatch.setattr(_attention, "_chips", {torch.cuda.current_device(): chip})
    case = Case(1, 3000, 3000, 4, 2, head_dim)
    q, k, v = (x.requires_grad_() for x in inputs(torch, generator, case, "float16"))

    def gradients(**options):
        out = fa.flash_attn_func(q, k, v, causal=True, **options)
        return torch.autograd.grad(out, (q, k, v), dout)

    dout = draw(torch, generator, "float16", *q.shape)
    first = gradients(deterministic=True)
    for _ in range(4):
        assert all(map(torch.equal, first, gradients(deterministic=True)))
    torch.use_deterministic_algorithms(True)
    try:
        assert all(map(torch.equal, first, gradients()))
    finally:
        torch.use_deterministic_algorithms(False)


def test_memory_is_linear(torch, generator):
    q = draw(torch, generator, "float16", 1, 16384, 4, 64)
    fa.flash_attn_func(q, q, q)
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    out = fa.flash_attn_func(q, q, q)
    results = out.numel() * 2 + 4 * 16384 * 4
    assert torch.cuda.max_memory_allocated() - before < 1.5 * results + (1 << 20)


def test_many_heads(torch, generator, chip):
    # More than 65,535 (batch, head) pairs.
    q = draw(torch, generator, "float16", 700, 3, 100, 16)
    out, lse = run(chip, q, q, q)
    check(torch, "float16", out, lse, *reference64(torch, q, q, q, Case(700, 3, 3, 100, 100, 16)))


@pytest.mark.slow
def test_more_than_2_31_elements(torch, generator, chip):
    shape = (2, 70_000, 128, 128)  # 2.3e9 elements, 4.6 GB
    if torch.cuda.mem_get_info()[0] < 30e9:
        pytest.skip("30 GB of GPU memory are needed")
    q = torch.empty(shape, device="cuda", dtype=torch.float16).normal_(generator=generator)
    out, lse = run(chip, q, q, q, window_size=(64, 0))
    # The last rows of the last head lie beyond 2^31 elements.
    tail = q[1:, -256:, -1:]
    case = Case(1, 256, 256, 1, 1, 128, window=(64, 0))
    expected, expected_lse, sizes = reference64(torch, tail, tail, tail, case)
    rows = slice(128, None)
    check(
        torch,
        "float16",
        out[1:, -128:, -1:],
        lse[1:, -1:, -128:],
        expected[:, rows],
        expected_lse[..., rows],
        Sizes(*(size[..., rows] for size in sizes)),
    )


@pytest.mark.slow
@pytest.mark.parametrize("deterministic", [False, True])
def test_gradients_of_more_than_2_31_elements(torch, generator, deterministic):
    if torch.cuda.mem_get_info()[0] < 60e9:
        pytest.skip("60 GB of GPU memory are needed")
    shape = (2, 70_000, 128, 128)
    q = torch.empty(shape, device="cuda", dtype=torch.float16).normal_(generator=generator)
    if not deterministic:
        q = q[:, :, :32]  # memory for the sum of d_q; strides are as large
    q.requires_grad_()
    out = fa.flash_attn_func(q, q, q, window_size=(0, 0), deterministic=deterministic)
    # Each row sees itself alone: out is v, and scores have no gradient.
    assert torch.equal(out[1, -300:, -1], q[1, -300:, -1])
    dout = out.detach()
    (gradient,) = torch.autograd.grad(out, q, dout)
    torch.testing.assert_close(
        gradient[1, -300:, -1].float(), dout[1, -300:, -1].float(), rtol=2e-3, atol=2e-2
    )


@pytest.mark.parametrize("seqlen_q", [0, 1, 5, 300])
def test_nothing(torch, seqlen_q, chip):
    """No query, or no key."""
    q = torch.ones(2, seqlen_q, 4, 64, dtype=torch.float16, device="cuda")
    k = torch.ones(2, 0, 2, 64, dtype=torch.float16, device="cuda")
    out, lse = run(chip, q, k, k, causal=True)
    assert out.shape == q.shape and lse.shape == (2, 4, seqlen_q)
    assert (out == 0).all() and (lse == -torch.inf).all()


def test_mixed_devices_and_dtypes(torch, generator):
    q = draw(torch, generator, "float16", 1, 16, 2, 64)
    with pytest.raises(ValueError, match="k: on CPU .*q is on CUDA"):
        fa.flash_attn_func(q, q.cpu(), q)
    with pytest.raises(TypeError, match="q: dtype float32 is not supported on CUDA"):
        fa.flash_attn_func(q.float(), q.float(), q.float())


def test_cpu_and_gpu_agree(torch, generator, chip):
    q, k, v = (draw(torch, generator, "float16", 2, 130, 4, 64) for _ in range(3))
    gpu, gpu_lse = run(chip, q, k, v, causal=True)
    cpu, cpu_lse, _ = fa.flash_attn_func(
        q.cpu(), k.cpu(), v.cpu(), causal=True, return_attn_probs=True
    )
    np.testing.assert_allclose(gpu.cpu().float(), cpu.float(), atol=2e-3)
    np.testing.assert_allclose(gpu_lse.cpu(), cpu_lse, atol=1e-4)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("head_dim", [64, 128, 256])
def test_nonfinite_values_reach_their_own_rows_only(torch, generator, chip, dtype, head_dim):
    """Causal: NaN and infinity in v reach the rows that keep the key, no other."""
    seqlen, keys = 200, 333
    q = draw(torch, generator, dtype, 1, seqlen, 2, head_dim)
    k, v = (draw(torch, generator, dtype, 1, keys, 2, head_dim) for _ in range(2))
    spoiled = {150: float("nan"), 222: float("inf"), 300: -float("inf")}
    kernel = fa.compile(
        chip=chip,
        dtype={"float16": "f16", "bfloat16": "bf16"}[dtype],
        head_dim=head_dim,
        causal=True,
    )

    def run():
        out = torch.full_like(q, 7.0)
        lse = torch.empty(1, 2, seqlen, device="cuda")
        kernel(q, k, v, head_dim**-0.5, out, lse)
        return out.float()

    clean = run()
    for key, value in spoiled.items():
        v[0, key, :, 5] = value
    out = run()
    rows = torch.arange(seqlen, device="cuda")
    first = min(spoiled) - (keys - seqlen)  # the first row that keeps a spoiled key
    bound = 2e-3 if dtype == "float16" else 1.6e-2
    others = torch.arange(head_dim, device="cuda") != 5
    assert (out - clean)[..., others].norm() <= bound * clean[..., others].norm()
    assert (out - clean)[:, rows < first].norm() <= bound * clean[:, rows < first].norm()
    assert not torch.isfinite(out[:, rows >= first][..., 5]).any()
