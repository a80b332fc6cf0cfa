"""One kernel on made-up operands: what it gets, what its ops mean there, and whether it gives that.

The meaning is the interpreter's, of the op or fused group that the kernel was built for, so that
composition, generator, printer and C compiler are judged together.  Operands lie in the layouts and
packings that the kernel reads, between zones that it must not touch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from aino_ir.compute import Compute, coordinates
from aino_ir.dims import DimLike, free_symbols, product
from aino_ir.driver.kernel_meaning import (
    PRECISIONS,
    FlushingEvaluation,
    difference,
    far_from_ties,
    fixed_contents,
    meaning,
    precision_of,
    same_kind,
)
from aino_ir.errors.base import AinoError
from aino_ir.graph import Value
from aino_ir.interp import Evaluation
from aino_ir.kernels import Kernel, KernelSpec, Operand
from aino_ir.op import Op, Trait
from aino_ir.passes.trials import (
    SMALL_EXTENTS,
    Unrunnable,
    index_domains,
    inner_ops,
    longest_sum,
    random_array,
    sample_bindings,
)
from aino_ir.passes.whole_module import work_of
from aino_ir.sampling import seeded
from aino_ir.symbols import Symbols
from aino_ir.types import TensorType

Array = np.ndarray[Any, Any]

WORK_LIMIT = 2e10
"""Kernels whose meaning takes more operations are not run."""

ELEMENT_LIMIT = 1 << 27
"""Nor are those whose operands and results have more elements."""

LARGER_EXTENTS = (37, 41, 64, 33)
"""A kernel with symbolic extents is tried at small ones and at about these, past its register tiles."""

ROOMY = 1 << 22
"""Where these would give it more elements, it is tried at halves or quarters of them."""

GUARD = 256
"""Bytes before and behind each buffer that a kernel must leave as they are."""

PATTERN = 0xA5


def spans_of(units: int) -> list[tuple[int, int]]:
    """Units in two parts, the second first."""
    half = units - units // 2
    return [(half, units), (0, half)] if units > half else [(0, units)]


@dataclass
class Buffer:
    """Memory of one parameter.

    Attributes:
        data: its bytes at first.
        written: whether the kernel may change it.
        offset: where it lies in the child's data.
    """

    data: Array
    written: bool
    offset: int = 0


@dataclass
class Trial:
    """One kernel on one set of operands.

    Attributes:
        kernel: what is tried.
        number: its place in the library's table.
        kind: of the made-up values.
        buffers: of its parameters, in order.
        symbols: values of its symbols, in order.
        native, wide: what its results should be, in both precisions.
        sure: which elements tell something about the kernel, one mask a result.
        status, scratch: offsets in the child's data.
    """

    kernel: Kernel
    number: int
    kind: str
    bindings: dict[str, int]
    buffers: list[Buffer]
    native: list[Array]
    wide: list[Array]
    sure: list[Array]
    terms: int
    status: int = 0
    scratch: int = 0

    @property
    def suspects(self) -> list[str]:
        """Names of the kernels that are wrong where the trial fails."""
        return [self.kernel.function.name]

    @property
    def scratch_bytes(self) -> int:
        """Working memory of one thread."""
        return number_of(self.kernel.function.scratch_bytes, self.bindings)

    @property
    def symbols(self) -> list[int]:
        """Values of the kernel's symbols, in order."""
        return [self.bindings[name] for name in self.kernel.function.symbols]

    @property
    def units(self) -> int:
        """How many units the kernel has."""
        return number_of(self.kernel.function.units, self.bindings)

    @property
    def spans(self) -> list[tuple[int, int]]:
        """Units in two parts, the second first: no unit may rely on another."""
        return spans_of(self.units)

    def place(self, start: int) -> int:
        """Give everything an offset from `start` on; returns the end."""
        at = start
        for buffer in self.buffers:
            buffer.offset = _aligned(at + GUARD)
            at = buffer.offset + buffer.data.nbytes + GUARD
        self.status = _aligned(at)
        self.scratch = _aligned(self.status + 64 + GUARD)
        return self.scratch + self.scratch_bytes + GUARD

    def fill(self, memory: Array) -> None:
        """Write the operands."""
        for buffer in self.buffers:
            memory[buffer.offset : buffer.offset + buffer.data.nbytes] = buffer.data
        memory[self.status : self.status + 16] = 0

    def calls(self) -> list[dict[str, Any]]:
        """The calls as the child reads them, in order."""
        return [self.call()]

    def call(self) -> dict[str, Any]:
        """The kernel's call as the child reads it."""
        views = [b.offset for b in self.buffers] + ([self.status] if self.kernel.function.can_fail else [])
        return {
            "number": self.number,
            "views": views,
            "symbols": self.symbols,
            "scratch": self.scratch,
            "spans": self.spans,
        }

    def judge(self, memory: Array) -> str:
        """What is wrong with what the kernel left behind, or ""."""
        status = memory[self.status : self.status + 16].view(np.int64)
        if status[0]:
            return f"it fails with status {int(status[0])} (value {int(status[1])}) on legal operands"
        return self._overrun(memory) or self._difference(memory)

    def _overrun(self, memory: Array) -> str:
        names = [p.name for p in self.kernel.function.params]
        for name, buffer in zip(names, self.buffers, strict=True):
            end = buffer.offset + buffer.data.nbytes
            around = (memory[buffer.offset - GUARD : buffer.offset], memory[end : end + GUARD])
            if any(np.any(zone != PATTERN) for zone in around):
                return f"it writes outside {name}"
            if not buffer.written and np.any(memory[buffer.offset : end] != buffer.data):
                return f"it writes to its operand {name}"
        end = self.scratch + self.scratch_bytes
        return "it writes outside its scratch" if np.any(memory[end : end + GUARD] != PATTERN) else ""

    def _difference(self, memory: Array) -> str:
        spec, candidate = self.kernel.spec, self.kernel.candidate
        following = len(spec.operands)
        meant = zip(self.native, self.wide, self.sure, strict=True)
        for result, (native, wide, sure) in zip(spec.results, meant, strict=True):
            number = result.aliases if result.aliases is not None else following
            following += result.aliases is None
            buffer = self.buffers[number]
            raw = memory[buffer.offset : buffer.offset + buffer.data.nbytes].view(result.dtype.numpy)
            actual = raw[places_of(result, self.bindings)]
            loose = "approximate" if candidate.error_class == "approximate" else "reordered"
            dtype = precision_of(self.kernel, result.dtype)
            reason = difference(actual, native, wide, sure, dtype, loose, self.terms)
            if reason:
                return f"{result.name}: {reason}"
        return ""


ZERO_SIGN_OPEN = frozenset(
    {
        "math.relu",
        "math.prelu",
        "math.max",
        "math.min",
        "math.clip",
        "reduce.max",
        "reduce.min",
        "math.hard_swish",
    }
)
"""Ops that may give either zero where both are among their operands: 1 / x behind them tells which."""


MakeTrial = Callable[[Sequence[Array], Trial], Trial]
"""(operands, the trial of a kernel) -> the trial that is run in its place."""


def trials(
    kernel: Kernel, number: int, work_limit: float = WORK_LIMIT, instead: MakeTrial | None = None
) -> Iterator[Trial]:
    """The trials of a kernel, if its meaning takes at most so many operations.

    Args:
        kernel: what is tried.
        number: its place in the library's table.
        work_limit: operations of the interpreter.
        instead: makes of a trial and its operands' contents the trial that is run, as of several kernels that
            stand for `kernel`.

    Raises:
        Unrunnable: none can be made, with the reason.
    """
    origin = kernel.origin
    if origin is None and not _is_copy(kernel.spec):
        raise Unrunnable("it does only a part of an op")
    symbols = _table(kernel)
    values = [] if origin is None else [*origin.op.present_operands(), *origin.op.results]
    names = set(kernel.function.symbols)
    for o in (*kernel.spec.operands, *kernel.spec.results):
        for d in (*o.shape, *(o.allocated or ())):
            names |= free_symbols(d)
    for value in values:  # numbers that a run decides are contents before they are extents
        if value.known is not None:
            names |= {name for d in value.known.reshape(-1).tolist() for name in free_symbols(d)}
    made, refusal = 0, Unrunnable("no extents fit it")
    for choices in (SMALL_EXTENTS,), [tuple(-(-e // part) for e in LARGER_EXTENTS) for part in (1, 2, 4)]:
        try:
            bindings: dict[str, int] = {}
            for bases in choices:
                bindings = sample_bindings(symbols, values, names, bases)
                if _elements(kernel, bindings) <= ROOMY:
                    break
            found = list(_at(kernel, number, bindings, work_limit, instead))
        except Unrunnable as problem:
            refusal = problem
            continue
        except AinoError as error:  # extents that the model's own inputs never have: negative ones
            refusal = Unrunnable(error.message)
            continue
        made += len(found)
        yield from found
        if not bindings:
            return
    if not made:
        raise refusal


def _is_copy(spec: KernelSpec) -> bool:
    """Whether a kernel that stands for no op is the one kind that its definition says all about."""
    program = spec.program
    if not isinstance(program, Compute):
        return False
    return [(r.expr, r.index) for r in spec.results] == [(program.body, coordinates(program.axes))]


def _table(kernel: Kernel) -> Symbols:
    block = None if kernel.origin is None else kernel.origin.op.block
    if block is not None and block.function is not None:
        return block.function.symbols
    table = Symbols()
    for name, low, high in kernel.spec.symbols:
        table.new(name, lo=low, hi=high)
    return table


def _at(
    kernel: Kernel, number: int, bindings: dict[str, int], work_limit: float, instead: MakeTrial | None
) -> Iterator[Trial]:
    origin = kernel.origin
    ops = [] if origin is None else [origin.op, *inner_ops(origin.op)]
    ev = Evaluation("native", dict(bindings))
    work = sum(work_of(op, ev) for op in ops)
    if work > work_limit:
        raise Unrunnable(f"its meaning takes about {work:.1g} operations")
    elements = _elements(kernel, bindings)
    if elements > ELEMENT_LIMIT:
        raise Unrunnable(f"its operands and results have {elements:.1g} elements")
    exact = all(r.dtype.is_float for r in kernel.spec.results)
    kinds = ["plain" if exact else "dyadic"]
    if ops and all(op.has(Trait.ELEMENTWISE) or op.name.startswith(("tensor.", "core.")) for op in ops):
        kinds.append("edges")
    terms = longest_sum(ops, ev)
    for kind in kinds:
        made = _trial(kernel, number, bindings, kind, terms, instead)
        if made is None and kind != "edges":  # undefined there, or an error such as a division by zero
            made = _trial(kernel, number, bindings, "positive", terms, instead)
        if made is not None:
            yield made


def _elements(kernel: Kernel, bindings: dict[str, int]) -> int:
    """How many elements a kernel's operands and results have."""
    ev = Evaluation("native", dict(bindings))
    return sum(ev.size(product(o.shape)) for o in (*kernel.spec.operands, *kernel.spec.results))


def _trial(
    kernel: Kernel, number: int, bindings: dict[str, int], kind: str, terms: int, instead: MakeTrial | None
) -> Trial | None:
    """A trial, or None when the interpreter refuses such operands or gives nothing but NaN."""
    arrays = _operands(kernel, bindings, kind)
    try:
        native, wide = (meaning(kernel, arrays, Evaluation(p, dict(bindings))) for p in PRECISIONS)
    except Exception as error:  # what an op does with operands that no model would give it is its own affair
        if kind == "positive":
            why = error.message if isinstance(error, AinoError) else f"{type(error).__name__}: {error}"
            raise Unrunnable(f"its meaning fails: {why}") from error
        return None
    floats = [a for a in native if a.dtype.kind == "f" and a.size]
    if kind == "plain" and floats and all(float(np.mean(np.isnan(a))) > 0.5 for a in floats):
        return None
    buffers = _buffers(kernel, arrays, bindings) if instead is None else []
    sure: list[Array] = [np.ones((), np.bool_) for _ in native]
    if kind == "edges":
        flushed = meaning(kernel, arrays, FlushingEvaluation("native", dict(bindings)))
        sure = [same_kind(a, b) for a, b in zip(native, flushed, strict=True)]
    elif kernel.candidate.error_class != "exact":
        sure = far_from_ties(kernel, arrays, bindings, native, terms)
    made = Trial(kernel, number, kind, bindings, buffers, native, wide, sure, terms)
    return made if instead is None else instead(arrays, made)


def _operands(kernel: Kernel, bindings: dict[str, int], kind: str) -> list[Array]:
    """One stored array an operand; constants of integers keep their values (they may be positions).

    A value that is two operands has one array.
    """
    ev = Evaluation("native", dict(bindings))
    origin = kernel.origin
    ops = [] if origin is None else [origin.op, *inner_ops(origin.op)]
    domains = _domains(origin.op, ops) if origin is not None else {}
    out: list[Array] = []
    for position, operand in enumerate(kernel.spec.operands):
        value = origin.operands[position] if origin is not None else None
        if origin is not None and value in origin.operands[:position]:
            out.append(out[origin.operands.index(value)])
            continue
        rng = seeded(f"{position} {kind} {operand.dtype} {operand.shape}")
        fixed = None if value is None else fixed_contents(value, ev)
        if fixed is None:
            type = TensorType(operand.dtype, operand.shape)
            domain = domains.get(value) if value is not None else None
            fixed = random_array(type, ev, rng, kind, domain)
            if fixed.dtype.kind == "f" and any(op.name in ZERO_SIGN_OPEN for op in ops):
                fixed = fixed + 0.0  # a negative zero becomes the other one
            if operand.zeros is not None:  # what a kernel was built on
                fixed = np.where(operand.zeros.mask, fixed, np.zeros((), fixed.dtype))
        out.append(fixed)
    return out


def _domains(op: Op, ops: Sequence[Op]) -> dict[Value, tuple[Any, Any]]:
    """Legal values of index operands, those that are used inside a fused group included."""
    found = index_domains(ops)
    if op.name == "core.fused":
        inside = zip(op.regions[0].args, op.operands, strict=True)
        found |= {outer: found[arg] for arg, outer in inside if arg in found and outer is not None}
    return found


def _buffers(kernel: Kernel, arrays: Sequence[Array], bindings: Mapping[str, int]) -> list[Buffer]:
    """The memory of every parameter, operands in place."""
    packings = dict(kernel.candidate.packings)
    aliased = {r.aliases for r in kernel.spec.results}
    companions = len(kernel.function.params) - len(kernel.candidate.companions)
    buffers = []
    for number, param in enumerate(kernel.function.params):
        size = number_of(param.size, bindings)
        if size < 0:
            raise Unrunnable("the extents that were drawn for it do not fit together")
        flat = np.full(size * param.dtype.bytes, PATTERN, np.uint8).view(param.dtype.numpy)
        if number < len(arrays):
            packing = packings.get(number)
            if packing is None:
                flat[places_of(kernel.spec.operands[number], bindings)] = arrays[number]
            else:
                data = packing.pack(arrays[number])
                flat[: data.size] = data
        elif number >= companions:
            source, packing = kernel.candidate.companions[number - companions]
            data = packing.pack(arrays[source])
            flat[: data.size] = data
        written = len(arrays) <= number < companions or number in aliased
        buffers.append(Buffer(flat.view(np.uint8), written))
    return buffers


def places_of(operand: Operand, bindings: Mapping[str, int]) -> Array:
    """Element offsets of a tensor's elements, an array of its shape."""
    shape = tuple(number_of(d, bindings) for d in operand.shape)
    around = shape if operand.allocated is None else tuple(number_of(d, bindings) for d in operand.allocated)
    index = np.ix_(*(np.arange(d) for d in shape)) if shape else ()
    offsets = operand.layout.addr(around, index)  # type: ignore[arg-type]  # arrays count like Dims
    return np.broadcast_to(np.asarray(offsets, np.int64), shape)


def number_of(d: DimLike, bindings: Mapping[str, int]) -> int:
    """A Dim's value."""
    return d if isinstance(d, int) else d.evaluate(bindings)


def _aligned(offset: int) -> int:
    return -(-offset // 64) * 64
