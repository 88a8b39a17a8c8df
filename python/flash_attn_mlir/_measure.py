"""Running and timing kernels of one problem: data, a reference, rounds."""

from __future__ import annotations

import importlib
import math
import statistics
import time

from . import _arrays

# The largest relative L2 error of a result: a few units of its type's rounding.
BOUNDS = {"f16": 2e-3, "bf16": 1.2e-2, "f32": 1e-5, "f64": 1e-12}


def _module(name: str, why: str):
    try:
        return importlib.import_module(name)
    except ImportError:
        raise RuntimeError(f"tune needs {name} {why}; install it") from None


class Data:
    """The arrays of a problem, on one device; drawn anew by `draw`."""

    def __init__(self, problem, on_gpu: bool):
        self.problem = p = problem
        self.numpy = _module("numpy", "for its reference")
        self.torch = None
        if on_gpu or p.dtype == "bf16":
            self.torch = _module("torch", "for data on a GPU and of type bf16")
        self.device = "cuda" if on_gpu else "cpu"
        real = "f64" if p.dtype == "f64" else "f32"
        q, k = (p.batch, p.seqlen, p.heads), (p.batch, p.seqlen_k, p.kv_heads)
        shapes = {
            **{"q": (*q, p.head_dim), "k": (*k, p.head_dim), "v": (*k, p.head_dim)},
            **{"o": (*q, p.head_dim), "d_o": (*q, p.head_dim)},
            **{"d_q": (*q, p.head_dim), "d_k": (*k, p.head_dim), "d_v": (*k, p.head_dim)},
        }
        rows = (p.batch, p.heads, p.seqlen)
        workspaces = {"lse": rows, "delta": rows, "lse_parts": (p.parts, *rows)}
        workspaces["o_parts"] = (p.parts, *shapes["o"])
        padded = (p.batch, p.heads, -(-p.seqlen // 8) * 8, -(-p.head_dim // 16) * 16)
        workspaces["d_q_sum"] = padded
        if not p.backward:
            shapes = {name: shapes[name] for name in ("q", "k", "v", "o")}
            del workspaces["delta"], workspaces["d_q_sum"]
        self.arrays = {name: self._empty(shape, p.dtype) for name, shape in shapes.items()}
        self.arrays |= {name: self._empty(shape, real) for name, shape in workspaces.items()}
        if "d_q_sum" in self.arrays:
            self.arrays["d_q_sum"] = self.arrays["d_q_sum"].swapaxes(1, 2)
        self.scalars = {
            "scale": p.scale,
            "softcap": p.softcap,
            "window_left": p.window_left,
            "window_right": p.window_right,
        }
        self.lib = _arrays.library("q", self.arrays["q"])
        self.generator = None if self.torch else self.numpy.random.default_rng()

    def _empty(self, shape, dtype):
        if self.torch is None:
            return self.numpy.full(shape, math.nan, _arrays.long_name(dtype))
        dtype = getattr(self.torch, _arrays.long_name(dtype))
        return self.torch.full(shape, math.nan, dtype=dtype, device=self.device)

    def draw(self):
        """Fresh inputs."""
        for name in ("q", "k", "v", "d_o"):
            array = self.arrays.get(name)
            if array is None:
                continue
            if self.torch is None:
                array[...] = self.generator.standard_normal(array.shape, "float32")
            else:
                array.normal_()

    def arguments(self, kernel) -> list:
        """Arrays and numbers in the order of the kernel's arguments."""
        names = [argument["name"] for argument in kernel.metadata["args"]]
        return [self.arrays[name] if name in self.arrays else self.scalars[name] for name in names]

    def call(self, kernel):
        """() -> None: a launch of `kernel` on these arrays with the least work of the host."""
        views = {name: self.lib.view(array) for name, array in self.arrays.items()}
        names = [argument["name"] for argument in kernel.metadata["args"]]
        values = [views[name] if name in views else self.scalars[name] for name in names]
        artifact, kinds = kernel._artifact, kernel._kinds
        stream = self.lib.current_stream(0) if self.device == "cuda" else 0
        return lambda: artifact.launch(values, kinds, 0, stream)

    def wait(self, seconds: float = 20.0):
        """Until the device has done its work; a kernel that does not end is an error."""
        if self.device != "cuda":
            return
        event = self.torch.cuda.Event()
        event.record()
        end = time.monotonic() + seconds
        while not event.query():
            if time.monotonic() > end:
                raise RuntimeError(f"it has not ended after {seconds:.0f} s")
            time.sleep(0.001)

    def poison(self):
        """Results are NaN until a kernel writes them."""
        for name in self.results:
            if self.torch is None:
                self.arrays[name].fill(math.nan)
            else:
                self.arrays[name].fill_(math.nan)

    @property
    def results(self):
        return ("d_q", "d_k", "d_v") if self.problem.backward else ("o",)

    def head(self, name):
        """What the first batch and the first head of keys take part in, in float64."""
        array = self.arrays[name][0]
        heads = 1 if name in ("k", "v", "d_k", "d_v") else self.problem.group
        array = array[:, :heads]
        if self.torch is not None:
            array = array.detach().cpu().double().numpy()
        return array.astype(self.numpy.float64)

    def error(self, expected: dict) -> float:
        """The largest relative L2 error of the results; NaN counts as infinite."""
        norm = self.numpy.linalg.norm
        errors = []
        for name in self.results:
            difference = norm(self.head(name) - expected[name])
            errors.append(difference / max(norm(expected[name]), 1e-30))
        return max((math.inf if math.isnan(x) else float(x)) for x in errors)


def reference(data: Data) -> dict:
    """Results of one head of keys in float64 NumPy, from the definition."""
    numpy, p = data.numpy, data.problem
    q, k, v = (data.head(name) for name in "qkv")
    do = data.head("d_o") if p.backward else None
    results = {name: numpy.zeros(data.head(name).shape) for name in data.results}
    k, v = k[:, 0], v[:, 0]
    n = numpy.arange(p.seqlen_k)[None, :]
    for h in range(p.group):
        for m0 in range(0, p.seqlen, 512):  # no more scores than this at once
            rows = slice(m0, min(m0 + 512, p.seqlen))
            s = p.scale * (q[rows, h] @ k.T)
            slope = 1.0
            if p.softcap > 0:
                bent = numpy.tanh(s / p.softcap)
                s, slope = p.softcap * bent, 1 - bent**2
            m = numpy.arange(rows.start, rows.stop)[:, None] + p.seqlen_k - p.seqlen
            live = numpy.ones(s.shape, bool)
            if p.window_left >= 0:
                live &= n >= m - p.window_left
            if p.causal or p.window_right >= 0:
                live &= n <= m + (0 if p.causal else p.window_right)
            s = numpy.where(live, s, -math.inf)
            top = s.max(axis=1, keepdims=True)
            e = numpy.exp(s - numpy.where(top == -math.inf, 0.0, top))
            total = e.sum(axis=1, keepdims=True)
            prob = e / numpy.where(total == 0, 1.0, total)
            o = prob @ v
            if not p.backward:
                results["o"][rows, h] = o
                continue
            d_o = do[rows, h]
            delta = (d_o * o).sum(axis=1, keepdims=True)
            ds = prob * (d_o @ v.T - delta) * slope
            results["d_q"][rows, h] = p.scale * (ds @ k)
            results["d_k"][:, 0] += p.scale * (ds.T @ q[rows, h])
            results["d_v"][:, 0] += prob.T @ d_o
    return results


class Timer:
    """Milliseconds of calls, each with a cold L2 cache on a GPU."""

    def __init__(self, data: Data):
        self.torch = data.torch if data.device == "cuda" else None
        if self.torch:
            self.flush = self.torch.empty(256 << 20, dtype=self.torch.int8, device="cuda")

    def time(self, call, count: int) -> float:
        """The median of `count` calls."""
        if self.torch is None:
            times = []
            for _ in range(count):
                start = time.perf_counter()
                call()
                times.append((time.perf_counter() - start) * 1e3)
            return statistics.median(times)
        events = [
            [self.torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in range(count)
        ]
        for start, end in events:
            self.flush.zero_()
            start.record()
            call()
            end.record()
        self.torch.cuda.synchronize()
        return statistics.median(start.elapsed_time(end) for start, end in events)
