"""What ptxas makes of the order that the passes chose: the loops of sm_90a as they run.

Without a GPU. A missing nvdisasm is a failure, not a skip: scripts/test.sh installs one.
"""

from __future__ import annotations

import itertools

import flash_attn_mlir as fa
import pytest
from flash_attn_mlir import _schedules
from sass import Kernel, disassemble

HEAD_DIMS = (24, 32, 64, 96, 104, 128, 160, 192, 208, 256)
# Those whose programs for short sequences are others, and are taken here.
SHORT = {64: 4096, 104: 4096, 112: 4096, 160: 4096, 192: 4096}


def compiled(**options) -> fa.Kernel:
    kernel = fa.compile(chip="sm_90a", dtype="f16", **options)
    assert kernel.cubin, "no ptxas"
    return kernel


def is_product(instruction):
    return instruction.name.startswith("HGMMA")


def waits_for_all_but(count):
    return lambda i: (
        i.name.startswith("WARPGROUP.DEPBAR")
        and i.operands
        == [
            "gsb0",
            f"0x{count}",
        ]
    )


def position(loop, condition):
    (number,) = (i for i, instruction in enumerate(loop) if condition(instruction))
    return number


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("head_dim", HEAD_DIMS)
def test_forward(head_dim, causal):
    """The loop over blocks of keys that no mask cuts."""
    kernel = compiled(head_dim=head_dim, causal=causal, query_rows=SHORT.get(head_dim, 0))
    (row,) = _schedules.rows_of(kernel.report)
    (code,) = disassemble(kernel.cubin)
    # Of a thread: 64 rows for 128, and two more that scale rows where scores rise.
    exponentials = row.value("tile_n") // 2 + 2
    hot = code.loops(waits_for_all_but(1)) if row.value("overlap") else code.loops(is_product)
    # Beside it: blocks that the mask or the number of keys cuts, and rows that NaN has spoilt.
    assert hot
    loop = min(hot, key=len) if row.value("overlap") else hot[0]
    # Lost uniformity: descriptors are made in registers of all lanes, then moved.
    assert sum(i.name.startswith("R2UR") for i in loop) <= 1
    if not row.value("overlap"):
        return
    # A hoisted wait: exponentials would stand behind the product that they hide.
    first, last = position(loop, waits_for_all_but(1)), position(loop, waits_for_all_but(0))
    started = max(i for i, instruction in enumerate(loop) if is_product(instruction))
    assert started < first
    between = [i.name for i in loop[first:last]]
    vote = next(i for i, name in enumerate(between) if name.startswith("VOTE"))
    assert sum(name.startswith("MUFU.EX2") for name in between[:vote]) == exponentials
    # A release that sank: the slot of the keys would wait for the product of the values.
    assert sum(name.startswith("SYNCS.ARRIVE") for name in between[vote:]) == 1


def held_and_lost(code: Kernel) -> tuple[int, int]:
    """Products in loops whose left factor was read before; and those where it may be lost."""
    held = lost = 0
    for number, instruction in enumerate(code.code):
        if not is_product(instruction):
            continue
        writers = [code.writers(number, r) for r in instruction.registers(1, 4)]
        names = set().union(*writers)
        held += names == {"LDSM"}
        # LDL: it was spilled, and comes back.
        lost += "LDSM" in names and not names <= {"LDSM", "LDL"}
    return held, lost


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("head_dim", [24, 32, 104, 112, 128, 160, 192, 208])
def test_held_factors_stay(head_dim, causal):
    """ptxas before 13.1 can lose them: lib/Dialect/Tile/Transforms/HoldFactors.cpp."""
    kernel = compiled(head_dim=head_dim, causal=causal, query_rows=SHORT.get(head_dim, 0))
    (row,) = _schedules.rows_of(kernel.report)
    assert row.value("hold_left")
    (code,) = disassemble(kernel.cubin)
    held, lost = held_and_lost(code)
    assert held >= -(-head_dim // 16) and not lost


@pytest.mark.parametrize(
    ("head_dim", "tile"), list(itertools.product([32, 64, 96], [(64, 32), (64, 64), (128, 64)]))
)
def test_held_factors_of_gradients_stay(head_dim, tile):
    """Where ptxas does lose them (four products, 64 queries at D 64), none are held."""
    options = {"head_dim": head_dim, "backward": True}
    rows = _schedules.rows_of(compiled(**options).report)
    for row in rows:
        if row.work in ("rows", "keys"):
            row.plan["hold_left"] = True
        if row.work == "keys":
            row.fields["tile_m"] = tile[1]
        if row.work == "rows":
            row.fields["tile_m"], row.fields["tile_n"] = 128, tile[0]
    kernel = compiled(**options, schedule=_schedules.table(rows))
    kernels = [held_and_lost(code) for code in disassemble(kernel.cubin)]
    assert not any(lost for held, lost in kernels)
    # Those of the queries' gradients: q, and that of the output.
    assert sum(bool(held) for held, lost in kernels) == 1


def test_the_test_finds_lost_factors():
    text = """
.L_x_0:
        LDSM.16.M88.4 R8, [R2+UR4] ;
.L_x_1:
        HGMMA.64x64x16.F32 R24, R8, gdesc[UR8], R24, gsb0 ;
        {}
        @P0 BRA `(.L_x_1) ;
        EXIT ;
"""
    assert held_and_lost(Kernel(text.format("FADD R12, R8, R24 ;"))) == (1, 0)
    assert held_and_lost(Kernel(text.format("FADD R10, R8, R24 ;"))) == (0, 1)
    assert held_and_lost(Kernel(text.format("@!P1 FADD R10, R8, R24 ;"))) == (0, 1)
    assert held_and_lost(Kernel(text.format("IMAD.WIDE R10, R8, R24, RZ ;"))) == (0, 1)
