"""Compiling: a specification or MLIR text becomes a `Kernel`."""

from __future__ import annotations

import json
import math
import operator
import os
import sys

from . import _arrays, _fa

_SCALARS = {"f32": "f", "f64": "d", "index": "x", "i32": "i"}


class _Argument:
    """One argument of a kernel, from the artifact's metadata.

    libfa checks ranks, extents, strides and alignment; it does not see the
    element type of an array, so that is checked here.
    """

    def __init__(self, index: int, entry: dict):
        self.dtype = entry["dtype"]
        self.is_array = "sizes" in entry
        self.kind = "m" if self.is_array else _SCALARS[self.dtype]
        self.name = f"argument {index}" + (f" ({entry['name']})" if "name" in entry else "")
        sizes = ["?" if size is None else str(size) for size in entry.get("sizes", [])]
        self.text = f"{entry.get('name', index)}: " + "x".join([*sizes, self.dtype])

    def check(self, view) -> None:
        if view.dtype != self.dtype:
            raise TypeError(
                f"{self.name}: dtype {_arrays.long_name(view.dtype)} is not allowed; allowed: "
                f"{_arrays.long_name(self.dtype)}"
            )


class Kernel:
    """A compiled program.

    Calling it runs it: positional arguments in the order of the function's
    arguments, arrays written in place, nothing returned. On a CUDA device it
    enqueues on the current stream of PyTorch (or on `stream`) and does not wait.
    """

    def __init__(self, artifact):
        self._artifact = artifact
        self._metadata = json.loads(artifact.part("metadata"))
        self._arguments = [
            _Argument(index, entry) for index, entry in enumerate(self._metadata["args"])
        ]
        self._kinds = "".join(argument.kind for argument in self._arguments)

    def _text(self, part):
        data = self._artifact.part(part)
        return None if data is None else data.decode()

    @property
    def mlir(self):
        """The MLIR text that was compiled."""
        return self._text("mlir")

    @property
    def llvm_ir(self):
        return self._text("llvm_ir")

    @property
    def ptx(self):
        return self._text("ptx")

    @property
    def cubin(self):
        return self._artifact.part("cubin")

    @property
    def object(self):
        """The object file of a CPU kernel."""
        return self._artifact.part("object")

    @property
    def ptxas_log(self):
        return self._text("ptxas_log")

    @property
    def report(self) -> dict:
        """What was decided: the plan of each launch and what it uses of the chip (with ptxas:
        registers, spills, occupancy), and the remarks of all passes."""
        return json.loads(self._text("report"))

    def explain(self) -> str:
        """The report for reading: a line per launch and remark."""
        return self._text("explanation")

    @property
    def metadata(self) -> dict:
        return self._metadata

    @property
    def chip(self):
        return self._metadata.get("chip")

    def save(self, path) -> None:
        """Writes a self-contained file that `load` reads."""
        self._artifact.save(str(path))

    @staticmethod
    def load(path) -> Kernel:
        return Kernel(_fa.load(str(path)))

    def __repr__(self):
        return f"<flash_attn_mlir.Kernel for {self.chip}: {len(self._arguments)} arguments>"

    def __call__(self, *args, stream: int | None = None) -> None:
        if len(args) != len(self._arguments):
            raise TypeError(
                f"the kernel takes {len(self._arguments)} arguments "
                f"({', '.join(a.text for a in self._arguments)}), not {len(args)}"
            )
        device = None
        values = []
        lib = None
        for argument, value in zip(self._arguments, args):
            name = argument.name
            if not argument.is_array:
                try:
                    convert = float if argument.kind in "fd" else operator.index
                    values.append(convert(value))
                except (TypeError, ValueError):
                    raise TypeError(
                        f"{name}: {value!r} is not allowed; allowed: a number ({argument.dtype})"
                    ) from None
                continue
            lib = _arrays.library(name, value)
            view = _arrays.view(name, value, lib)
            argument.check(view)
            here = (view.device_type, view.device_id)
            if device is None:
                device = here
            elif device != here:
                raise ValueError(f"{name}: all arrays must be on one device")
            values.append(view)
        on_cuda = device is not None and device[0] == _arrays.CUDA
        if on_cuda != (self.chip != "cpu"):
            where = "a CUDA device" if on_cuda else "the CPU"
            chip = default_chip(device[1]) if on_cuda else "cpu"
            raise ValueError(
                f"a kernel for {self.chip} can't take arrays on {where}; compile with "
                f'chip="{chip}"'
            )
        index = device[1] if on_cuda else 0
        if stream is None:
            stream = lib.current_stream(index) if on_cuda else 0
        self._artifact.launch(values, self._kinds, index, stream)


def load(path) -> Kernel:
    """Reads a kernel that `Kernel.save` wrote."""
    return Kernel.load(path)


def default_chip(device: int | None = None) -> str:
    """The chip of a CUDA device, or of device 0 if there is one, else "cpu"."""
    if device is None:
        if _fa.device_count() == 0:
            return "cpu"
        device = 0
    major, minor = _fa.device_capability(device)
    chip = _fa.chip_of_capability(major, minor)
    if chip is None:
        volta = "; 7.0 and 7.2 (Volta) are planned" if major == 7 else ""
        raise NotImplementedError(
            f"CUDA device {device} has compute capability {major}.{minor}; "
            f'supported: 7.5 (Turing) and newer{volta}, or chip="cpu"'
        )
    return chip


def build(
    *,
    dtype: str = "f16",
    head_dim: int,
    head_dim_v: int | None = None,
    causal: bool = False,
    window_left: bool = False,
    window_right: bool = False,
    softcap: bool = False,
    lengths: bool = False,
    init_lse: bool = False,
    dead_lse: float = -math.inf,
    alignment: int = 16,
    negative_scale: bool = False,
    backward: bool = False,
    d_lse: bool = False,
    gradients: str = "qkv",
    d_q_sum: bool = False,
    query_rows: int = 0,
    partials: bool = False,
    pack_heads: bool = False,
) -> str:
    """The MLIR text of one attention program."""
    if dtype not in _arrays.DTYPES:
        raise ValueError(f"dtype {dtype!r} is not supported; allowed: {', '.join(_arrays.DTYPES)}")
    head_dim_v = head_dim if head_dim_v is None else head_dim_v
    for name, value in (("head_dim", head_dim), ("head_dim_v", head_dim_v)):
        if not 1 <= operator.index(value) <= 256:
            raise ValueError(f"{name} {value} is not supported; allowed: 1 to 256")
    if operator.index(alignment) not in (16, 4, 1):
        raise ValueError(f"alignment {alignment} is not supported; allowed: 16, 4 or 1 (bytes)")
    if not isinstance(gradients, str) or not gradients or set(gradients) - set("qkv"):
        raise ValueError(f"gradients {gradients!r} is not supported; allowed: letters of 'qkv'")
    if not backward and (d_lse or gradients != "qkv" or d_q_sum):
        raise ValueError("d_lse, gradients and d_q_sum are options of backward=True")
    if operator.index(query_rows) not in (0, 1, 16, 4096):
        raise ValueError(
            f"query_rows {query_rows} is not supported; allowed: 0 (any number), 1, 16 (any "
            "number, but few), or 4096 (any number, but short sequences)"
        )
    if pack_heads and query_rows != 16:
        raise ValueError(
            f"pack_heads with query_rows {query_rows} is not supported; allowed: with 16 (with 1 "
            "heads are always packed)"
        )
    if backward and (query_rows or partials):
        raise ValueError("query_rows and partials are no options of backward=True")
    return _fa.build_attention(
        _arrays.DTYPES[dtype],
        head_dim,
        head_dim_v,
        causal,
        window_left,
        window_right,
        softcap,
        lengths,
        init_lse,
        dead_lse,
        alignment,
        negative_scale,
        sum(1 << "qkv".index(letter) for letter in set(gradients)) if backward else 0,
        d_lse,
        d_q_sum,
        query_rows,
        partials,
        pack_heads,
    )


def compile(
    *,
    mlir: str | None = None,
    chip: str | None = None,
    schedule: str | None = None,
    schedules: str | bool | os.PathLike | None = None,
    cpu: str | None = None,
    ptxas: str | bool | None = None,
    cache: str | bool | None = None,
    dump: str | os.PathLike | None = None,
    stop_after: str | None = None,
    **specification,
) -> Kernel:
    """Compiles an attention program and returns its `Kernel`.

    Either `mlir`, the text of a module with one public function that holds an
    `fa.attention` or `fa.attention_backward` (or a tile program), or a
    specification:

        dtype ("f16", "bf16", "f32", "f64"), head_dim, head_dim_v, causal,
        window_left, window_right, softcap, lengths, init_lse: which features the
            program has (sizes of windows and caps are run-time values)
        dead_lse: lse of a row without a live key
        alignment: bytes that divide the pointers and strides of q, k, v and o: 16, 4
            or, when nothing is promised, 1
        negative_scale: the scale may be negative (else a launch refuses it)
        query_rows: 1: each sequence has one query (decoding), and the query heads that
            share a key head share a tile; 16 and 4096: any number, but fast for at most
            16, or for short sequences: at most 4096 queries and keys, 1024 at head sizes
            above 64, 2048 above 144
        pack_heads: with query_rows=16, the query heads that share a key head share
            tiles, at as many queries as 16 rows hold
        partials: parts of the keys are computed at the same time, in workspaces

        backward: the gradients of that program; then also
        d_lse: lse has a gradient, gradients: letters of "qkv", which are wanted
        d_q_sum: d_q is summed in a workspace, in an order that is not fixed; wants
            gradients of q and of k or v. Faster on GPUs, not deterministic

    The kernel then takes: q, k, v (B, S, H, D), scale, [q_lengths, k_lengths],
    [init_lse], [softcap], [window_left], [window_right], o, lse (B, H, Sq), or
    (B, H, 0) where it is not wanted (no query_rows=1, partials or pack_heads),
    [o_parts (P, B, Sq, H, D), lse_parts (P, B, H, Sq)] (workspaces in the type of lse
    for P parts of the keys; P > 0 is up to the caller);
    with backward: q, k, v, o, lse, d_o, [d_lse], scale, [q_lengths, k_lengths],
    [softcap], [window_left], [window_right], delta (a workspace like lse), [d_q_sum]
    (a workspace of lse's type and q's shape, with Sq rounded up to a multiple of 8 and
    D to one of 16; consecutive rows of a head are neighbours in memory), [d_q],
    [d_k], [d_v].

    `chip` is "cpu", "sm_75", "sm_80", "sm_86", "sm_89" or "sm_90a" (default: that
    of this machine's device, else "cpu"); `schedule` the text of a
    `#fa.schedule`, or of `#fa.schedules`, a table; `schedules` a file with a table
    (default: what `python3 -m flash_attn_mlir tune` found on this machine), or False
    for those of the library alone; `cpu` the processor of chip "cpu" as LLVM names it ("x86-64-v3";
    default: this machine's); `ptxas` its path, or False to leave the PTX to the driver;
    `cache` a folder, or False for none; `stop_after` "llvm" or "ptx". No GPU is needed
    to compile for one.

    `dump` is a folder for everything on the way: passes/NN-flag.mlir (the module after
    each pass), program.mlir, .ll, .ptx, .cubin, .sass (with nvdisasm or cuobjdump in
    PATH) or .o, optimized.ll, ptxas.log, metadata.json and the report. The environment
    variable FA_DUMP asks for the same of every program that is compiled, in folders of
    its own below it. A program that is dumped is compiled, whatever the cache has.
    """
    if mlir is None:
        if "head_dim" not in specification:
            raise TypeError("compile() needs mlir= or head_dim=")
        mlir = build(**specification)
    elif specification:
        raise TypeError(f"compile(mlir=...) takes no {', '.join(specification)}")
    # Python's folders are searched for the ptxas of NVIDIA's and Triton's wheels.
    folders = [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
    options = {
        "schedule": schedule,
        "schedules": os.fspath(schedules) if isinstance(schedules, os.PathLike) else schedules,
        "cpu": cpu,
        "site_packages": folders or None,
        "ptxas": ptxas,
        "cache": cache,
        "dump": None if dump is None else os.fspath(dump),
        "stop_after": stop_after,
    }
    options = {name: value for name, value in options.items() if value is not None}
    for name in ("cache", "ptxas", "schedules"):
        if options.get(name) is True:
            del options[name]
    return Kernel(_fa.compile(mlir, chip or default_chip(), json.dumps(options)))
