"""Command line: ahead-of-time compilation, tuning, information."""

from __future__ import annotations

import argparse
import json
import sys

from . import __version__, _arrays, _compiler, _fa, _header, _tune

_PARTS = ("mlir", "llvm", "ptx", "cubin", "object", "header", "report", "artifact")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python3 -m flash_attn_mlir",
        description="Compiles attention for a chip, on a machine with or without a GPU.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True)

    aot = commands.add_parser("aot", help="compile one attention kernel to a file")
    aot.add_argument("--chip", required=True, help=", ".join(_fa.chips()))
    aot.add_argument("--mlir", metavar="FILE", help="compile this MLIR text ('-': standard input)")
    aot.add_argument("--head-dim", type=int, metavar="N", help="head size of q and k, 1 to 256")
    aot.add_argument("--head-dim-v", type=int, metavar="N", help="head size of v (default: same)")
    aot.add_argument("--dtype", choices=list(_arrays.DTYPES), default="f16")
    aot.add_argument("--causal", action="store_true", help="causal mask, bottom right aligned")
    aot.add_argument("--window-left", action="store_true", help="left window, size at run time")
    aot.add_argument("--window-right", action="store_true", help="right window, size at run time")
    aot.add_argument("--softcap", action="store_true", help="soft cap, value at run time")
    aot.add_argument("--lengths", action="store_true", help="lengths per batch")
    aot.add_argument(
        "--alignment",
        type=int,
        choices=(16, 4, 1),
        default=16,
        help="bytes that divide the pointers and strides of q, k, v and o (default: 16)",
    )
    aot.add_argument("--backward", action="store_true", help="the gradients of that program")
    aot.add_argument(
        "--d-q-sum", action="store_true", help="--backward: d_q is summed in a workspace"
    )
    aot.add_argument("--d-lse", action="store_true", help="--backward: lse has a gradient")
    aot.add_argument(
        "--gradients", default="qkv", metavar="LETTERS", help="--backward: which (default: qkv)"
    )
    aot.add_argument("--schedule", metavar="ATTR", help="'#fa.schedule<...>' to use")
    aot.add_argument(
        "--schedules",
        metavar="FILE",
        help="table of schedules (default: what tune found on this machine; 'none': none)",
    )
    aot.add_argument(
        "--cpu", metavar="NAME", help="chip cpu: the processor, like x86-64-v3 (default: this one)"
    )
    aot.add_argument("--ptxas", metavar="PATH", help="ptxas to use")
    aot.add_argument("--no-cache", action="store_true", help="do not use the kernel cache")
    aot.add_argument("--dump", metavar="FOLDER", help="write what each step makes here")
    aot.add_argument("--emit", choices=_PARTS, required=True, help="what to write")
    aot.add_argument("-o", "--output", required=True, metavar="FILE", help="'-': standard output")

    _tune.add_parser(commands)
    commands.add_parser("info", help="print versions and devices as JSON")
    return parser


def _aot(args) -> None:
    specification = {
        "dtype": args.dtype,
        "head_dim": args.head_dim,
        "head_dim_v": args.head_dim_v,
        "causal": args.causal,
        "window_left": args.window_left,
        "window_right": args.window_right,
        "softcap": args.softcap,
        "lengths": args.lengths,
        "alignment": args.alignment,
        "backward": args.backward,
        "d_lse": args.d_lse,
        "gradients": args.gradients,
        "d_q_sum": args.d_q_sum,
    }
    if args.mlir is not None:
        if args.head_dim is not None:
            raise ValueError("--mlir and --head-dim exclude each other")
        if args.mlir == "-":
            text = sys.stdin.read()
        else:
            with open(args.mlir, encoding="utf-8") as file:
                text = file.read()
    elif args.head_dim is None:
        raise ValueError("--head-dim N (1 to 256) or --mlir FILE is needed")
    else:
        text = _compiler.build(**specification)

    if args.emit == "mlir":
        data = text.encode()
    else:
        # ptxas is only needed for what comes after PTX.
        stop_after = args.emit if args.emit in ("llvm", "ptx") and args.chip != "cpu" else None
        kernel = _compiler.compile(
            mlir=text,
            chip=args.chip,
            schedule=args.schedule,
            schedules=False if args.schedules == "none" else args.schedules,
            cpu=args.cpu,
            ptxas=args.ptxas,
            cache=False if args.no_cache else None,
            dump=args.dump,
            stop_after=stop_after,
        )
        if args.emit == "artifact":
            if args.output == "-":
                raise ValueError("--emit artifact needs -o FILE")
            kernel.save(args.output)
            return
        if args.emit == "header":
            if args.chip != "cpu":
                raise ValueError(f"--emit header: {args.chip} has none; allowed: cpu")
            data = _header.write(kernel.metadata, "@llvm.x86.ldtilecfg" in kernel.llvm_ir).encode()
        else:
            part = {"llvm": "llvm_ir", "report": "explanation"}.get(args.emit, args.emit)
            data = kernel._artifact.part(part)
        if data is None:
            allowed = ", ".join(
                ("mlir, llvm, report", "object, header" if args.chip == "cpu" else "ptx, cubin")
            )
            raise ValueError(f"--emit {args.emit}: {args.chip} has none; allowed: {allowed}")
    if args.output == "-":
        sys.stdout.buffer.write(data)
    else:
        with open(args.output, "wb") as file:
            file.write(data)


def _info() -> None:
    devices = []
    for index in range(_fa.device_count()):
        major, minor = _fa.device_capability(index)
        devices.append({"index": index, "capability": f"{major}.{minor}"})
    info = {
        "version": __version__,
        "llvm": _fa.llvm_version(),
        "threads": _fa.get_num_threads(),
        "chips": _fa.chips(),
        "devices": devices,
    }
    print(json.dumps(info, indent=2))


def main(argv=None) -> int:
    parser = _parser()
    args = parser.parse_args(argv)
    try:
        if args.command == "aot":
            _aot(args)
        elif args.command == "tune":
            return _tune.run(args)
        else:
            _info()
    except (ValueError, TypeError, NotImplementedError, RuntimeError, OSError) as error:
        print(f"{parser.prog}: error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
