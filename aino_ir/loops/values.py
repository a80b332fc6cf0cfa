"""The half of the loop builder that makes values: names, parameters, pinned expressions, loads."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from aino_ir.dims import Dim, DimLike, free_symbols, symbol
from aino_ir.dtypes import DType, boolean, i64, u16
from aino_ir.errors.loops import LoopAccessError, LoopNameError, LoopTypeError
from aino_ir.loops.expr import Const, Expr, Index, Load, Number, RegRead, Var, VecType, const, splat
from aino_ir.loops.numbering import LEAVES, Numbering
from aino_ir.loops.ranges import declare_index
from aino_ir.loops.scopes import Scope, When
from aino_ir.loops.settle import Settler
from aino_ir.loops.stmt import UNIT, Access, BindIndex, Let, Param, Stmt
from aino_ir.symbols import Origin, Symbols

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


class ValueBuilder:
    """Declarations and values of one kernel; see `LoopBuilder`, which adds control and effects."""

    def __init__(self, name: str, *, symbols: Symbols | None = None) -> None:
        self.name = name
        if not _IDENTIFIER.match(name):
            raise LoopNameError(kernel=name, name=name, problem="is not an identifier")
        self._root = self._scope = Scope(None, symbols.clone() if symbols is not None else Symbols())
        self._params: dict[str, Param] = {}
        self._constant: set[str] = set()  # parameters that are only read
        self._scratch: dict[str, tuple[DType, DimLike]] = {}
        self._shared: dict[str, tuple[DType, int]] = {}
        self._declared_symbols: list[str] = []
        self._local_symbols: set[str] = {UNIT}
        self._used_symbols: set[str] = set()
        self._names: set[str] = {UNIT, *self._root.symbols}
        self._counters: dict[str, int] = {}
        self._versions: dict[str, int] = {}
        self._numbering = Numbering(self._constant)
        self._settler = Settler(self)
        self._threads = 1
        self._units: tuple[DimLike, tuple[Stmt, ...]] | None = None
        self._last_when: When | None = None

    # ------------------------------------------------------------------ declarations

    @property
    def symbols(self) -> Symbols:
        """Ranges and facts that hold where the next statement will stand."""
        return self._scope.symbols

    def param(self, name: str, dtype: DType, size: DimLike, access: Access = Access.READ) -> str:
        """Declare a buffer argument of `size` elements; returns its name."""
        if not _IDENTIFIER.match(name) or name in self._names:
            raise LoopNameError(kernel=self.name, name=name, problem="is taken or is not an identifier")
        self._names.add(name)
        self._params[name] = Param(name, dtype, self.dim(size), access)
        if access is Access.READ:
            self._constant.add(name)
        return name

    def symbol(self, name: str, lo: int | None = None, hi: int | None = None) -> Dim:
        """Declare an integer parameter of the kernel, within lo..hi (inclusive) if it is new."""
        if name not in self._declared_symbols:
            self._declared_symbols.append(name)
            self._names.add(name)
            for table in {id(t): t for t in (self._root.symbols, self._scope.symbols)}.values():
                if name not in table:
                    table.new(name, lo, hi, origin=Origin.input(name, 0))
        return symbol(name)

    def alloc(self, name: str, dtype: DType, size: DimLike) -> str:
        """Reserve `size` elements of per-thread scratch, 64-byte aligned; returns a unique name.

        `size` may use the kernel's symbols but no loop variables.  Contents are undefined at first.
        """
        name = self.unique(name)
        with self.prologue():
            size = self.dim(size)
        self._refuse_local(size, f"sizes scratch buffer {name}")
        self._scratch[name] = (dtype, size)
        return name

    def share(self, name: str, dtype: DType, size: int) -> str:
        """Reserve `size` elements that the threads of a unit have in common; returns a unique name."""
        name = self.unique(name)
        self._shared[name] = (dtype, size)
        return name

    def unique(self, wish: str) -> str:
        """A name like `wish` that nothing in the kernel has yet; it is taken from here on.

        A dot at the end, which sets axes apart from the symbols of a model, is left out.
        """
        wish = wish.removesuffix(".")
        if not _IDENTIFIER.match(wish):
            raise LoopNameError(kernel=self.name, name=wish, problem="is not an identifier")
        name, number = wish, self._counters.get(wish, 0)
        while name in self._names:
            number += 1
            name = f"{wish}_{number}"
        self._counters[wish] = number
        self._names.add(name)
        return name

    @contextmanager
    def prologue(self) -> Iterator[None]:
        """Statements inside run once a call, before the first unit."""
        outer, self._scope = self._scope, self._root
        try:
            yield
        finally:
            self._scope = outer

    # ------------------------------------------------------------------ values

    def let(self, expr: Expr, hint: str = "t") -> Expr:
        """`expr` pinned under a name; variables, constants, Dims and masks come back as they are."""
        settled = self._settler.settle(expr)
        return self.pin(settled, hint)

    def pin(self, settled: Expr, hint: str = "t") -> Expr:
        """`let` for an expression that is settled already."""
        if isinstance(settled, LEAVES) and not isinstance(settled, RegRead):
            return settled
        number = self._numbering.number(settled)
        if number is not None:
            found = self._scope.find(number)
            if found is not None:
                return found
        variable = Var(self._fresh(hint), settled.type)
        self._emit(Let(variable.name, settled))
        if number is not None:
            self._scope.remember(number, variable)
        return variable

    def index(
        self, expr: Expr, lo: DimLike | None = None, hi: DimLike | None = None, hint: str = "i"
    ) -> DimLike:
        """An i64 scalar value as a Dim, promised to lie within lo..hi (inclusive).

        An `Index` is given a name only when bounds come with it, which make proofs over it simpler.
        """
        settled = self._settler.settle(expr)
        if isinstance(settled, Index):
            simple = isinstance(settled.dim, Dim) and settled.dim.as_symbol() is not None
            if simple or (lo is None and hi is None):
                return settled.dim
        if isinstance(settled, Const):
            return int(settled.value)
        self._expect("an index", settled, VecType(i64))
        lo, hi = (bound if bound is None else self.dim(bound) for bound in (lo, hi))
        return self._bind(settled, lo, hi, hint)

    def split(self, dim: DimLike, axes: Mapping[str, DimLike]) -> tuple[DimLike, ...]:
        """The coordinates of a linear index, slowest first, each as a variable with a range of its own.

        Proofs and addresses over such variables are far simpler than over ``dim // a % b``, so this
        is how a unit is taken apart.  Where an extent is 0 there is no index, and nothing that is built with
        the coordinates runs: they are 0.

        Args:
            dim: an index that is promised to lie within 0..product of the extents - 1.
            axes: extent by wished name, slowest first.
        """
        rest, found = self.dim(dim), []
        names, extents = list(axes), list(axes.values())
        if any(isinstance(e, int) and e == 0 for e in extents):
            return (0,) * len(extents)
        for name, extent in zip(reversed(names[1:]), reversed(extents[1:]), strict=True):
            quotient = self.dim(rest // extent)
            found.append((name, extent, self.dim(rest - quotient * extent)))
            rest = quotient
        found.append((names[0], extents[0], rest))
        return tuple(self._coordinate(*item) for item in reversed(found))

    def _coordinate(self, name: str, extent: DimLike, value: DimLike) -> DimLike:
        if isinstance(value, int) or value.as_symbol() is not None or self.symbols.prove_eq(extent, 1):
            return 0 if self.symbols.prove_eq(extent, 1) else value
        return self._bind(Index(value), 0, self.dim(extent - 1), name)

    def _bind(self, settled: Expr, lo: DimLike | None, hi: DimLike | None, hint: str) -> Dim:
        key = ("index", self._numbering.number(settled), lo, hi)
        found = self._scope.find(key) if key[1] is not None else None
        if found is not None:
            return symbol(found.name)
        name = self.unique(hint)
        self._local_symbols.add(name)
        variable = declare_index(self.symbols, name, settled, lo, hi)
        self._emit(BindIndex(name, settled, lo, hi))
        self._scope.remember(key, Var(name, settled.type))
        return variable

    def load(
        self,
        buffer: str,
        offset: DimLike,
        lanes: int = 1,
        *,
        stride: int | DimLike = 1,
        mask: Expr | None = None,
        other: Expr | Number | None = None,
        gather: Expr | None = None,
        bits: bool = False,
    ) -> Expr:
        """Elements of a buffer in its compute dtype, pinned; see `Load` for the addresses.

        With `bits` those of a buffer of bf16 are what it holds, as u16.  Loads of buffers that the kernel
        only reads are shared in a scope.
        """
        dtype = self._buffer(buffer, "load from", Access.WRITE)
        type_ = VecType(u16 if bits else dtype.compute, lanes)
        if other is not None:
            what = "the value of masked-off lanes"
            other = self.let(other) if isinstance(other, Expr) else const(other, type_.dtype)
            other = self._spread(what, other, lanes)
            self._expect(what, other, type_)
        mask = self._mask(mask, lanes)
        if isinstance(mask, Const) and not mask.value:
            return other if other is not None else const(0, type_.dtype, lanes)
        node = Load(
            buffer,
            self.dim(offset),
            type_,
            self.dim(stride) if lanes > 1 and gather is None else 1,
            None if isinstance(mask, Const) else mask,
            None if mask is None or isinstance(mask, Const) else other,
            self._addresses(gather, lanes),
        )
        return self.pin(node, buffer)

    def register_version(self, name: str) -> int:
        """How often a register has been set, or may have been set by a loop that is open."""
        return self._versions[name]

    def dim(self, dim: DimLike) -> DimLike:
        """`dim` in its simplest form here; its symbols count as used."""
        if isinstance(dim, int):
            return dim
        simple = self._scope.symbols.simplify(dim)
        if not isinstance(simple, int):
            self._used_symbols |= simple.free_symbols()
        return simple

    # ------------------------------------------------------------------ internals

    def _emit(self, statement: Stmt) -> None:
        self._scope.statements.append(statement)

    def _fresh(self, hint: str) -> str:
        number = self._counters.get(hint, 0)
        while (name := f"{hint}{number}") in self._names:
            number += 1
        self._counters[hint] = number + 1
        self._names.add(name)
        return name

    def _refuse_local(self, dim: DimLike, use: str) -> None:
        for name in sorted(free_symbols(dim) & self._local_symbols):
            problem = f"{use}, but is a variable of a loop"
            raise LoopNameError(kernel=self.name, name=name, problem=problem)

    def _spread(self, what: str, value: Expr, lanes: int) -> Expr:
        if value.lanes not in (1, lanes):
            expected = VecType(value.dtype, lanes)
            raise LoopTypeError(kernel=self.name, what=what, expected=expected, got=value.type)
        return splat(value, lanes)

    def _buffer(self, name: str, action: str, forbidden: Access | None) -> DType:
        param = self._params.get(name)
        if param is None:
            own = self._scratch.get(name) or self._shared.get(name)
            if own is None:
                raise LoopAccessError(kernel=self.name, action=action, buffer=name, declared="nowhere")
            return own[0]
        if param.access is forbidden:
            raise LoopAccessError(kernel=self.name, action=action, buffer=name, declared=param.access.value)
        return param.dtype

    def _mask(self, mask: Expr | None, lanes: int) -> Expr | None:
        if mask is None:
            return None
        settled = self.let(self._spread("a mask", mask, lanes), "mask")
        self._expect("a mask", settled, VecType(boolean, lanes))
        return settled

    def _addresses(self, vector: Expr | None, lanes: int) -> Expr | None:
        if vector is None:
            return None
        settled = self.let(self._spread("a vector of addresses", vector, lanes), "at")
        self._expect("a vector of addresses", settled, VecType(i64, lanes))
        return settled

    def _expect(self, what: str, got: Expr, expected: VecType) -> None:
        if got.type != expected:
            raise LoopTypeError(kernel=self.name, what=what, expected=expected, got=got.type)
