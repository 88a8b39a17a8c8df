"""Schedules that the table does not choose, for tests of what they may say."""

from __future__ import annotations

# Rows and keys of a tile, warps that compute and stages of the forward on sm_90a by head size.
_TILES = {64: (192, 128, 12, 4), 128: (128, 128, 8, 2), 192: (128, 96, 8, 2), 256: (128, 64, 8, 2)}


def forward_schedule(head_dim: int, persistent: bool) -> str:
    """The table's schedule for `head_dim` on sm_90a, persistent or not."""
    rows, keys, warps, stages = next(_TILES[size] for size in _TILES if head_dim <= size)
    launch = ", persistent = true, bulk_stores = true" if persistent else ""
    return (
        f"#fa.schedule<tile_m = {rows}, tile_n = {keys}, plan = #tile.plan<"
        f'chip = "sm_90a", mma = "wgmma", copy = "tma", warps = {warps}, producers = 4, '
        f"stages = {stages}, overlap = true{launch}>, "
        "fixed_reference = true, partial_sums = true>"
    )
