"""Attention forward on the host beside PyTorch's, f32; figures per core with
CPU_TIME=1 THREADS=1 (robust on a busy machine).

    bench_attention.py [tile_m tile_n]
"""

import functools
import os
import sys
import threading
import time

import numpy as np
import torch

sys.path.insert(0, os.path.dirname(__file__))
from hostcode import attention_text, compile_text, words

CLOCK = time.process_time if os.environ.get("CPU_TIME") else time.perf_counter
THREADS = int(os.environ.get("THREADS", 2))


def run(function, packed, points):
    if THREADS == 1:
        function(packed.ctypes.data, 0, points)
        return
    order = iter(reversed(range(points)))
    lock = threading.Lock()

    def work():
        while True:
            with lock:
                p = next(order, None)
            if p is None:
                return
            function(packed.ctypes.data, p, p + 1)

    pool = [threading.Thread(target=work) for _ in range(THREADS)]
    for t in pool:
        t.start()
    for t in pool:
        t.join()


def main():
    torch.set_num_threads(THREADS)
    tile = [int(x) for x in sys.argv[1:3]] or [64, 128]
    schedule = (
        f'#fa.schedule<tile_m={tile[0]}, tile_n={tile[1]}, plan=<chip="cpu", '
        'mma="vector", copy="direct", warps=1, producers=0, stages=1>>'
    )
    dtype = getattr(torch, os.environ.get("DTYPE", "float32"))
    name = {"float32": "f32", "float16": "f16", "bfloat16": "bf16"}[str(dtype)[6:]]
    d = int(os.environ.get("D", 64))
    for causal in (0, 1):
        t0 = time.perf_counter()
        function = compile_text(attention_text(name, d, causal), "fa-lower-to-cpu", schedule)
        print(
            f"causal {causal} tiles {tile}: compiled in {time.perf_counter() - t0:.2f} s by processes"
        )
        for s in (1024, 2048, 4096):
            b, h = 1, 4
            torch.manual_seed(s)
            q, k, v = (torch.randn(b, s, h, d).to(dtype) for _ in range(3))
            o = torch.full_like(q, torch.nan)
            lse = torch.full((b, h, s), torch.nan)
            packed = words(q, k, v, np.float32(d**-0.5), o, lse)
            points = b * h * -(-s // tile[0])
            tq, tk, tv = (x.transpose(1, 2).contiguous() for x in (q, k, v))
            sdpa = functools.partial(
                torch.nn.functional.scaled_dot_product_attention, is_causal=bool(causal)
            )
            run(function, packed, points)
            ref = sdpa(tq.double(), tk.double(), tv.double())
            err = (o.transpose(1, 2).double() - ref).norm() / ref.norm()
            err2 = (sdpa(tq, tk, tv).double() - ref).norm() / ref.norm()
            ratios, mine, theirs = [], [], []
            for _ in range(7):
                t0 = CLOCK()
                run(function, packed, points)
                t1 = CLOCK()
                sdpa(tq, tk, tv)
                t2 = CLOCK()
                mine.append(t1 - t0)
                theirs.append(t2 - t1)
                ratios.append((t2 - t1) / (t1 - t0))
            gf = 4 * b * h * s * s * d / 1e9 / (1 + causal)
            print(
                f"  S={s} err {err:.1e} torch's {err2:.1e} ours {gf / np.median(mine):.1f} "
                f"torch {gf / np.median(theirs):.1f} GFLOP/s ratio {np.median(ratios):.2f}"
            )


main()
