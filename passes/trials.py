"""Runs the two regions of a rewrite site on equal inputs and compares what they give."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from aino_ir.constants import Const
from aino_ir.dims import Dim, symbol
from aino_ir.dtypes import integer_range
from aino_ir.errors.base import AinoError
from aino_ir.graph import Function, Value
from aino_ir.interp import Evaluation, Precision, evaluate_block, run_op
from aino_ir.op import Op, Trait
from aino_ir.passes.sites import Site, Substitution
from aino_ir.pattern import constant_of
from aino_ir.sampling import edge_values
from aino_ir.symbols import Symbols
from aino_ir.tolerance import disagreement
from aino_ir.types import TensorType

Array = np.ndarray[Any, Any]

WORK_LIMIT = 2e10
"""Regions with more floating-point operations are not run."""

ELEMENT_LIMIT = 1 << 27
"""Nor are those with a value of more elements."""


class Unrunnable(Exception):
    """A site that cannot be run: data of types without arrays, symbols without a fitting value, too much work."""


class Trial:
    """One site, with bound symbols and ways to make inputs."""

    def __init__(self, site: Site, function: Function, substitution: Substitution, error_class: str) -> None:
        self.site = site
        self.function = function
        self.substitution = substitution
        self.error_class = error_class
        self.precision: Precision = "native" if error_class == "exact" else "wide"
        self.bindings = sample_bindings(function.symbols, self._values())
        self.real = self._real_constants()
        self._refuse_too_much()

    def judge(self) -> str | None:
        """Why the regions disagree, or None."""
        reason, undefined = self._compare("plain")
        if reason is None and undefined:
            reason, _ = self._compare("positive")
        if reason is None and self.error_class == "exact" and self._pointwise():
            reason, _ = self._compare("edges")
        return reason

    # -- what is needed to run ------------------------------------------------------------------------

    def _values(self) -> Iterator[Value]:
        for op in (*self.site.old, *self.site.new):
            yield from op.present_operands()
            yield from op.results
        for old, new in self.site.pairs:
            yield from (old, new)

    def _real_constants(self) -> set[int]:
        """Ids of handles whose bytes matter: what a rule read, or all where the new side has data of its own."""
        old = set(map(id, leaf_handles(self.site.old, [o for o, _ in self.site.pairs])))
        new = set(map(id, leaf_handles(self.site.new, [n for _, n in self.site.pairs])))
        if new - old:
            return old | new
        read = [
            v for op in self.site.old for v in op.present_operands() if v.op and v.op.id in self.site.read
        ]
        return set(map(id, leaf_handles((), read)))

    def _refuse_too_much(self) -> None:
        ev = Evaluation(self.precision, dict(self.bindings))
        for value in self._values():
            if not isinstance(value.type, TensorType):
                raise Unrunnable(f"%{value.id} is a {value.type}")
            if ev.size(value.type.size) > ELEMENT_LIMIT:
                raise Unrunnable(f"%{value.id} has {value.type.size} elements")
        work = sum(ev.size(op.cost()) for op in (*self.site.old, *self.site.new))
        if work > WORK_LIMIT:
            raise Unrunnable(f"{work:.2g} operations")

    def _pointwise(self) -> bool:
        return all(
            op.has(Trait.ELEMENTWISE) or op.name.startswith("tensor.")
            for op in (*self.site.old, *self.site.new)
        )

    # -- running ----------------------------------------------------------------------------------------

    def _compare(self, kind: str) -> tuple[str | None, bool]:
        """(why the sides differ, whether most of a result is NaN)."""
        inputs = Inputs(self, kind)
        try:
            before = self._run(self.site.old, inputs, {})
        except AinoError as error:
            if kind == "plain":
                raise Unrunnable(f"the old region fails: {error.message}") from error
            return None, False
        known = {self.substitution.final(v.id): a for v, a in before.items()}
        try:
            after = self._run(self.site.new, inputs, known)
        except AinoError as error:
            return f"the new region fails: {error.message}", False
        undefined = False
        for old, new in self.site.pairs:
            reference = before[old] if old in before else inputs.of(old)
            actual = after[new] if new in after else self._outside(new, known, inputs)
            reason = self._disagreement(new, actual, reference)
            if reason is not None:
                return f"%{old.id} -> %{new.id}: {reason}", False
            undefined |= reference.dtype.kind == "f" and bool(np.isnan(reference).mean() > 0.5)
        return None, undefined

    def _outside(self, value: Value, known: Mapping[int, Array], inputs: Inputs) -> Array:
        found = known.get(value.id)
        return found if found is not None else inputs.of(value)

    def _disagreement(self, value: Value, actual: Array, reference: Array) -> str | None:
        if not isinstance(value.type, TensorType):
            return None
        dtype = value.type.dtype
        with np.errstate(all="ignore"):
            return disagreement(actual, reference, self.error_class, dtype=dtype, terms=self._terms())

    def _terms(self) -> int:
        """Length of the longest sum in either region."""
        ev = Evaluation(self.precision, dict(self.bindings))
        longest = 1
        for op in (*self.site.old, *self.site.new):
            for inner in (op, *(o for r in op.regions for o in r.walk())):
                for result in inner.results:
                    size = max(1, ev.size(result.type.size))  # type: ignore[union-attr]
                    longest = max(longest, ev.size(inner.cost()) // size)
                for operand in inner.present_operands():
                    longest = max([longest, *map(ev.size, operand.shape)])
        return longest

    def _run(self, ops: list[Op], inputs: Inputs, known: Mapping[int, Array]) -> dict[Value, Array]:
        ev = Evaluation(self.precision, dict(self.bindings))
        env: dict[Value, Array] = {}
        computed = {r for op in ops for r in op.results}
        for op in ops:
            for v in op.present_operands():
                if v not in env and v not in computed:
                    env[v] = self._outside(v, known, inputs)
            run_op(op, env, ev)
        return env


class Inputs:
    """Arrays for frontier values and constants, made once each."""

    def __init__(self, trial: Trial, kind: str) -> None:
        self.trial = trial
        self.kind = kind
        self.rng = np.random.default_rng(20_260_801)
        self._arrays: dict[object, Array] = {}
        self._domains = index_domains((*trial.site.old, *trial.site.new))

    def of(self, value: Value) -> Array:
        """The array of a frontier value."""
        handle = constant_of(value)
        if handle is not None:
            return self.constant(handle)
        key = ("value", self.trial.substitution.final(value.id))
        if key not in self._arrays:
            self._arrays[key] = self._made(value)
        return self._arrays[key]

    def constant(self, handle: Const) -> Array:
        """A constant: lazy ones are computed from their inputs, real ones are read, others are random."""
        if handle.block is not None:
            arrays = [self.constant(c) for c in handle.inputs]
            (result,) = evaluate_block(handle.block, arrays, self.trial.precision)
            return np.asarray(result)
        wide = self.trial.precision == "wide"
        if id(handle) in self.trial.real or not handle.dtype.is_float:
            return handle.array(wide=wide)
        key = ("constant", id(handle))
        if key not in self._arrays:
            self._arrays[key] = self._random(handle.type, None)
        return self._arrays[key]

    def _made(self, value: Value) -> Array:
        ev = Evaluation("native", dict(self.trial.bindings))
        assert isinstance(value.type, TensorType)
        if value.known is not None:
            flat = [ev.size(d) for d in value.known.reshape(-1).tolist()]
            return np.array(flat, value.dtype.numpy).reshape(value.known.shape)
        return self._random(value.type, self._domains.get(value))

    def _random(self, type: TensorType, domain: tuple[Any, Any] | None) -> Array:
        ev = Evaluation(self.trial.precision, dict(self.trial.bindings))
        shape, dtype = ev.dims(type.shape), type.dtype
        if dtype.is_bool:
            return np.asarray(self.rng.random(shape) < 0.5)
        if dtype.is_integer:
            low, high = (0, 9) if domain is None else (ev.size(domain[0]), ev.size(domain[1]))
            least, most = integer_range(dtype)
            return self.rng.integers(max(low, least), min(high, most), shape, endpoint=True).astype(
                dtype.numpy
            )
        if self.kind == "edges":
            made = self.rng.choice(edge_values(dtype).astype(np.float64), shape)
        else:
            made = self.rng.standard_normal(shape)
            made = np.abs(made) + 0.1 if self.kind == "positive" else made
        with np.errstate(all="ignore"):
            rounded = np.asarray(made).astype(dtype.numpy)
        return rounded.astype(np.float64) if self.trial.precision == "wide" else rounded


def leaf_handles(ops: Iterable[Op], values: Iterable[Value]) -> list[Const]:
    """Constants that ops and values read, lazy ones replaced by what they are computed from."""
    out: list[Const] = []
    work = [constant_of(v) for op in ops for v in op.present_operands()]
    work += [constant_of(v) for v in values]
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


def sample_bindings(symbols: Symbols, values: Iterable[Value]) -> dict[str, int]:
    """Small values for the symbols in the values' types that fit everything that is known about them."""
    names: set[str] = set()
    for value in values:
        if isinstance(value.type, TensorType):
            for d in value.type.shape:
                names |= d.free_symbols() if isinstance(d, Dim) else set()
    for name in list(names):
        solved = symbols.canonical(symbol(name))
        names |= solved.free_symbols() if isinstance(solved, Dim) else set()
    for base in (3, 4, 5, 8, 2, 16, 1, 64, 128):
        found = _bound(symbols, sorted(names), base)
        if found is not None:
            return found
    raise Unrunnable("no small extents fit the symbols' facts")


def _bound(symbols: Symbols, names: list[str], base: int) -> dict[str, int] | None:
    solutions = symbols.solutions()
    bindings: dict[str, int] = {}
    for offset, name in enumerate(names):
        if name in solutions:
            continue
        low, high = symbols.interval(symbol(name))
        step = max(1, symbols.declared(name).divisible_by) if name in symbols else 1
        value = -(-(base + offset % 3) // step) * step
        value = max(value, low or 0)
        bindings[name] = value if high is None else min(value, high)
    try:
        for name in names:
            if name in solutions:
                bindings[name] = symbols.evaluate(symbol(name), bindings)
        symbols.check_bindings(bindings)
    except AinoError:
        return None
    return bindings
