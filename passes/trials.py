"""Runs the two regions of a rewrite site on equal inputs and compares what they give."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from aino_ir.constants import Const
from aino_ir.dims import Dim, symbol
from aino_ir.dtypes import DType, integer_range
from aino_ir.errors.base import AinoError
from aino_ir.errors.dims import UnknownSymbol
from aino_ir.graph import Function, Value
from aino_ir.interp import Evaluation, Precision, run_op
from aino_ir.op import Op, Trait
from aino_ir.passes.region_copies import Copier, Copy, Shrink, shrinking
from aino_ir.passes.sites import Site, Substitution
from aino_ir.sampling import edge_values
from aino_ir.structural import block_hash
from aino_ir.symbols import Symbols
from aino_ir.tolerance import disagreement
from aino_ir.types import TensorType

Array = np.ndarray[Any, Any]

WORK_LIMIT = 2e10
"""Regions with more floating-point operations are not run."""

CHEAP = 1e6
"""Regions with fewer operations are run as they are."""

SMALL_EXTENTS = (3, 4, 5, 8, 2, 16, 1, 64, 128)
"""About which values symbols get in trials, in the order of preference."""

TELLING = np.array([np.nan, np.inf, -0.0, -np.inf, 0.0, 1.0, -1.0])
"""Edge values that every trial of edges has, as far as its arrays have room."""

ELEMENT_LIMIT = 1 << 27
"""Regions with a value of more elements are not run."""


class Unrunnable(Exception):
    """A site that cannot be run: no arrays of its types, no extents that fit its symbols, too much work."""


class Trial:
    """One site, with both regions copied, symbols bound, and ways to make inputs."""

    def __init__(self, site: Site, function: Function, substitution: Substitution, error_class: str) -> None:
        self.site = site
        self.function = function
        self.substitution = substitution
        self.error_class = error_class
        self.precision: Precision = "native" if error_class == "exact" else "wide"
        for value in site_values(site):
            if not isinstance(value.type, TensorType):
                raise Unrunnable(f"%{value.id} is a {value.type}")
        self.bindings = sample_bindings(function.symbols, site_values(site))
        self.real = real_constants(site)
        self.old, self.new = self._copies()

    def key(self) -> Hashable:
        """What makes two sites the same question: both copies, and how they are wired to each other."""
        number: dict[Hashable, int] = {}
        for value in self.old.values:
            number.setdefault(self._identity(value), len(number))
        sides = []
        for copy in (self.old, self.new):
            arguments = []
            for identity, original in copy.arguments.values():
                known = original.known if isinstance(original, Value) else None
                contents = None if known is None else tuple(map(str, known.reshape(-1).tolist()))
                arguments.append((number.setdefault(identity, len(number)), contents))
            sides.append((block_hash(copy.function.block), tuple(arguments)))
        places = [{v: i for i, v in enumerate(values_of(c))} for c in (self.old, self.new)]
        wiring = tuple(
            (places[0][self.old.values[o]], places[1][self.new.values[n]]) for o, n in self.site.pairs
        )
        numbered = tuple((number[self._identity(v)], places[0][c]) for v, c in self.old.values.items())
        return (self.error_class, tuple(sides), wiring, numbered)

    def judge(self) -> str | None:
        """Why the regions disagree, or None."""
        reason, undefined = self._compare("plain")
        if reason is None and undefined:
            reason, _ = self._compare("positive")
        if reason is None and self.error_class == "exact" and self._pointwise():
            reason, _ = self._compare("edges")
        return reason

    # -- copies -----------------------------------------------------------------------------------------

    def _copies(self) -> tuple[Copy, Copy]:
        """Both regions as functions, as small as they get."""
        error: AinoError | None = None
        for shrink in self._shrinkings():
            try:
                old = self._copy(self.site.old, [o for o, _ in self.site.pairs], shrink)
                new = self._copy(self.site.new, [n for _, n in self.site.pairs], shrink)
            except AinoError as failed:
                error = failed
                continue
            pairs = [(old.values[o], new.values[n]) for o, n in self.site.pairs]
            if all(a.type == b.type for a, b in pairs) or not shrink:
                self._refuse_too_much(old, new)
                return old, new
        raise Unrunnable(f"the region cannot be copied: {error.message if error else 'types differ'}")

    def _copy(self, ops: list[Op], outputs: list[Value], shrink: Shrink) -> Copy:
        return Copier(self.function, self._identity, self.site.held, self.real, shrink).region(ops, outputs)

    def _identity(self, value: Value) -> Hashable:
        return self.site.identity(value, self.substitution)

    def _shrinkings(self) -> Iterator[Shrink]:
        """Substitutions of extents to try: all large ones, those of inner axes, none."""
        leaves = frontier(self.site)
        handles = {h.identity: h for h in self._handles()}
        real = [h.shape for identity, h in handles.items() if identity in self.real]
        kept = {d for shape in real for d in shape}
        if self._work((*self.site.old, *self.site.new)) > CHEAP and all(v.known is None for v in leaves):
            shapes = [v.shape for v in leaves] + [h.shape for h in handles.values()]
            for from_axis in (0, 2):
                found = shrinking(shapes, kept, from_axis)
                if found:
                    yield found
        yield {}

    def _handles(self) -> list[Const]:
        outputs = [v for pair in self.site.pairs for v in pair]
        read = operands_of((*self.site.old, *self.site.new))
        return leaf_handles(map(self.site.held, (*read, *outputs)))

    def _work(self, ops: Iterable[Op]) -> float:
        ev = Evaluation(self.precision, dict(self.bindings))
        return float(sum(ev.size(inner.cost()) for op in ops for inner in (op, *inner_ops(op))))

    def _refuse_too_much(self, old: Copy, new: Copy) -> None:
        ev = Evaluation(self.precision, dict(self.bindings))
        for op in (*old.ops, *new.ops):
            for value in op.results:
                if isinstance(value.type, TensorType) and ev.size(value.type.size) > ELEMENT_LIMIT:
                    raise Unrunnable(f"a value of {value.type.size} elements")
        work = self._work((*old.ops, *new.ops))
        if work > WORK_LIMIT:
            raise Unrunnable(f"{work:.2g} operations")

    def _pointwise(self) -> bool:
        ops = (*self.site.old, *self.site.new)
        return all(op.has(Trait.ELEMENTWISE) or op.name.startswith("tensor.") for op in ops)

    # -- running ----------------------------------------------------------------------------------------

    def _compare(self, kind: str) -> tuple[str | None, bool]:
        """(why the sides differ, whether most of a result is NaN)."""
        inputs = Inputs(self, kind)
        try:
            before = self._run(self.old, inputs, {})
        except (AinoError, ValueError) as error:  # ValueError: extents that no fact relates, drawn apart
            if kind == "plain":
                why = error.message if isinstance(error, AinoError) else str(error)
                raise Unrunnable(f"the old region fails: {why}") from error
            return None, False
        known = {self._identity(v): before[c] for v, c in self.old.values.items()}
        try:
            after = self._run(self.new, inputs, known)
        except AinoError as error:
            return f"the new region fails: {error.message}", False
        undefined = False
        for old, new in self.site.pairs:
            reference, actual = before[self.old.values[old]], after[self.new.values[new]]
            reason = self._disagreement(new, actual, reference)
            if reason is not None:
                return f"%{old.id} -> %{new.id}: {reason}", False
            undefined |= reference.dtype.kind == "f" and bool(np.mean(np.isnan(reference)) > 0.5)
        return None, undefined

    def _run(self, copy: Copy, inputs: Inputs, known: Mapping[Hashable, Array]) -> dict[Value, Array]:
        ev = Evaluation(self.precision, dict(self.bindings))
        env: dict[Value, Array] = {}
        for argument, (identity, original) in copy.arguments.items():
            given = known.get(identity)
            env[argument] = given if given is not None else inputs.of(identity, argument, original)
        for op in copy.ops:
            run_op(op, env, ev)
        return env

    @cached_property
    def _terms(self) -> int:
        """Length of the longest sum in either region."""
        ev = Evaluation(self.precision, dict(self.bindings))
        return longest_sum(
            (inner for op in (*self.old.ops, *self.new.ops) for inner in (op, *inner_ops(op))), ev
        )

    def _disagreement(self, value: Value, actual: Array, reference: Array) -> str | None:
        assert isinstance(value.type, TensorType)
        dtype = value.type.dtype
        with np.errstate(all="ignore"):
            return disagreement(actual, reference, self.error_class, dtype=dtype, terms=self._terms)


class Inputs:
    """Arrays for what regions read, made once each."""

    def __init__(self, trial: Trial, kind: str) -> None:
        self.trial = trial
        self.kind = kind
        self.rng = np.random.default_rng(20_260_801)
        self._arrays: dict[Hashable, Array] = {}
        self._domains = index_domains((*trial.old.ops, *trial.new.ops))

    def of(self, identity: Hashable, argument: Value, original: Value | Const) -> Array:
        """The array for an argument of a copied region."""
        if identity not in self._arrays:
            self._arrays[identity] = self._made(argument, original)
        return self._arrays[identity]

    def _made(self, argument: Value, original: Value | Const) -> Array:
        assert isinstance(argument.type, TensorType)
        if isinstance(original, Value) and original.known is not None:
            ev = Evaluation("native", dict(self.trial.bindings))
            flat = [ev.size(d) for d in original.known.reshape(-1).tolist()]
            return np.array(flat, original.dtype.numpy).reshape(original.known.shape)
        return self._random(argument.type, self._domains.get(argument))

    def _random(self, type: TensorType, domain: tuple[Any, Any] | None) -> Array:
        ev = Evaluation(self.trial.precision, dict(self.trial.bindings))
        return random_array(type, ev, self.rng, self.kind, domain)


def random_array(
    type: TensorType,
    ev: Evaluation,
    rng: np.random.Generator,
    kind: str,
    domain: tuple[Any, Any] | None = None,
) -> Array:
    """An array of a type, as `ev` keeps arrays (f64 for floats when wide).

    Args:
        type: dtype and shape.
        ev: values of symbols, and the precision.
        rng: where the values come from.
        kind: of floats: ``plain`` (normal), ``positive``, ``edges``, or ``dyadic`` (multiples of 1/4 within
            +-2, whose sums and products are exact); integers are always small, and not 0 when ``positive``.
        domain: bounds of integers that are used as indices, both inclusive.
    """
    shape, dtype = ev.dims(type.shape), type.dtype
    if dtype.is_bool:
        return np.asarray(rng.random(shape) < 0.5)
    if dtype.is_integer:
        least_made = 1 if kind == "positive" else 0
        low, high = (least_made, 9) if domain is None else (ev.size(domain[0]), ev.size(domain[1]))
        least, most = integer_range(dtype)
        drawn = rng.integers(max(low, least), min(high, most), shape, endpoint=True)
        return np.asarray(drawn).astype(dtype.numpy)
    if kind == "edges":
        made = _edges(dtype, shape, rng)
    elif kind == "dyadic":
        made = rng.integers(-8, 8, shape, endpoint=True) / 4.0
    else:
        made = rng.standard_normal(shape)
        made = np.abs(made) + 0.1 if kind == "positive" else made
    with np.errstate(all="ignore"):
        rounded = np.asarray(made).astype(dtype.numpy)
    return rounded.astype(np.float64) if ev.wide else rounded


def _edges(dtype: DType, shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    """Values where implementations go wrong, those that are most telling in any case."""
    size = int(np.prod(shape, dtype=np.int64))
    rest = rng.choice(edge_values(dtype).astype(np.float64), max(0, size - len(TELLING)))
    return rng.permutation(np.concatenate([TELLING, rest])[:size]).reshape(shape)


def longest_sum(ops: Iterable[Op], ev: Evaluation) -> int:
    """Operations behind one element of a result, or the largest extent that is read, if that is more."""
    longest = 1
    for op in ops:
        try:
            sizes = [ev.size(r.type.size) for r in op.results if isinstance(r.type, TensorType)]
            longest = max([longest, *(ev.size(op.cost()) // max(1, size) for size in sizes)])
            read = [v.type for v in op.present_operands() if isinstance(v.type, TensorType)]
            longest = max([longest, *(ev.size(d) for type in read for d in type.shape)])
        except UnknownSymbol:  # an extent that data decides
            continue
    return longest


def values_of(copy: Copy) -> Iterator[Value]:
    """Arguments and results of a copied region, in order."""
    yield from copy.function.block.args
    for op in copy.ops:
        yield from op.results


def inner_ops(op: Op) -> Iterator[Op]:
    """Ops in the regions of an op."""
    for region in op.regions:
        yield from region.walk()


def site_values(site: Site) -> Iterator[Value]:
    """Every value that a site mentions."""
    for op in (*site.old, *site.new):
        yield from op.present_operands()
        yield from op.results
    for pair in site.pairs:
        yield from pair


def frontier(site: Site) -> list[Value]:
    """Values that the regions read and do not make, constants left out."""
    made = {r for op in (*site.old, *site.new) for r in op.results}
    return [v for v in dict.fromkeys(site_values(site)) if v not in made and site.held(v) is None]


def real_constants(site: Site) -> set[Hashable]:
    """Identities of handles whose bytes matter: what a rule read, and what only the new side has."""
    before, after = operands_of(site.old), operands_of(site.new)
    old = {h.identity for h in leaf_handles(map(site.held, (*before, *(o for o, _ in site.pairs))))}
    new = {h.identity for h in leaf_handles(map(site.held, (*after, *(n for _, n in site.pairs))))}
    constants = [site.constants.get(v, v) for v in before]
    read = [v for v in constants if v.op is not None and v.op.id in site.read]
    return {h.identity for h in leaf_handles(map(site.held, read))} | (new - old)


def operands_of(ops: Iterable[Op]) -> list[Value]:
    """What ops read."""
    return [v for op in ops for v in op.present_operands()]


def leaf_handles(handles: Iterable[Const | None]) -> list[Const]:
    """Constants, lazy ones replaced by what they are computed from."""
    out: list[Const] = []
    work = list(handles)
    while work:
        handle = work.pop()
        if handle is None:
            continue
        if handle.is_lazy:
            work.extend(handle.inputs)
        else:
            out.append(handle)
    return out


def index_domains(ops: Iterable[Op]) -> dict[Value, tuple[Any, Any]]:
    """Legal values of the operands that ops use as indices."""
    out: dict[Value, tuple[Any, Any]] = {}
    for op in ops:
        for name, bounds in op.domain.items():
            start, stop = op.segments()[name]
            for value in op.operands[start:stop]:
                if value is not None:
                    out[value] = bounds(op)
    return out


def sample_bindings(
    symbols: Symbols, values: Iterable[Value], names: Iterable[str] = (), bases: Sequence[int] = SMALL_EXTENTS
) -> dict[str, int]:
    """Values for symbols that fit everything that is known about them: small ones unless told otherwise.

    Args:
        symbols: the table.
        values: the symbols in their types are bound.
        names: more symbols to bind.
        bases: about which values to try, in order.

    Raises:
        Unrunnable: none of them fits.
    """
    names = set(names)
    for value in values:
        if isinstance(value.type, TensorType):
            for d in value.type.shape:
                names |= d.free_symbols() if isinstance(d, Dim) else set()
    for name in list(names):
        solved = symbols.canonical(symbol(name))
        names |= solved.free_symbols() if isinstance(solved, Dim) else set()
    if not names:
        return {}
    for base in bases:
        found = _bound(symbols, sorted(names), base)
        if found is not None:
            return found
    raise Unrunnable("no small extents fit the symbols' facts")


def _bound(symbols: Symbols, names: list[str], base: int) -> dict[str, int] | None:
    """Values about `base` that fit: different ones, else equal ones, which meet more demands on products."""
    for spread in (3, 1):
        bindings = _spread(symbols, names, base, spread)
        if bindings is not None:
            return bindings
    return None


def _spread(symbols: Symbols, names: list[str], base: int, spread: int) -> dict[str, int] | None:
    solutions = symbols.solutions()
    bindings: dict[str, int] = {}
    for offset, name in enumerate(names):
        if name in solutions:
            continue
        low, high = symbols.interval(symbol(name))
        step = max(1, symbols.declared(name).divisible_by) if name in symbols else 1
        value = max(-(-(base + offset % spread) // step) * step, low or 0)
        bindings[name] = value if high is None else min(value, high)
    try:
        for name in names:
            if name in solutions:
                bindings[name] = symbols.evaluate(symbol(name), bindings)
        for after in dict.fromkeys((None, *(c.after_op for c in symbols.checks))):
            symbols.check_bindings(bindings, after)
    except AinoError:
        return None
    return bindings
