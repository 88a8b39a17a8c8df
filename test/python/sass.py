"""SASS as nvdisasm prints it: instructions, loops, and who wrote a register last."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from dataclasses import dataclass

# What begins with a register and does not write it.
_READERS = ("ST", "RED", "ATOM", "SYNCS", "UTMA", "BRA", "EXIT", "WARPSYNC")
# Registers that are written, where it is not one, by the end of the name.
_WIDTHS = {".64": 2, ".WIDE": 2, ".128": 4}


@dataclass
class Instruction:
    name: str  # with its modifiers
    operands: list[str]
    is_conditional: bool

    def registers(self, operand: int, count: int) -> range:
        """`count` registers from that of an operand on; none if it is no register."""
        match = re.match(r"R(\d+)\b", self.operands[operand])
        return range(int(match[1]), int(match[1]) + count) if match else range(0)

    def written(self) -> range:
        """General registers; of a product's sums, whose number nothing here needs, none."""
        if self.name.startswith((*_READERS, "HGMMA")):
            return range(0)
        first = next((i for i, o in enumerate(self.operands) if not re.match(r"!?U?P", o)), None)
        if first is None:
            return range(0)
        width = 4 if self.name.startswith("LDSM") and self.name.endswith(".4") else 1
        for ending, count in _WIDTHS.items():
            if ending in self.name and not self.name.startswith("LDSM"):
                width = count
        return self.registers(first, width)


class Kernel:
    """The code of one kernel."""

    def __init__(self, text: str):
        self.code: list[Instruction] = []
        labels, branches = {}, []
        for line in re.sub(r"/\*.*?\*/", "", text).splitlines():
            line = line.strip().rstrip(";").strip()
            if re.fullmatch(r"\.L_x_\d+:", line):
                labels[line[:-1]] = len(self.code)
                continue
            match = re.fullmatch(r"(@!?U?P\w+ )?([A-Z][\w.]*)(?: (.*))?", line)
            if not match:
                continue
            operands = [o.strip() for o in (match[3] or "").split(",") if o.strip()]
            target = re.search(r"`\((\.L_x_\d+)\)", line)
            conditional = bool(match[1])
            if match[2].startswith("BRA") and target:
                branches.append((len(self.code), target[1]))
                conditional |= len(operands) > 1  # BRA !UP0, `(.L_x_1)
            self.code.append(Instruction(match[2], operands, conditional))
        self._before = [[] for _ in self.code]  # numbers of those that may run just before
        for i, instruction in enumerate(self.code[:-1]):
            ends = instruction.name.startswith(("BRA", "EXIT", "RET"))
            if not ends or instruction.is_conditional:
                self._before[i + 1].append(i)
        for i, target in branches:
            self._before[labels[target]].append(i)
        self._loops = [range(labels[t], i + 1) for i, t in branches if labels[t] <= i]

    def loops(self, holds) -> list[list[Instruction]]:
        """The innermost loops that have an instruction for which `holds`."""
        found = [loop for loop in self._loops if any(holds(self.code[i]) for i in loop)]
        inner = [
            a
            for a in found
            if not any(b != a and b.start >= a.start and b.stop <= a.stop for b in found)
        ]
        return [[self.code[i] for i in loop] for loop in inner]

    def writers(self, number: int, register: int) -> set[str]:
        """Names, without modifiers, of what may have written `register` last."""
        names, seen, stack = set(), set(), list(self._before[number])
        while stack:
            i = stack.pop()
            if i in seen:
                continue
            seen.add(i)
            if register in self.code[i].written():
                names.add(self.code[i].name.split(".")[0])
                if not self.code[i].is_conditional:
                    continue
            stack += self._before[i]
        return names


def disassemble(cubin: bytes) -> list[Kernel]:
    """The kernels of a cubin. Needs nvdisasm, which scripts/test.sh installs."""
    with tempfile.NamedTemporaryFile(suffix=".cubin", delete=False) as file:
        file.write(cubin)
    try:
        text = subprocess.run(
            ["nvdisasm", "-c", file.name], check=True, capture_output=True, text=True
        ).stdout
    finally:
        os.unlink(file.name)
    return [Kernel(part) for part in re.split(r"\n\.text\.\S+:\n", text)[1:]]
