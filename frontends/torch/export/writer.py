"""Writing fx graphs: calls, tensors of the module, and extents.

A `GraphWriter` makes the nodes of one graph: of the function, or of a region, which becomes a module of
its own.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, TypeAlias

import torch
from torch import fx, nn

from aino_ir.constants import Const
from aino_ir.dims import Dim, DimLike, fold, free_symbols, symbol
from aino_ir.dtypes import DType
from aino_ir.errors.export import ExtentNotExportable, OpNotExportable
from aino_ir.frontends.extents import line_of
from aino_ir.frontends.torch.dtypes import STORED
from aino_ir.frontends.torch.export.functions.storage import COMPUTED, loaded, stored
from aino_ir.frontends.torch.export.tensors import Tensors
from aino_ir.graph import Value
from aino_ir.op import Op
from aino_ir.symbols import Symbols
from aino_ir.types import TensorType

FORMAT = "PyTorch"

Extent: TypeAlias = "int | fx.Node"
"""A number that is known, or a node that gives one."""

MOVABLE = {"f64", "f32", "f16", "bf16", "i64", "i32", "i16", "i8", "u8", "bool", "i4", "i2", "u4", "u2"}
"""Dtypes whose tensors PyTorch can move as they are stored."""

SAME_BITS_IN_I64 = {
    *("math.add", "math.mul", "math.neg", "math.select", "math.sub"),
    *("logic.bitwise_and", "logic.bitwise_not", "logic.bitwise_or", "logic.bitwise_xor"),
    *("logic.eq", "logic.ne", "logic.shift_left"),
    *("nn.conv", "nn.einsum", "nn.matmul", "reduce.prod", "reduce.sum", "reduce.sum_square"),
    *("scan.cumprod", "scan.cumsum"),
}
"""Ops that give the same bits whether 64-bit integers have a sign or not."""


class GraphWriter:
    """The nodes of one graph.

    Attributes:
        graph: what is written.
        root: holds the modules of regions (of the function: the tensors too).
        tensors: parameters and buffers of the whole module.
        symbols: the table of the function being written.
        nodes: value -> its node, as stored.
        sources: symbol -> what makes a node of its value.
        ports: the graph's parameters, in order.
        lifted: what of the graph outside the last of them stand for.
        op: the op being written.
    """

    def __init__(self, tensors: Tensors, symbols: Symbols, parent: GraphWriter | None = None) -> None:
        self.graph = fx.Graph()
        self.root = nn.Module() if parent is not None else tensors.root
        self.tensors = tensors
        self.symbols = symbols
        self.parent = parent
        self.nodes: dict[Value, fx.Node] = {}
        self.sources: dict[str, Callable[[], Extent]] = {}
        self.bound: dict[tuple[int, int], fx.Node] = {}
        self.made: dict[Any, Any] = {}
        self.lifted: list[Extent] = []
        self.ports: list[fx.Node] = []
        self.op: Op | None = None

    # -- nodes --------------------------------------------------------------------------------------

    def call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> fx.Node:
        """A call of a function."""
        return self._placed(self.graph.call_function(function, args, kwargs))

    def method(self, name: str, *args: Any) -> fx.Node:
        """A call of a tensor's method."""
        return self._placed(self.graph.call_method(name, args))

    def _placed(self, node: fx.Node) -> fx.Node:
        if self.op is not None and self.op.loc:
            node.meta["loc"] = str(self.op.loc)
        if self.op is not None:
            node.meta["op"] = self.op.id
        return node

    def placeholder(self, name: str, default: Any = ...) -> fx.Node:
        """A parameter of the graph, behind those that it has."""
        first = next(iter(self.graph.nodes), None)
        place = (
            self.graph.inserting_after(self.ports[-1]) if self.ports else self.graph.inserting_before(first)
        )
        given = {} if default is ... else {"default_value": default}
        taken, clean = {port.target for port in self.ports}, identifier(name)
        free = clean if clean not in taken else f"{clean}_{len(taken)}"
        while free in taken:
            free += "_"
        with place:
            self.ports.append(self.graph.placeholder(free, **given))
        return self.ports[-1]

    def lift(self, node: Extent) -> fx.Node:
        """Something of the graph outside, which becomes a parameter of this one."""
        self.lifted.append(node)
        return self.placeholder("outer")

    def attribute(self, path: str) -> fx.Node:
        """A tensor or submodule of the module."""
        key = ("attribute", path)
        if key not in self.made:
            self.made[key] = self.graph.create_node("get_attr", path)
        return self.made[key]  # type: ignore[no-any-return]

    def of_module(self, path: str) -> fx.Node:
        """A tensor of the module, lifted into regions."""
        if self.parent is None:
            return self.attribute(path)
        key = ("lifted", path)
        if key not in self.made:
            self.made[key] = self.lift(self.parent.of_module(path))
        return self.made[key]  # type: ignore[no-any-return]

    def anchor(self) -> fx.Node:
        """An empty tensor on the device of the module."""
        return self.of_module(self.tensors.anchor())

    def constant(self, const: Const) -> fx.Node:
        """A constant of the module."""
        return self.of_module(self.tensors.of(const))

    # -- values -------------------------------------------------------------------------------------

    def bind(self, value: Value, node: fx.Node) -> None:
        """Say what a value is, and learn the symbols that its shape tells."""
        self.nodes[value] = node
        if value.op is not None:
            self.bound[value.op.id, value.index] = node
        if isinstance(value.type, TensorType):
            for axis, dim in enumerate(value.type.shape):
                if isinstance(dim, Dim):
                    self._learn(dim, node, axis)

    def dtype_of(self, value: Value) -> DType:
        """The dtype of a value that PyTorch can hold."""
        if not isinstance(value.type, TensorType):
            self.refuse(f"it has a value of type {value.type}")
        if value.type.dtype.name not in STORED:
            self.refuse(f"PyTorch has no tensors of {value.type.dtype}")
        return value.type.dtype

    def of(self, value: Value | None, how: str = "stored") -> fx.Node | None:
        """What a value is: as stored, as PyTorch can move it, or as arithmetic sees it; None stays None."""
        if value is None:
            return None
        node, dtype = self.nodes[value], self.dtype_of(value)
        if how == "stored" or (how == "moved" and dtype.name in MOVABLE):
            return node
        if COMPUTED[dtype.name] is STORED[dtype.name]:
            return node
        key = ("loaded", node)
        if key not in self.made:
            self.made[key] = self.call(loaded, node, dtype.name)
        return self.made[key]  # type: ignore[no-any-return]

    def rounded(self, node: fx.Node, dtype: DType) -> fx.Node:
        """A computed result as it is stored."""
        return node if COMPUTED[dtype.name] is STORED[dtype.name] else self.call(stored, node, dtype.name)

    # -- extents ------------------------------------------------------------------------------------

    def _learn(self, dim: Dim, node: fx.Node, axis: int) -> None:
        line = line_of(dim)
        if line is None:
            return

        def solve() -> Extent:
            found = self.size(node, axis)
            found = self.number(operator.sub, found, line.offset) if line.offset else found
            return self.number(operator.floordiv, found, line.scale) if line.scale != 1 else found

        self.sources.setdefault(line.symbol, solve)

    def size(self, node: fx.Node, axis: int) -> Extent:
        """The extent of an axis of a tensor."""
        key = ("size", node, axis)
        if key not in self.made:
            self.made[key] = self.call(torch.ops.aten.sym_size.int, node, axis)
        return self.made[key]  # type: ignore[no-any-return]

    def number(self, function: Callable[..., Any], a: Extent, b: Extent) -> Extent:
        """Arithmetic on extents, done now where both are known."""
        if isinstance(a, int) and isinstance(b, int):
            return int(function(a, b))
        return self.call(function, a, b)

    def extent(self, dim: DimLike) -> Extent:
        """An extent in this run."""
        if not isinstance(dim, Dim):
            return int(dim)
        if dim not in self.made:
            self.made[dim] = fold(
                dim,
                const=lambda n: n,
                symbol=lambda name: self._symbol(name, dim),
                add=lambda a, b: self.number(operator.add, a, b),
                sub=lambda a, b: self.number(operator.sub, a, b),
                mul=lambda a, b: self.number(operator.mul, a, b),
                floordiv=lambda a, b: self.number(operator.floordiv, a, b),
                minimum=lambda a, b: self.number(torch.sym_min, a, b),
                mod=lambda a, b: self.number(operator.mod, a, b),
            )
        return self.made[dim]  # type: ignore[no-any-return]

    def extents(self, dims: Sequence[DimLike]) -> list[Extent]:
        """Extents in this run."""
        return [self.extent(d) for d in dims]

    def extents_or_none(self, dims: Sequence[DimLike]) -> list[Extent]:
        """Extents in this run; those that nothing here tells are 0."""
        return [self.extent(d) if all(map(self.tells, free_symbols(d))) else 0 for d in dims]

    def tells(self, name: str) -> bool:
        """Whether a symbol's value is known here or outside."""
        if name in self.sources or (self.parent is not None and self.parent.tells(name)):
            return True
        if name not in self.symbols:
            return False
        origin = self.symbols.declared(name).origin
        return origin.kind == "value" and (origin.op, 0) in self.bound

    def _symbol(self, name: str, dim: DimLike) -> Extent:
        found = self.sources.get(name)
        if found is not None:
            return found()
        if self.parent is not None and self.parent.tells(name):
            outer = self.parent.extent(symbol(name))
            lifted = outer if isinstance(outer, int) else self.lift(outer)
            self.sources[name] = lambda: lifted
            return lifted
        if name in self.symbols:
            origin = self.symbols.declared(name).origin
            holder = self.bound.get((origin.op, 0)) if origin.kind == "value" else None
            if holder is not None:  # an element of what core.bind was given
                flat = self.method("reshape", holder, -1)
                return self.method("item", self.call(operator.getitem, flat, origin.element))
            solved = self.symbols.simplify(symbol(name))
            if not (isinstance(solved, Dim) and solved.as_symbol() == name):
                return self.extent(solved)
        loc = self.op.loc if self.op is not None else None
        raise ExtentNotExportable(loc=loc, dim=dim, format=FORMAT, symbol=f"'{name}'")

    # -- modules ------------------------------------------------------------------------------------

    def submodule(self, name: str, module: nn.Module) -> fx.Node:
        """The module of a region."""
        path = self.tensors.unique(name)
        self.root.add_module(path, module)
        return self.attribute(path)

    def body_of(self, symbols: Symbols) -> GraphWriter:
        """A writer for the body of another function, whose nodes become part of this graph."""
        body = GraphWriter(self.tensors, symbols, self.parent)
        body.graph, body.root, body.ports, body.lifted = self.graph, self.root, self.ports, self.lifted
        body.op = self.op
        return body

    def finish(self, results: Any, name: str) -> fx.GraphModule:
        """The graph as a module."""
        self.graph.output(results)
        return fx.GraphModule(self.root, self.graph, name)

    # -- refusals -----------------------------------------------------------------------------------

    def refuse(self, reason: str) -> NoReturn:
        """Say that the current op cannot be written."""
        loc = self.op.loc if self.op is not None else None
        name = f"'{self.op.name}'" if self.op is not None else "an input"
        raise OpNotExportable(loc=loc, op=name, format=FORMAT, reason=reason)


def identifier(text: str) -> str:
    """A text cut to letters, digits and underscores."""
    clean = re.sub(r"[^A-Za-z0-9_]+", "_", text, flags=re.ASCII).strip("_")[:80]
    return clean if clean and not clean[0].isdigit() else f"_{clean}" if clean else "value"
