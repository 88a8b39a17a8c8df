"""A ptxas that puts random sleeps before barriers, copies and products: delays.py SEED PTXAS ..."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

# Instructions on which other warps wait, or that wait for them.
PLACES = re.compile(
    r"^(?=(?:@\S+ )?\s*(?:mbarrier\.(?:try_wait|arrive)|bar\.(?:sync|arrive)|wgmma\.fence"
    r"|cp\.async\.(?:bulk\.tensor|wait_group)))",
    re.MULTILINE,
)
# One warp in four sleeps, for up to 1,023 ns; its clock says which and how long.
SLEEP = """{{
.reg .pred q;
.reg .b32 t, w;
mov.u32 t, %clock;
mov.u32 w, %tid.x;
shr.u32 w, w, 5;
mad.lo.u32 t, w, 40503, t;
mad.lo.u32 t, t, 2654435761, {seed};
shr.u32 w, t, 30;
setp.eq.u32 q, w, 0;
shr.u32 t, t, 20;
and.b32 t, t, 1023;
@q nanosleep.u32 t;
}}
"""


def delayed(ptx: str, seed: int) -> str:
    return PLACES.sub(SLEEP.format(seed=seed), ptx)


def main():
    seed, ptxas, *arguments = sys.argv[1:]
    (source,) = (Path(a) for a in arguments if a.endswith(".ptx"))
    source.write_text(delayed(source.read_text(), int(seed)))
    os.execv(ptxas, [ptxas, *arguments])


if __name__ == "__main__":
    main()
