"""A function as a StableHLO module: its text, and the weights that it takes as arguments."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aino_ir.codegen.catalogue import KernelCatalogue
from aino_ir.codegen.lower.compose import compose
from aino_ir.codegen.lower.group import Group
from aino_ir.codegen.lower.legality import interface_obstacles, type_obstacle
from aino_ir.codegen.lower.pricing import own_buffer
from aino_ir.codegen.stablehlo.accumulating import Violation, write_scatter
from aino_ir.codegen.stablehlo.accumulating import write_scan as write_running
from aino_ir.codegen.stablehlo.control import Status, write_if, write_loop, write_scan
from aino_ir.codegen.stablehlo.defined import Definitions
from aino_ir.codegen.stablehlo.loops import LoopWriter
from aino_ir.codegen.stablehlo.ops import ROWS
from aino_ir.codegen.stablehlo.space import Space, refuse
from aino_ir.codegen.stablehlo.types import Tensor
from aino_ir.codegen.stablehlo.writer import Writer
from aino_ir.compute import Compute, Nest, RowProgram
from aino_ir.constants import Const
from aino_ir.dtypes import i64
from aino_ir.errors.codegen import NoLowering
from aino_ir.graph import Block, Function, Value
from aino_ir.interp import decomposition
from aino_ir.kernels import Attention, Candidate
from aino_ir.loops.stmt import Status as Code
from aino_ir.op import Op, Trait
from aino_ir.ops.control import If, Loop, Scan
from aino_ir.ops.scan import Scan as Running
from aino_ir.ops.scatter import Scatter
from aino_ir.target import Target, parse_target

INLINE_ELEMENTS = 64
"""Constants of at most so many elements stand in the text; larger ones are arguments."""


@dataclass(frozen=True)
class StableHloModule:
    """What a function becomes.

    Attributes:
        text: the module; its function is ``main``.
        inputs: names of the model's inputs and states, the first arguments of ``main``.
        weights: (name, constant) of the arguments behind them.
        outputs: names of the model's outputs and states, the first results.
        has_status: whether a last result, tensor<2xi64>, tells of a failed check: (place * 256 + code,
            value), the code being one of `aino_ir.loops.stmt.Status` and 0 when all is well.
        places: nodes that may fail, by the number of their place.
    """

    text: str
    inputs: tuple[str, ...]
    weights: tuple[tuple[str, Const], ...]
    outputs: tuple[str, ...]
    has_status: bool
    places: tuple[str, ...] = ()


@dataclass(frozen=True)
class Obstacle:
    """What has no form in StableHLO: where it stands, and why.

    Attributes:
        where: the model's node.
        what: an op or an input, and the reason.
        op: id of the op of the function's own block that it is or stands in, or None for an input.
    """

    where: str
    what: str
    op: int | None = None


class ModuleWriter:
    """Writes one function for one choice of its symbols' values."""

    def __init__(self, function: Function, symbols: Mapping[str, int]) -> None:
        self.function = function
        self.symbols = symbols
        self.w = Writer()
        self.obstacles: list[Obstacle] = []
        self._weights: dict[object, tuple[Tensor, str, Const]] = {}
        self._places: list[str] = []
        self._outermost: Op | None = None
        self._scalar_target: Target = parse_target("c:portable")

    def run(self, name: str) -> StableHloModule:
        """The module, unless `obstacles` holds something afterwards."""
        f, w = self.function, self.w
        self.obstacles += [Obstacle(where, what) for where, what in interface_obstacles(f)]
        inputs = [*f.input_names, *(s.name for s in f.states)]
        if self.obstacles:
            return StableHloModule("", tuple(inputs), (), (), False)
        arguments = [w.fresh(v.dtype, self.shape(v)) for v in f.block.args]
        zero = w.constant(0, i64)
        self.status: Status = (zero, zero)
        results = self.block(f.block, arguments)
        has_status = self.status != (zero, zero)
        if has_status:
            results.append(w.concatenate([w.reshape(s, (1,)) for s in self.status], 0))
        w.line(
            f"return {', '.join(r.name for r in results)} : {', '.join(r.type for r in results)}"
            if results
            else "return"
        )
        weights = list(self._weights.values())
        return StableHloModule(
            self._text(name, [*arguments, *(t for t, _, _ in weights)], results),
            tuple(inputs),
            tuple((label, handle) for _, label, handle in weights),
            (*f.output_names, *(s.name for s in f.states)),
            has_status,
            tuple(self._places),
        )

    def _text(self, name: str, arguments: Sequence[Tensor], results: Sequence[Tensor]) -> str:
        takes = ", ".join(f"{a.name}: {a.type}" for a in arguments)
        gives = ", ".join(r.type for r in results)
        return "\n".join(
            [
                f"module @{name} {{",
                f"  func.func public @main({takes}) -> ({gives}) {{",
                *self.w.used_lines(),
                "  }",
                "}",
                "",
            ]
        )

    # -- blocks -------------------------------------------------------------------------------------

    def shape(self, value: Any) -> tuple[int, ...]:
        """A value's shape in numbers."""
        return Space(self.w, (), self.symbols).numbers(value.shape)

    def block(self, block: Block, arguments: Sequence[Tensor]) -> list[Tensor]:
        """The values that a block yields."""
        values: dict[Value, Tensor] = dict(zip(block.args, arguments, strict=True))
        for op in block:
            if op.has(Trait.TERMINATOR):
                return [values[v] for v in op.present_operands()]
            if block is self.function.block:
                self._outermost = op
            try:
                results = self._op(op, values)
            except NoLowering as error:
                assert self._outermost is not None
                what = f"{op.name}: {error.fields['reason']}"
                self.obstacles.append(Obstacle(str(op.loc), what, self._outermost.id))
                results = self._placeholders(op)
            values.update(zip(op.results, results, strict=True))
        raise AssertionError("a block without a terminator")

    def _placeholders(self, op: Op) -> list[Tensor]:
        """Values that let the survey of obstacles go on behind one; nothing runs them."""
        out = []
        for r in op.results:
            try:
                out.append(self.w.constant(0, r.dtype, self.shape(r)))
            except (NoLowering, AttributeError):
                out.append(self.w.constant(0, i64))
        return out

    def _op(self, op: Op, values: Mapping[Value, Tensor]) -> list[Tensor]:
        if op.name == "core.constant":
            return [self._constant(op.value)]  # type: ignore[attr-defined]
        for v in (*op.present_operands(), *op.results):
            reason = type_obstacle(v.type)
            if reason:
                raise refuse(reason)
        if op.name != "core.fused":
            self.w.comment(f"{op.name}: {op.loc}" if str(op.loc) else op.name)
        operands = [values[v] for v in op.present_operands()]
        slots = [None if v is None else values[v] for v in op.operands]
        if op.name == "core.fused":
            return self.block(op.regions[0], operands)
        if isinstance(op, If):
            return write_if(self, op, operands[0], operands[1:])
        if isinstance(op, Loop):
            return write_loop(self, op, slots[0], slots[1], [v for v in slots[2:] if v is not None])
        if isinstance(op, Scan):
            return write_scan(self, op, operands)
        shapes = [self.shape(r) for r in op.results]
        if all(0 in s for s in shapes):
            return [self.w.constant(0, r.dtype, s) for r, s in zip(op.results, shapes, strict=True)]
        if not any(0 in v.shape for v in operands):
            if isinstance(op, Scatter):
                result, outside = write_scatter(self.w, op, *operands)
                self._check(outside, self._numbered(op, Code.INDEX_OUT_OF_RANGE.value))
                return [result]
            if isinstance(op, Running):
                return [write_running(self.w, op, operands[0])]
            if op.name in ROWS:
                return ROWS[op.name](self.w, op, operands, self.symbols)
        return self._defined(op, operands, shapes)

    def _defined(self, op: Op, operands: Sequence[Tensor], shapes: list[tuple[int, ...]]) -> list[Tensor]:
        program = op.define()
        writes = Definitions(self.w, self.symbols, operands)
        for check in getattr(program, "checks", ()):
            self._check(writes.violation(check), self._numbered(op, check.status.value))
        match program:
            case Compute():
                return [writes.compute(program, op.results[0].dtype)]
            case RowProgram():
                return writes.rows(program, [(r.dtype, s) for r, s in zip(op.results, shapes, strict=True)])
            case Attention():
                return [writes.attention(program, op.results[0].dtype)]
            case Nest():
                return self._nest(op, operands, shapes)
            case None:
                block = decomposition(op)
                if block is None:
                    raise refuse("it has no definition as loops")
                return self.block(block, operands)
        raise refuse("it decides extents of its results by data")

    def _numbered(self, op: Op, code: int) -> int:
        """A status code that tells the node."""
        where = str(op.loc)
        if where not in self._places:
            self._places.append(where)
        return self._places.index(where) << 8 | code

    def _check(self, found: Violation | None, code: int) -> None:
        """Keep the first failed check in the status."""
        if found is None:
            return
        w, (before, shown) = self.w, self.status
        failed, value = found
        first = w.same("and", failed, w.compare("EQ", before, w.constant(0, i64)))
        self.status = w.select(first, w.constant(code, i64), before), w.select(first, value, shown)

    def _nest(self, op: Op, operands: Sequence[Tensor], shapes: list[tuple[int, ...]]) -> list[Tensor]:
        """An op by its own loops."""
        w = self.w
        group = Group(op)
        composed = compose(group, own_buffer, self.function.symbols)
        catalogue = KernelCatalogue(self._scalar_target)
        candidate = next(a for a in catalogue.candidates(composed.spec) if isinstance(a, Candidate))
        kernel = catalogue.build(composed.spec, candidate)
        by_value = dict(zip(op.present_operands(), operands, strict=True))
        buffers = [w.reshape(by_value[v], (by_value[v].size,)) for v in composed.operands]
        buffers += [w.constant(0, r.dtype, (math.prod(s),)) for r, s in zip(op.results, shapes, strict=True)]
        place = self._numbered(op, 0) if kernel.can_fail else 0
        after, self.status = LoopWriter(w, self.symbols, place).run(kernel, buffers, self.status)
        written = after[len(composed.operands) :]
        return [w.reshape(x, s) for x, s in zip(written, shapes, strict=True)]

    def _constant(self, handle: Const) -> Tensor:
        """A small constant in place, a large one as an argument."""
        if handle.size <= INLINE_ELEMENTS:
            return self.w.constant(handle.array(), handle.dtype)
        known = self._weights.get(handle.key)
        if known is None:
            tensor = self.w.fresh(handle.dtype, Space(self.w, (), {}).numbers(handle.type.shape))
            label = handle.name or f"constant_{len(self._weights)}"
            known = self._weights[handle.key] = (tensor, label, handle)
        return known[0]
