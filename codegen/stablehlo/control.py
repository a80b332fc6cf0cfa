"""Control flow: choices, loops and scans as StableHLO regions.

A loop carries its turn, its condition, the carried values and the stacks that it fills; what else the body
reads stands outside.  The status word goes along, as the body may hold checks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

from aino_ir.codegen.stablehlo.space import refuse
from aino_ir.codegen.stablehlo.types import Tensor
from aino_ir.codegen.stablehlo.writer import Writer
from aino_ir.dtypes import boolean, i64
from aino_ir.graph import Block
from aino_ir.ops.control import If, Loop, Scan

Status = tuple[Tensor, Tensor]


class Blocks(Protocol):
    """What control flow needs of whoever writes the ops of a block."""

    w: Writer
    status: Status

    def block(self, block: Block, arguments: Sequence[Tensor]) -> list[Tensor]:
        """The values that a block yields."""
        ...

    def shape(self, value: object) -> tuple[int, ...]:
        """A value's shape in numbers."""
        ...


def write_if(b: Blocks, op: If, condition: Tensor, captures: Sequence[Tensor]) -> list[Tensor]:
    """The results of a choice."""
    w, before = b.w, b.status
    flag = w.reshape(condition, ())
    templates = [Tensor("", r.dtype, b.shape(r)) for r in op.results] + list(before)
    label = w.fresh(boolean, ()).name
    w.line(f'{label}:{len(templates)} = "stablehlo.if"({flag.name}) ({{')
    for number, region in enumerate(op.regions):
        if number:
            w.line("}, {")
        with w.region():
            b.status = before
            values = b.block(region, captures)
            _require_shapes(values, templates)
            w.give_back([*values, *b.status])
    w.line(f"}}) : ({flag.type}) -> ({', '.join(t.type for t in templates)})")
    results = [replace(t, name=f"{label}#{n}") for n, t in enumerate(templates)]
    b.status = (results[-2], results[-1])
    return results[:-2]


def write_loop(
    b: Blocks, op: Loop, trips: Tensor | None, condition: Tensor | None, inputs: Sequence[Tensor]
) -> list[Tensor]:
    """The results of a loop: carried values, and stacks whose height is the number of turns."""
    w = b.w
    carried, captures = list(inputs[: op.carried]), inputs[op.carried :]
    limit = None if trips is None else w.convert(w.reshape(trips, ()), i64)
    yes = w.constant(True, boolean)
    start = yes if condition is None or op.counted else w.reshape(condition, ())
    stacks = [w.constant(0, r.dtype, b.shape(r)) for r in op.results[op.carried :]]

    def again(values: Sequence[Tensor]) -> Tensor:
        turn, go = values[:2]
        return go if limit is None else w.same("and", go, w.compare("LT", turn, limit))

    def body(values: Sequence[Tensor]) -> list[Tensor]:
        turn, go, *rest = values
        now, heaps = rest[: op.carried], rest[op.carried :]
        arguments = [
            w.reshape(v, b.shape(a)) for v, a in zip((turn, go), op.regions[0].args[:2], strict=True)
        ]
        out = b.block(op.regions[0], [*arguments, *now, *captures])
        next_go = yes if op.counted else w.reshape(out[0], ())
        kept = out[1 : 1 + op.carried]
        _require_shapes(kept, now)
        filled = [push(w, h, e, turn) for h, e in zip(heaps, out[1 + op.carried :], strict=True)]
        return [w.same("add", turn, w.constant(1, i64)), next_go, *kept, *filled]

    zero = w.constant(0, i64)
    return repeated(b, [zero, start, *carried, *stacks], again, body)[2:]


def write_scan(b: Blocks, op: Scan, inputs: Sequence[Tensor]) -> list[Tensor]:
    """The results of a scan: last states, and stacks as high as the sequences are long."""
    w = b.w
    states = list(inputs[: op.states])
    sequences = inputs[op.states : op.states + op.sequences]
    captures = inputs[op.states + op.sequences :]
    length = w.constant(sequences[0].shape[0], i64)
    stacks = [w.constant(0, r.dtype, b.shape(r)) for r in op.results[op.states :]]

    def again(values: Sequence[Tensor]) -> Tensor:
        return w.compare("LT", values[0], length)

    def body(values: Sequence[Tensor]) -> list[Tensor]:
        turn, *rest = values
        now, heaps = rest[: op.states], rest[op.states :]
        elements = [element(w, s, turn) for s in sequences]
        out = b.block(op.regions[0], [*now, *elements, *captures])
        filled = [push(w, h, e, turn) for h, e in zip(heaps, out[op.states :], strict=True)]
        return [w.same("add", turn, w.constant(1, i64)), *out[: op.states], *filled]

    return repeated(b, [w.constant(0, i64), *states, *stacks], again, body)[1:]


def repeated(
    b: Blocks,
    firsts: Sequence[Tensor],
    again: Callable[[Sequence[Tensor]], Tensor],
    body: Callable[[Sequence[Tensor]], list[Tensor]],
) -> list[Tensor]:
    """A while loop over values and the status."""
    w = b.w
    starts = [*firsts, *b.status]
    names = [w.fresh(x.dtype, x.shape) for x in starts]
    label = f"%loop{names[0].name[1:]}"
    arguments = ", ".join(f"{n.name} = {x.name}" for n, x in zip(names, starts, strict=True))
    w.line(f"{label}:{len(starts)} = stablehlo.while({arguments}) : {', '.join(x.type for x in starts)}")
    w.line("cond {")
    with w.region():
        w.give_back([again(names[:-2])])
    w.line("} do {")
    with w.region():
        b.status = (names[-2], names[-1])
        values = body(names[:-2])
        w.give_back([*values, *b.status])
    w.line("}")
    results = [replace(x, name=f"{label}#{n}") for n, x in enumerate(starts)]
    b.status = (results[-2], results[-1])
    return results[:-2]


def element(w: Writer, x: Tensor, turn: Tensor) -> Tensor:
    """x[turn]."""
    zero = w.constant(0, i64)
    cut = w.dynamic_slice(x, [turn, *[zero] * (x.rank - 1)], (1, *x.shape[1:]))
    return w.reshape(cut, x.shape[1:])


def push(w: Writer, heap: Tensor, value: Tensor, turn: Tensor) -> Tensor:
    """The heap with heap[turn] = value."""
    zero = w.constant(0, i64)
    part = w.reshape(value, (1, *value.shape))
    return w.dynamic_update_slice(heap, part, [turn, *[zero] * value.rank])


def _require_shapes(values: Sequence[Tensor], wanted: Sequence[Tensor]) -> None:
    for value, template in zip(values, wanted, strict=False):
        if value.shape != template.shape:
            raise refuse(f"a region changes the shape of a value from {template.shape} to {value.shape}")
