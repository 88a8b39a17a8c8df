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
    partials: bool = False  # more arguments: o_parts and lse_parts, like o and lse

    @property
    def acc(self):
        return "f64" if self.dtype == "f64" else "f32"

    @property
    def types(self):
        """The types of q and k, of v and o, of lse."""
        strided = "strided<[?, ?, ?, 1], offset: ?>"
        qk, v = (
            f"memref<?x?x?x{d}x{self.dtype}, {strided}>"
            for d in (self.head_dim, self.head_dim_v or self.head_dim)
        )
        return qk, v, f"memref<?x?x?x{self.acc}, strided<[?, ?, 1], offset: ?>>"

    @property
    def attributes(self):
        order = {
            "bshd": ("b, m, h, d", "b, n, h floordiv g, d", "b, n, h floordiv g, e", "b, m, h, e"),
            "bhsd": ("b, h, m, d", "b, h floordiv g, n, d", "b, h floordiv g, n, e", "b, h, m, e"),
        }[self.layout]
        maps = ", ".join(
            f"affine_map<(b, h, m, n, d, e)[g] -> ({results})>" for results in (*order, "b, h, m")
        )
        attributes = [f"indexing_maps = [{maps}]"]
        if self.capture_maps:
            attributes.append(f"capture_maps = [{self.capture_maps}]")
        return attributes

    @property
    def problem(self):
        """Lines for the lengths; lines for captures, mask and symbols."""
        lengths, lines = [], []
        if self.lengths:
            lengths.append(f"      lengths({self.lengths})")
        if self.captures:
            lines.append(f"      captures({self.captures})")
        if self.mask:
            lines.append(f"      mask <{self.mask}>")
        if self.symbols:
            lines.append(f"      symbols({self.symbols})")
        return lengths, lines

    @property
    def region(self):
        if not self.score:
            return []
        return [
            "      score {",
            f"      ^bb0(%s: {self.acc}, %b: index, %h: index, %m: index, %n: index"
            f"{self.region_arguments}):",
            self.score,
            f"        fa.yield %r : {self.acc}",
            "      }",
        ]

    def text(self) -> str:
        acc = self.acc
        qk, v, lse = self.types
        arguments = [("q", qk), ("k", qk), ("v", v), ("scale", acc), *self.arguments]
        arguments += [("o", v), ("lse", lse)]
        partials = []
        if self.partials:
            o_parts = v.replace("<?x", "<?x?x").replace(f"x{self.dtype},", f"x{acc},")
            types = [x.replace("<[?, ", "<[?, ?, ") for x in (o_parts, lse.replace("<?x", "<?x?x"))]
            arguments += zip(("o_parts", "lse_parts"), types)
            partials = [f"      partials(%o_parts, %lse_parts : {', '.join(types)})"]
        attributes = self.attributes
        if self.dead_lse:
            attributes.append(f"dead_lse = {self.dead_lse} : f64")
        align = f" {{tile.align = {self.alignment} : i64}}" if self.alignment > 1 else ""
        parameters = (f"%{n}: {t}{align if n in list('qkvo') else ''}" for n, t in arguments)
        lines = [
            "func.func @attention(" + ", ".join(parameters) + ") {",
            f"  fa.attention ins(%q, %k, %v : {qk}, {qk}, {v})",
            f"      scale(%scale : {acc})",
        ]
        lengths, rest = self.problem
        lines += lengths
        if self.init_lse:
            lines.append(f"      init_lse({self.init_lse} : {lse})")
        lines += rest
        lines.append(f"      outs(%o, %lse : {v}, {lse})")
        lines += partials
        lines.append(f"      {{{', '.join(attributes)}}}")
        lines += self.region
        return "\n".join([*lines, "  return", "}", ""])


@dataclasses.dataclass
class Backward:
    """Text of a module with one function @attention that computes gradients.

    Its arguments: q, k, v, lse, d_o, o (unless delta_known), d_lse (if any),
    scale, those of the program, delta, d_q_sum (if any), the gradients, those of
    captures.
    """

    program: Program
    gradients: str = "qkv"
    d_lse: bool = False
    delta_known: bool = False
    d_q_sum: bool = False
    # Position and rank of each capture that has a gradient.
    capture_grads: tuple[tuple[int, int], ...] = ()

    def text(self) -> str:
        program, acc = self.program, self.program.acc
        qk, v, lse = program.types
        ins = [("q", qk), ("k", qk), ("v", v), ("lse", lse), ("d_o", v)]
        pieces = [] if self.delta_known else [("o", v)]
        pieces += [("d_lse", lse)] if self.d_lse else []
        outs = [("delta", lse)]
        if self.d_q_sum:
            columns = -(-program.head_dim // 16) * 16
            own, filled = f"x{program.head_dim}x{program.dtype},", f"x{columns}x{acc},"
            assert own in qk
            outs.append(("d_q_sum", qk.replace(own, filled)))
        outs += [(f"d_{x}", {"q": qk, "k": qk, "v": v}[x]) for x in self.gradients]
        captures = []
        for number, rank in self.capture_grads:
            layout = f", strided<[{', '.join('?' * rank)}], offset: ?>" if rank else ""
            captures.append((f"dc{number}", f"memref<{'?x' * rank}{acc}{layout}>"))
        arguments = [*ins, *pieces, ("scale", acc), *program.arguments, *outs, *captures]
        lengths, rest = program.problem
        attributes = program.attributes + (["delta_known"] if self.delta_known else [])
        if captures:
            numbers = ", ".join(str(number) for number, _ in self.capture_grads)
            attributes.append(f"capture_grads = array<i64: {numbers}>")

        def operands(pairs):
            names, types = zip(*pairs, strict=True)
            return f"{', '.join(f'%{n}' for n in names)} : {', '.join(types)}"

        lines = [
            f"func.func @attention({', '.join(f'%{n}: {t}' for n, t in arguments)}) {{",
            f"  fa.attention_backward ins({operands(ins)})",
            *(f"      {name}({operands([(name, kind)])})" for name, kind in pieces),
            f"      scale(%scale : {acc})",
            *lengths,
            *rest,
            *(f"      {name}({operands([(name, kind)])})" for name, kind in outs),
            *([f"      d_captures({operands(captures)})"] if captures else []),
            f"      {{{', '.join(attributes)}}}",
            *program.region,
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


def capture_of(dims, body="addf"):
    """A capture over some of (b, h, m, n) that is added to the score, or a factor."""
    kind = f"memref<{'?x' * len(dims)}f32>"
    return {
        "arguments": (("cap", kind),),
        "captures": f"%cap : {kind}",
        "capture_maps": f"affine_map<(b, h, m, n) -> ({', '.join(dims)})>",
        "region_arguments": ", %x: f32",
        "score": f"        %r = arith.{body} %s, %x : f32",
    }


def table_of(indices, lines, rank):
    """A table that is added to the score, at computed indices."""
    kind = f"memref<{'?x' * rank}f32>"
    return {
        "arguments": (("cap", kind),),
        "captures": f"%cap : {kind}",
        "capture_maps": "unit",
        "region_arguments": f", %t: {kind}",
        "score": f"""{lines}
        %x = fa.gather %t[{indices}] : {kind} -> f32
        %r = arith.addf %s, %x : f32""",
    }


# An index per row and column; one that no affine map says.
OFFSET = """        %c = arith.constant 20 : index
        %d = arith.subi %m, %n : index
        %i = arith.addi %d, %c : index"""
