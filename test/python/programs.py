"""Attention programs as MLIR text: features that the functions do not have yet."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass
class Program:
    """Text of a module with one function @attention.

    `arguments` are extra function arguments (name, type) between scale and o;
    the other fields are pieces of the op's syntax.
    """

    dtype: str = "f32"
    head_dim: int = 32
    head_dim_v: int | None = None
    layout: str = "bshd"  # or "bhsd"
    arguments: tuple[tuple[str, str], ...] = ()
    lengths: str = ""
    init_lse: str = ""
    captures: str = ""
    capture_maps: str = ""
    mask: str = ""  # sets, in full: "affine_set<(b, h, m, n)[lq, lk] : (...)>"; " ": none
    symbols: str = ""
    region_arguments: str = ""
    score: str = ""  # body of the region; the result is %r
    dead_lse: str = ""
    alignment: int = 1  # bytes, promised of q, k, v and o

    @property
    def acc(self):
        return "f64" if self.dtype == "f64" else "f32"

    def text(self) -> str:
        dv = self.head_dim_v or self.head_dim
        acc = self.acc
        strided = "strided<[?, ?, ?, 1], offset: ?>"
        qk = f"memref<?x?x?x{self.head_dim}x{self.dtype}, {strided}>"
        v = f"memref<?x?x?x{dv}x{self.dtype}, {strided}>"
        lse = f"memref<?x?x?x{acc}, strided<[?, ?, 1], offset: ?>>"
        order = {
            "bshd": ("b, m, h, d", "b, n, h floordiv g, d", "b, n, h floordiv g, e", "b, m, h, e"),
            "bhsd": ("b, h, m, d", "b, h floordiv g, n, d", "b, h floordiv g, n, e", "b, h, m, e"),
        }[self.layout]
        maps = ", ".join(
            f"affine_map<(b, h, m, n, d, e)[g] -> ({results})>" for results in (*order, "b, h, m")
        )
        arguments = [("q", qk), ("k", qk), ("v", v), ("scale", acc), *self.arguments]
        arguments += [("o", v), ("lse", lse)]
        attributes = [f"indexing_maps = [{maps}]"]
        if self.capture_maps:
            attributes.append(f"capture_maps = [{self.capture_maps}]")
        if self.dead_lse:
            attributes.append(f"dead_lse = {self.dead_lse} : f64")
        align = f" {{tile.align = {self.alignment} : i64}}" if self.alignment > 1 else ""
        parameters = (f"%{n}: {t}{align if n in list('qkvo') else ''}" for n, t in arguments)
        lines = [
            "func.func @attention(" + ", ".join(parameters) + ") {",
            f"  fa.attention ins(%q, %k, %v : {qk}, {qk}, {v})",
            f"      scale(%scale : {acc})",
        ]
        if self.lengths:
            lines.append(f"      lengths({self.lengths})")
        if self.init_lse:
            lines.append(f"      init_lse({self.init_lse} : {lse})")
        if self.captures:
            lines.append(f"      captures({self.captures})")
        if self.mask:
            lines.append(f"      mask <{self.mask}>")
        if self.symbols:
            lines.append(f"      symbols({self.symbols})")
        lines.append(f"      outs(%o, %lse : {v}, {lse}) {{{', '.join(attributes)}}}")
        if self.score:
            lines += [
                "      score {",
                f"      ^bb0(%s: {acc}, %b: index, %h: index, %m: index, %n: index"
                f"{self.region_arguments}):",
                self.score,
                f"        fa.yield %r : {acc}",
                "      }",
            ]
        return "\n".join([*lines, "  return", "}", ""])


LENGTHS = {
    "arguments": (("ql", "memref<?xi32>"), ("kl", "memref<?xi32>")),
    "lengths": "%ql, %kl : memref<?xi32>, memref<?xi32>",
}
CAUSAL = "affine_set<(b, h, m, n)[lq, lk] : (m + lk - lq - n >= 0)>"

_BIAS = "memref<?x?x?xf32, strided<[?, ?, ?], offset: ?>>"
BIAS = {
    "arguments": (("bias", _BIAS),),
    "captures": f"%bias : {_BIAS}",
    "capture_maps": "affine_map<(b, h, m, n) -> (h, m, n)>",
    "region_arguments": ", %x: f32",
    "score": "        %r = arith.addf %s, %x : f32",
}

_TABLE = "memref<?xf32, strided<[1], offset: ?>>"
RELATIVE = {
    # bias = table[m - n + 20], clamped into the table by fa.gather
    "arguments": (("table", _TABLE),),
    "captures": f"%table : {_TABLE}",
    "capture_maps": "unit",
    "region_arguments": f", %t: {_TABLE}",
    "score": f"""        %c = arith.constant 20 : index
        %d = arith.subi %m, %n : index
        %i = arith.addi %d, %c : index
        %x = fa.gather %t[%i] : {_TABLE} -> f32
        %r = arith.addf %s, %x : f32""",
}
