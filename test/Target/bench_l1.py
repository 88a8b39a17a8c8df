"""Speed of the sample L1 attention program beside PyTorch's, f32."""

import os
import sys
import threading
import time

import numpy as np

sys.path.insert(0, os.path.dirname(__file__))
from hostcode import compile_text, words

SAMPLE = os.path.join(os.path.dirname(__file__), "../Dialect/Tile/l1-attention.mlir")


def run(function, packed, points, threads):
    if threads == 1:
        function(packed.ctypes.data, 0, points)
        return
    next_point = iter(range(points))
    lock = threading.Lock()

    def work():
        while True:
            with lock:
                p = next(next_point, None)
            if p is None:
                return
            function(packed.ctypes.data, p, p + 1)

    pool = [threading.Thread(target=work) for _ in range(threads)]
    for t in pool:
        t.start()
    for t in pool:
        t.join()


def main():
    import torch
    threads = int(os.environ.get("THREADS", 2))
    torch.set_num_threads(threads)
    text = open(sys.argv[1] if len(sys.argv) > 1 else SAMPLE).read().replace("xf16", "xf32")
    text = text.replace("%ph = arith.truncf %p : tensor<128x64xf32> to tensor<128x64xf32>", "")
    text = text.replace("%oh = arith.truncf %of : tensor<128x64xf32> to tensor<128x64xf32>", "")
    text = text.replace("%ph", "%p").replace("%oh", "%of")
    function = compile_text(text)
    for s in (1024, 2048, 4096):
        b, h, d = 1, 4, 64
        rng = np.random.default_rng(s)
        q, k, v = (rng.standard_normal((b, s, h, d)).astype(np.float32) for _ in range(3))
        o = np.full_like(q, np.nan)
        lse = np.full((b, h, s), np.nan, np.float32)
        packed = words(q, k, v, np.float32(d ** -0.5), o, lse)
        points = b * h * -(-s // 128)
        tq, tk, tv = (torch.from_numpy(x).transpose(1, 2) for x in (q, k, v))
        run(function, packed, points, threads)
        ref = torch.nn.functional.scaled_dot_product_attention(tq.double(), tk.double(), tv.double())
        err = (torch.from_numpy(o).transpose(1, 2).double() - ref).norm() / ref.norm()
        ratios, mine, theirs = [], [], []
        for _ in range(9):
            t0 = time.perf_counter()
            run(function, packed, points, threads)
            t1 = time.perf_counter()
            torch.nn.functional.scaled_dot_product_attention(tq, tk, tv)
            t2 = time.perf_counter()
            mine.append(t1 - t0)
            theirs.append(t2 - t1)
            ratios.append((t2 - t1) / (t1 - t0))
        gf = 4 * b * h * s * s * d / 1e9
        print(f"S={s} rel.err {err:.2e} ours {gf/np.median(mine):.1f} GFLOP/s "
              f"torch {gf/np.median(theirs):.1f} ratio {np.median(ratios):.2f}")


main()
