"""Spill lint: vector registers that the compiler had to put on the stack inside hot loops.

Reads the disassembly (``objdump``) of a compiled model.  A hot loop is an innermost one, from the target
of a backward jump to the jump, with at least `HOT` vector multiply-adds; in it every store of a vector
register to the stack is a spill.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

HOT = 8
"""Vector multiply-adds that make a loop hot."""

_FUNCTION = re.compile(r"^[0-9a-f]+ <([^>]+)>:$")
_LINE = re.compile(r"^\s*([0-9a-f]+):\s+(\S+)\s*(.*)$")
_TARGET = re.compile(r"^([0-9a-f]+)\b")
_FMA = re.compile(r"^(vfn?m(add|sub)\d{3}p[sd]|fmla)$")
_STORE = re.compile(r"^v?mov(aps|apd|ups|upd|dqa|dqu|dqa32|dqa64|dqu32|dqu64)$")
_SOURCE_AND_PLACE = re.compile(r"^%[xyz]mm\d+,\s*(?:-?0x[0-9a-f]+)?\((%\w+)[^)]*\)")


@dataclass(frozen=True)
class HotLoop:
    """An innermost loop with many multiply-adds.

    Attributes:
        function: the function that it is in.
        start, end: addresses of its first and last instruction.
        multiply_adds: vector multiply-adds in it.
        spills: stores of vector registers to the stack in it.
    """

    function: str
    start: int
    end: int
    multiply_adds: int
    spills: int


Instruction = tuple[int, str, str]


def hot_loops(library: bytes) -> list[HotLoop] | None:
    """The hot loops of a library, or None on a machine without objdump."""
    tool = shutil.which("objdump") or shutil.which("llvm-objdump")
    if tool is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "library.so"
        path.write_bytes(library)
        command = [tool, "-d", "--no-show-raw-insn", str(path)]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [loop for name, body in functions(text) for loop in _loops(name, body)]


def functions(text: str) -> Iterator[tuple[str, list[Instruction]]]:
    """(name, instructions) of every function of a disassembly in AT&T syntax."""
    name, body = "", list[Instruction]()
    for line in text.splitlines():
        header = _FUNCTION.match(line)
        if header:
            if body:
                yield name, body
            name, body = header[1], []
            continue
        found = _LINE.match(line)
        if found:
            body.append((int(found[1], 16), found[2], found[3]))
    if body:
        yield name, body


def _loops(name: str, body: list[Instruction]) -> Iterator[HotLoop]:
    ends: dict[int, int] = {}  # target of a backward jump -> the last jump to it
    first = body[0][0]
    for address, operation, operands in body:
        target = _TARGET.match(operands) if operation.startswith(("j", "b.", "cb", "tb")) else None
        if target and first <= int(target[1], 16) <= address:
            ends[int(target[1], 16)] = address
    stack = {"%rsp", "%esp"}
    if any(op == "mov" and operands == "%rsp,%rbp" for _, op, operands in body):
        stack.add("%rbp")
    for start, end in sorted(ends.items()):
        if any(start <= s and e <= end and (s, e) != (start, end) for s, e in ends.items()):
            continue  # another loop lies inside
        inside = [i for i in body if start <= i[0] <= end]
        multiply_adds = sum(bool(_FMA.match(op)) for _, op, _ in inside)
        if multiply_adds >= HOT:
            spills = sum(is_spill(op, operands, stack) for _, op, operands in inside)
            yield HotLoop(name, start, end, multiply_adds, spills)


def is_spill(operation: str, operands: str, stack: set[str]) -> bool:
    """Whether an instruction stores a vector register to the stack."""
    place = _SOURCE_AND_PLACE.match(operands) if _STORE.match(operation) else None
    return place is not None and place[1] in stack
