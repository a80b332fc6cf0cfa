"""Random graphs: well-typed, over every op with samples, from one seed.

A graph grows from a pool of values.  A step takes an elementwise op, a structural op, a control-flow op, or a
conformance sample of any op; operands come from the pool where they fit or can be made to fit (cast, cut,
reshaped), else they are new inputs.  Extents are odd, one or zero; some graphs have a symbolic extent.

Two rules keep a comparison fair.  Results that only the order of a sum decides are *approximate*, and no op
that jumps (a comparison, a rounding, an argmax) reads them.  What would be an error at run time (an index out
of range, an integer divided by zero) comes from the sample itself, never from the pool.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np

import aino_ir.ops  # noqa: F401  registers every family
from aino_ir.builder import Builder, op_class
from aino_ir.dims import is_static
from aino_ir.dtypes import DTYPES, DType
from aino_ir.elementwise import ACCEPTS, Elementwise
from aino_ir.errors.base import AinoError
from aino_ir.graph import Function, Module, Value
from aino_ir.op import OPS, Op, Sample, Trait
from aino_ir.sampling import DTYPE_NAMES, random_values, samples_for
from aino_ir.types import TensorType, type_of
from tests.conformance.samples import MORE_SAMPLES

Array = np.ndarray[Any, Any]

LARGEST = 4096
"""Elements of a value at most."""

DTYPES_OF_INPUTS = ("f32", "f32", "f32", "f32", "f64", "f16", "bf16", "i32", "i64", "i8", "u8", "bool")
EXTENTS = (1, 2, 3, 4, 5, 7, 8, 9, 16, 17)

KEEP_EXACT = frozenset(
    f"math.{n}"
    for n in ("abs", "clip", "max", "min", "neg", "relu", "select", "round", "floor", "ceil", "trunc")
)
"""Float ops whose results are exact when their operands are."""

SMOOTH = KEEP_EXACT - {"math.round", "math.floor", "math.ceil", "math.trunc"} | frozenset(
    f"math.{n}"
    for n in (
        *("add", "sub", "mul", "leaky_relu", "elu", "celu", "selu", "gelu", "sigmoid", "tanh", "silu"),
        *("softplus", "softsign", "erf", "prelu", "hard_sigmoid", "hard_swish", "mish", "log_sigmoid"),
    )
)
"""Elementwise ops that turn a small error of an operand into a small error of the result."""

ROBUST_FAMILIES = ("tensor", "nn", "normalize", "image")
"""Families whose samples may read approximate values (softmax, norms and products are smooth)."""

ROBUST = frozenset(
    f"reduce.{n}" for n in ("sum", "mean", "max", "min", "l1", "l2", "sum_square", "log_sum_exp")
) | {"scan.cumsum"}

SPREADS_SPECIALS = frozenset({"nn.conv_transpose"})
"""Ops that may multiply an infinite weight by the zeros around x, or not."""

DECIDED_BY_SAMPLES = frozenset({"linalg.eigh", "linalg.svd"})
"""Ops that many results are right for where eigenvalues or singular values meet: their samples keep them apart."""

LEFT_OUT = frozenset(
    {"core.constant", "core.return", "core.call", "core.bind", "core.relayout", "core.fused"}
)


@dataclass
class Entry:
    """A value of the pool; `exact` when every correct implementation gives the same bits."""

    value: Value
    exact: bool


@dataclass
class Growth:
    """A graph that grows.

    Attributes:
        b: builds at its end; facts are never assumed, so an op that needs one is turned down.
        prefix: of the names of its inputs, outputs and symbols.
        inputs: arrays by input name.
    """

    b: Builder
    rng: random.Random
    prefix: str
    specials: bool
    inputs: dict[str, Array] = field(default_factory=dict)
    pool: list[Entry] = field(default_factory=list)
    extent: Any = None
    length: int = 0

    # -- leaves -------------------------------------------------------------------------------------

    def numbers(self, dtype: DType, shape: Sequence[int]) -> Array:
        """Plain values; in some graphs NaN and infinities stand among the floats."""
        array = random_values(dtype, shape, np.random.default_rng(self.rng.randrange(1 << 32)))
        if self.specials and dtype.is_float and dtype.bits >= 16 and array.size > 2:
            flat = array.reshape(-1).copy()
            for special in (np.nan, np.inf, -np.inf):
                if self.rng.random() < 0.4:
                    flat[self.rng.randrange(flat.size)] = special
            array = flat.reshape(array.shape)
        return array

    def leaf(self, array: Array, symbolic_axis: int | None = None) -> Value:
        """A new input (or a constant) that has this value."""
        type_ = type_of(array)
        assert isinstance(type_, TensorType)
        if symbolic_axis is None and self.rng.random() < 0.25:
            return self.b.constant(array)
        if symbolic_axis is not None:
            shape = (*type_.shape[:symbolic_axis], self.extent, *type_.shape[symbolic_axis + 1 :])
            type_ = TensorType(type_.dtype, shape)
        name = f"{self.prefix}x{len(self.inputs)}"
        self.inputs[name] = array
        return self.b.input(name, type_)

    def start(self) -> None:
        """The first inputs."""
        for _ in range(self.rng.randint(1, 3)):
            dtype = DTYPES[self.rng.choice(DTYPES_OF_INPUTS)]
            shape = self.shape()
            axis = None
            if self.extent is not None and shape and self.rng.random() < 0.7:
                axis = self.rng.randrange(len(shape))
                shape[axis] = self.length
            self.pool.append(Entry(self.leaf(self.numbers(dtype, shape), axis), True))

    def shape(self) -> list[int]:
        """Extents that are odd, one, and seldom zero."""
        rank = self.rng.choice((0, 1, 2, 2, 3, 3, 4))
        shape = [self.rng.choice(EXTENTS) for _ in range(rank)]
        while int(np.prod(shape)) > LARGEST:
            shape[self.rng.randrange(rank)] = self.rng.choice((1, 2, 3))
        if rank and self.rng.random() < 0.03:
            shape[self.rng.randrange(rank)] = 0
        return shape

    # -- steps --------------------------------------------------------------------------------------

    def step(self) -> None:
        """Try to add one op; what the op turns down is forgotten."""
        kind = self.rng.random()
        try:
            if kind < 0.45:
                self.elementwise()
            elif kind < 0.72:
                self.structural()
            elif kind < 0.97:
                self.sampled()
            else:
                self.control()
        except AinoError:
            return

    def emit(self, cls: type[Op], *operands: Value | None, exact: bool = True, **attrs: Any) -> None:
        """Add an op and its results to the pool."""
        op = self.b.op(cls, *operands, **attrs)
        for result in op.results:
            if isinstance(result.type, TensorType):
                self.pool.append(Entry(result, exact or not result.dtype.is_float))

    def pick(self, wanted: Callable[[Entry], bool]) -> Entry | None:
        """A value of the pool, the newer ones more often."""
        found = [e for e in self.pool if wanted(e)]
        if not found:
            return None
        return found[-1] if self.rng.random() < 0.4 else self.rng.choice(found)

    def elementwise(self) -> None:
        """An elementwise op on values of one dtype."""
        cls = self.rng.choice(elementwise_ops())
        smooth = cls.name in SMOOTH
        first = self.pick(lambda e: ACCEPTS[cls.accepts](e.value.dtype) and (e.exact or smooth))
        if first is None:
            return
        dtype, exact = first.value.dtype, first.exact
        operands = [first.value]
        divides = cls.checks is not Elementwise.checks and dtype.is_integer
        for _ in range(len(cls.declaration.operands) - 1):
            other = None
            if not divides and self.rng.random() < 0.6:
                other = self.pick(lambda e: e.value.dtype is dtype and (e.exact or smooth))
            if other is None:
                operands.append(self.partner(first.value, divides))
            else:
                operands.append(other.value)
                exact = exact and other.exact
        keeps = cls.name in KEEP_EXACT or not dtype.is_float
        attrs = dict(self.rng.choice(cls.sample_attrs))
        self.emit(cls, *operands, exact=exact and keeps, **attrs)

    def partner(self, x: Value, divides: bool) -> Value:
        """A new operand that broadcasts with x."""
        shape = [int(d) if is_static(d) and self.rng.random() < 0.7 else 1 for d in x.shape]
        shape = shape[self.rng.randint(0, len(shape)) :]
        array = self.numbers(x.dtype, shape)
        if divides:
            array = np.where(array == 0, 1, array).astype(array.dtype)
        return self.leaf(array)

    def structural(self) -> None:
        """A transpose, slice, reduction ... of a value, symbolic extents included."""
        entry = self.pick(lambda e: e.value.rank >= 1)
        if entry is None:
            return
        x, rank = entry.value, entry.value.rank
        axis = self.rng.randrange(rank)
        choice = self.rng.choice(
            ("transpose", "slice", "reduce", "softmax", "concat", "pad", "reshape", "cast", "matmul")
        )
        if choice == "transpose":
            self.emit(op_class("transpose"), x, perm=self.rng.sample(range(rank), rank), exact=entry.exact)
        elif choice == "slice":
            self.cut(entry, axis)
        elif choice == "reduce":
            name = self.rng.choice(
                sorted(ROBUST - {"scan.cumsum"}) if x.dtype.is_float else ("reduce.sum", "reduce.max")
            )
            axes = tuple(sorted(self.rng.sample(range(rank), self.rng.randint(1, rank))))
            keeps = entry.exact and name in ("reduce.max", "reduce.min")
            self.emit(OPS[name], x, axes=axes, keepdims=self.rng.random() < 0.5, exact=keeps)
        elif choice == "softmax" and x.dtype.is_float:
            name = self.rng.choice(("normalize.softmax", "normalize.log_softmax"))
            self.emit(OPS[name], x, axis=axis, exact=False)
        elif choice == "concat":
            other = self.pick(lambda e: e.value.dtype is x.dtype and e.value.rank == rank)
            values = [x, x if other is None else other.value]
            self.emit(
                op_class("concat"), *values, axis=axis, exact=entry.exact and (other is None or other.exact)
            )
        elif choice == "pad":
            before, after = ([self.rng.choice((0, 0, 1, 2)) for _ in range(rank)] for _ in range(2))
            self.emit(op_class("pad"), x, before=before, after=after, exact=entry.exact)
        elif choice == "reshape" and rank >= 2:
            at = min(axis, rank - 2)
            merged = (*x.shape[:at], x.shape[at] * x.shape[at + 1], *x.shape[at + 2 :])
            self.emit(op_class("reshape"), x, shape=merged, exact=entry.exact)
        elif choice == "cast":
            to = (
                self.rng.choice(("f32", "f64", "f16", "bf16"))
                if x.dtype.is_float
                else self.rng.choice(DTYPE_NAMES)
            )
            self.emit(op_class("cast"), x, to=to, exact=entry.exact)
        elif choice == "matmul" and rank >= 2 and is_static(x.shape[-1]) and not x.dtype.is_bool:
            w = self.leaf(self.numbers(x.dtype, (int(x.shape[-1]), self.rng.choice(EXTENTS))))  # type: ignore[arg-type]
            self.emit(op_class("matmul"), x, w, exact=False)

    def cut(self, entry: Entry, axis: int) -> None:
        """A slice of one axis, forwards or backwards."""
        x = entry.value
        extent = x.shape[axis]
        if not is_static(extent) or int(extent) < 2:  # type: ignore[arg-type]
            return
        length = int(extent)  # type: ignore[arg-type]
        step = self.rng.choice((1, 1, 2, -1))
        starts, sizes, steps = [0] * x.rank, list(x.shape), [1] * x.rank
        size = self.rng.randint(1, max(1, length // abs(step) - 1))
        span = (size - 1) * abs(step)
        low = self.rng.randint(0, length - 1 - span)
        starts[axis], sizes[axis], steps[axis] = (low if step > 0 else low + span), size, step
        self.emit(op_class("slice"), x, starts=starts, sizes=sizes, steps=steps, exact=entry.exact)

    def sampled(self) -> None:
        """A conformance sample of any op, some of whose operands are values of the pool."""
        name = self.rng.choice(sampled_ops())
        cls, sample = OPS[name], self.rng.choice(samples_of(name))
        sizes = [a.size for a in sample.operands if a is not None]
        if any(size > LARGEST for size in sizes) or (self.specials and name in SPREADS_SPECIALS):
            return
        robust = name.partition(".")[0] in ROBUST_FAMILIES or name in ROBUST
        operands: list[Value | None] = []
        exact = True
        names = [n for n, _ in cls.declaration.operands]
        for place, array in enumerate(sample.operands):
            if array is None:
                operands.append(None)
                continue
            operand = names[min(place, len(names) - 1)]
            free = operand not in cls.domain and operand not in GUARDED | {
                "" if name not in DECIDED_BY_SAMPLES else operand
            }
            free = free and not divides_integers(cls, array)
            made = self.adapted(array, robust) if free and self.rng.random() < 0.6 else None
            if made is None:
                operands.append(self.leaf(np.asarray(array)))
            else:
                operands.append(made.value)
                exact = exact and made.exact
        keeps = name.partition(".")[0] in ("tensor", "index", "core") or name in KEEP_EXACT
        self.emit(cls, *operands, exact=exact and keeps, **sample.attrs)

    def adapted(self, array: Array, robust: bool) -> Entry | None:
        """A value of the pool made to have an array's dtype and shape, or None."""
        wanted = type_of(array)
        assert isinstance(wanted, TensorType)
        count = array.size
        entry = self.pick(
            lambda e: (
                (e.exact or robust)
                and (e.value.dtype is wanted.dtype or (e.value.dtype.is_float and wanted.dtype.is_float))
                and e.value.type.is_static  # type: ignore[union-attr]
                and count <= 4 * int(e.value.type.size)
            )  # type: ignore[union-attr]
        )
        if entry is None or not count:
            return None
        b, x = self.b, entry.value
        x = x if x.dtype is wanted.dtype else b.cast(x, to=wanted.dtype)
        size = int(x.type.size)
        flat = b.reshape(x, shape=(size,))
        if size < count:
            flat = b.concat(*[flat] * -(-count // size), axis=0)
        if int(flat.shape[0]) > count:
            flat = b.slice(flat, starts=(0,), sizes=(count,), steps=(1,))
        return Entry(b.reshape(flat, shape=array.shape), entry.exact)

    def control(self) -> None:
        """A choice, a loop or a scan around a little arithmetic."""
        entry = self.pick(
            lambda e: (
                e.value.dtype.name in ("f32", "i32")
                and e.value.rank >= 1
                and all(map(is_static, e.value.shape[1:]))
            )
        )
        if entry is None:
            return
        b, x = self.b, entry.value
        kind = self.rng.choice(("if", "loop", "scan"))
        if kind == "if":
            condition = self.leaf(np.asarray(self.rng.random() < 0.5))
            regions = [
                b.region([x.type], lambda r, v: [r.neg(v)]),
                b.region([x.type], lambda r, v: [r.mul(v, v)]),
            ]
            op = b.op(op_class("control.if"), condition, x, regions=regions)
        elif kind == "loop":
            body = b.region(
                [TensorType(DTYPES["i64"], ()), TensorType(DTYPES["bool"], ()), x.type, x.type],
                lambda r, i, go, carried, seen: [go, r.sub(seen, carried), r.neg(carried)],
            )
            trips = b.constant(np.int64(self.rng.randint(0, 4)))
            op = b.op(op_class("control.loop"), trips, None, x, x, carried=1, regions=[body])
        else:
            element = TensorType(x.dtype, x.shape[1:])
            start = self.leaf(self.numbers(x.dtype, [int(d) for d in x.shape[1:]]))  # type: ignore[arg-type]
            body = b.region([element, element], lambda r, s, e: [r.sub(e, s), r.max(s, e)])
            op = b.op(op_class("control.scan"), start, x, states=1, regions=[body])
        for result in op.results:
            self.pool.append(Entry(result, not result.dtype.is_float))

    # -- the end ------------------------------------------------------------------------------------

    def finish(self) -> int:
        """Name what nobody reads (and something besides) as outputs; returns how many."""
        last = [e.value for e in self.pool if not e.value.users] or [self.pool[-1].value]
        outputs = list(dict.fromkeys([*last, self.rng.choice(self.pool).value]))[-8:]
        for n, value in enumerate(outputs):
            self.b.output(f"{self.prefix}y{n}", value)
        return len(outputs)


GUARDED = frozenset({"indices", "positions", "lengths", "roots", "sequence", "variance", "rhs_index"})
"""Operands whose values must fit something else."""


def divides_integers(cls: type[Op], array: Array) -> bool:
    """Whether an operand could be an integer that something is divided by."""
    return issubclass(cls, Elementwise) and cls.checks is not Elementwise.checks and array.dtype.kind in "iu"


@cache
def elementwise_ops() -> tuple[type[Elementwise], ...]:
    """Elementwise ops whose operands all have one dtype."""
    found = [c for _, c in sorted(OPS.items()) if issubclass(c, Elementwise) and c.derive_samples]
    return tuple(c for c in found if c.__module__.startswith("aino_ir.") and c.name not in LEFT_OUT)


@cache
def sampled_ops() -> tuple[str, ...]:
    """Ops with samples, but host ops and those that hold programs together."""
    return tuple(
        name
        for name, cls in sorted(OPS.items())
        if cls.__module__.startswith("aino_ir.")
        and name not in LEFT_OUT
        and not cls.has(Trait.HOST)
        and samples_of(name)
    )


@cache
def samples_of(name: str) -> tuple[Sample, ...]:
    """The conformance samples of an op, but those with arrays that are all edges."""
    found = [*samples_for(OPS[name]), *MORE_SAMPLES.get(name, ())]
    return tuple(s for s in found if "edges" not in s.note and "NaN" not in s.note and "inf" not in s.note)


@dataclass(frozen=True)
class Graph:
    """A finished graph: its module and inputs by name."""

    seed: str
    module: Module
    inputs: dict[str, Array]

    @property
    def arrays(self) -> list[Array]:
        """Inputs in order."""
        return [self.inputs[name] for name in self.module.main.input_names]


def grow(function: Function, seed: str, prefix: str = "", steps: int = 12) -> tuple[dict[str, Array], int]:
    """Grow the graph of a seed at the end of a function; returns its inputs and number of outputs."""
    rng = random.Random(zlib.crc32(seed.encode()))
    b = builder_of(function)
    growth = Growth(b, rng, prefix, specials=rng.random() < 0.2)
    if rng.random() < 0.4:
        growth.length = rng.choice((1, 2, 3, 5, 8, 13))
        growth.extent = b.symbol(f"{prefix}n", 1)
    growth.start()
    for _ in range(rng.randint(2, steps)):
        growth.step()
    return growth.inputs, growth.finish()


def builder_of(function: Function) -> Builder:
    """A builder at the function's end that assumes nothing; one a function, so that outputs add up."""
    found = _BUILDERS.get(id(function))
    if found is None or found.function is not function:
        found = _BUILDERS[id(function)] = Builder(function, record=False)
    return found


_BUILDERS: dict[int, Builder] = {}


def graph_of(seed: str) -> Graph:
    """The graph of a seed, alone."""
    function = Module("fuzz").add_function()
    inputs, _ = grow(function, seed)
    b = _BUILDERS.pop(id(function))
    return Graph(seed, b.module, inputs)


def graphs_of(seeds: Sequence[str]) -> tuple[Module, dict[str, Array], list[int]]:
    """The graphs of seeds side by side in one module; its inputs, and outputs a graph."""
    function = Module("fuzz").add_function()
    inputs: dict[str, Array] = {}
    counts = []
    for n, seed in enumerate(seeds):
        more, count = grow(function, seed, f"g{n}_")
        inputs.update(more)
        counts.append(count)
    return _BUILDERS.pop(id(function)).module, inputs, counts
