"""Schedules that the table does not choose, for tests of what they may say."""

from __future__ import annotations

# Rows and keys of a tile, and warps that compute, of the forward on sm_90a by head size.
_TILES = {64: (192, 128, 12), 128: (128, 128, 8), 192: (128, 96, 8), 256: (128, 64, 8)}


def forward_schedule(head_dim: int, more: str = "") -> str:
    """The table's schedule for `head_dim` on sm_90a with `more` in its plan."""
    rows, keys, warps = next(_TILES[size] for size in _TILES if head_dim <= size)
    return (
        f"#fa.schedule<tile_m = {rows}, tile_n = {keys}, plan = #tile.plan<"
        f'chip = "sm_90a", mma = "wgmma", copy = "tma", warps = {warps}, producers = 4, '
        f"stages = 2, overlap = true{', ' + more if more else ''}>, fixed_reference = true>"
    )
