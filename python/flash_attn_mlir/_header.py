"""A C header for the object of a CPU program: `aot --chip cpu --emit header`.

The object needs libm and, when a program's tiles do not fit the stack, malloc and free;
nothing of this library.
"""

from __future__ import annotations

_C_TYPES = {"f32": "float", "f64": "double", "i32": "int32_t", "index": "int64_t"}

_HEAD = """\
/* Made by `python3 -m flash_attn_mlir aot --chip cpu --emit header` for the object of
 * `--emit object` with the same options. Link both with libm.
 *
 * {name}_call(...) runs everything on the calling thread. To use several, give each its own
 * part [begin, end) of the grid points 0 .. {name}_points(launch, ...) - 1 of a launch;
 * a launch starts when those before it are done. Sizes and strides are in elements. */
#include <math.h>
#include <stdint.h>
#include <string.h>

#ifndef FA_OBJECT_TENSOR
#define FA_OBJECT_TENSOR
typedef struct fa_tensor {{
  void *data; /* element 0 */
  int64_t sizes[8], strides[8];
}} fa_tensor;
#endif

#ifdef __cplusplus
extern "C" {{
#endif
"""


def _comment(entry: dict) -> str:
    if "sizes" not in entry:
        return f" *   {entry['name']}: {_C_TYPES[entry['dtype']]}"
    known = lambda values: ", ".join("?" if v is None else str(v) for v in values)  # noqa: E731
    return (
        f" *   {entry['name']}: {entry['dtype']}, sizes ({known(entry['sizes'])}), "
        f"strides ({known(entry['strides'])}), aligned to {entry['align']} bytes"
    )


def _expression(postfix: str, places: list[int]) -> str:
    """C of a grid extent, which metadata has in postfix notation over s0, s1, ...;
    places: the word of each."""
    stack: list[str] = []
    for token in postfix.split():
        if token[0] == "s":
            stack.append(f"(int64_t)words[{places[int(token[1:])]}]")
        elif token.lstrip("-").isdigit():
            stack.append(token)
        else:
            right, left = stack.pop(), stack.pop()
            if token == "ceildiv":
                left, token = f"({left} + {right} - 1)", "floordiv"
            symbol = {"floordiv": "/", "mod": "%", "+": "+", "*": "*"}[token]
            stack.append(f"({left} {symbol} {right})")
    return stack.pop()


# Linux gives a process the registers of AMX when it asks: Documentation/arch/x86/xstate.rst.
_ASK_FOR_TILES = """\
  { /* arch_prctl(ARCH_REQ_XCOMP_PERM, 18): the tile registers that the object uses. */
    long result;
    __asm__ volatile("syscall" : "=a"(result) : "0"(158L), "D"(0x1023L), "S"(18L)
                     : "rcx", "r11", "memory");
  }"""


def write(metadata: dict, uses_tiles: bool = False) -> str:
    """The text; uses_tiles: whether the object uses the tile registers of AMX."""
    arguments, launches = metadata["args"], metadata["launches"]
    name = launches[0]["entry"]
    if len(launches) > 1:
        name = name.rsplit("_", 1)[0]
    parameters, words, where = [], [], []
    count = 0
    for entry in arguments:
        where.append(count)
        if "sizes" in entry:
            rank = len(entry["sizes"])
            parameters.append(f"const fa_tensor *{entry['name']}")
            words += [
                f"  words[{count}] = (uint64_t)(uintptr_t){entry['name']}->data;",
                f"  words[{count + 1}] = words[{count}];",
                f"  words[{count + 2}] = 0;",
                f"  memcpy(words + {count + 3}, {entry['name']}->sizes, {8 * rank});",
                f"  memcpy(words + {count + 3 + rank}, {entry['name']}->strides, {8 * rank});",
            ]
            count += 3 + 2 * rank
        else:
            parameters.append(f"{_C_TYPES[entry['dtype']]} {entry['name']}")
            words += [
                f"  words[{count}] = 0;",
                f"  memcpy(words + {count}, &{entry['name']}, sizeof {entry['name']});",
            ]
            count += 1
    lines = [_HEAD.format(name=name)]
    lines += ["/* Arguments:", *(_comment(entry) for entry in arguments), " */"]
    lines += [f"enum {{ {name}_words = {count}, {name}_launches = {len(launches)} }};", ""]
    lines.append("/* The entries of the object: one per launch. */")
    for launch in launches:
        lines.append(f"void {launch['entry']}(const uint64_t *words, int64_t begin, int64_t end);")
    lines += ["", "/* Writes the arguments as the entries read them. */"]
    lines.append(f"static inline void {name}_pack(uint64_t *words, {', '.join(parameters)}) {{")
    lines += [*([_ASK_FOR_TILES] if uses_tiles else []), *words, "}", ""]
    lines += ["/* The number of grid points of a launch. */"]
    lines.append(f"static inline int64_t {name}_points(int launch, const uint64_t *words) {{")
    lines.append("  switch (launch) {")
    for number, launch in enumerate(launches):
        # An index argument has no dimensions.
        places = [where[arg] + (3 + dim if dim >= 0 else 0) for arg, dim in launch["grid_symbols"]]
        factors = [_expression(extent, places) for extent in launch["grid"]]
        lines += [f"  case {number}:", f"    return {' * '.join(factors) or '1'};"]
    lines += ["  }", "  return 0;", "}", ""]
    lines += ["/* Part of a launch. */"]
    lines.append(
        f"static inline void {name}_run(int launch, const uint64_t *words, int64_t begin, "
        "int64_t end) {"
    )
    lines.append("  switch (launch) {")
    for number, launch in enumerate(launches):
        lines += [f"  case {number}:", f"    {launch['entry']}(words, begin, end);", "    break;"]
    lines += ["  }", "}", ""]
    lines.append(f"static inline void {name}_call({', '.join(parameters)}) {{")
    lines.append(f"  uint64_t words[{count}];")
    names = ", ".join(entry["name"] for entry in arguments)
    lines.append(f"  {name}_pack(words, {names});")
    lines.append(f"  for (int launch = 0; launch < {len(launches)}; ++launch)")
    lines.append(f"    {name}_run(launch, words, 0, {name}_points(launch, words));")
    lines += ["}", "", "#ifdef __cplusplus", "}", "#endif", ""]
    return "\n".join(lines)
