"""The interpreter: any module on numpy.  It is the oracle of every pass and every target.

`precision="native"` computes in the compute dtype and rounds each result to its type;
`precision="wide"` keeps every float in f64 (a Cast still rounds), to judge reordered rewrites.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from aino_ir.constants import round_array
from aino_ir.dims import Dim, DimLike, is_static
from aino_ir.dtypes import DType, integer_range
from aino_ir.errors.base import AinoError
from aino_ir.errors.ir import NegativeExtent, SizeLimit, UnevaluableOp
from aino_ir.errors.run import InputMismatch, WrongInputCount
from aino_ir.infer import SIZE_LIMIT, known_contents
from aino_ir.op import Op, Trait
from aino_ir.symbols import Symbols
from aino_ir.types import OptionalType, StringType, TensorType, Type

if TYPE_CHECKING:
    from aino_ir.graph import Block, Function, Module, Value

Precision = Literal["native", "wide"]


class Evaluation:
    """What `Op.evaluate` may ask while it runs.

    Attributes:
        precision: native or wide.
        bindings: symbol name -> extent, as bound so far.
        op: the op being evaluated.
        symbols: table of the function that runs, or None; its checks are tested when their op has run.
    """

    def __init__(
        self,
        precision: Precision = "native",
        bindings: dict[str, int] | None = None,
        symbols: Symbols | None = None,
    ) -> None:
        self.precision = precision
        self.bindings = {} if bindings is None else bindings
        self.op: Op | None = None
        self.symbols = symbols
        self._deciding = _deciding_ops(symbols)

    @property
    def wide(self) -> bool:
        """Whether floats are kept in f64."""
        return self.precision == "wide"

    def size(self, dim: DimLike) -> int:
        """The value of a Dim in this run; symbols may follow from others by what the table knows."""
        if not isinstance(dim, Dim):
            return int(dim)
        if self.symbols is None or dim.free_symbols() <= self.bindings.keys():
            return dim.evaluate(self.bindings)
        return self.symbols.evaluate(dim, self.bindings)

    def dims(self, dims: Sequence[DimLike]) -> tuple[int, ...]:
        """The values of Dims in this run; negative extents are an error."""
        out = tuple(self.size(d) for d in dims)
        if any(d < 0 for d in out):
            raise NegativeExtent(loc=self.op.loc if self.op else None, op=self._name(), shape=out)
        size = math.prod(out)
        if size > SIZE_LIMIT:
            loc = self.op.loc if self.op else None
            raise SizeLimit(loc=loc, op=self._name(), size=size, limit=SIZE_LIMIT)
        return out

    def result_shape(self, index: int = 0) -> tuple[int, ...]:
        """The shape that the op's result type has in this run."""
        assert self.op is not None
        return self.dims(self.op.results[index].shape)

    def float_dtype(self, dtype: DType) -> np.dtype:
        """The numpy dtype in which a float dtype is computed."""
        return np.dtype(np.float64) if self.wide and dtype.is_float else dtype.compute.numpy

    def cast(self, x: np.ndarray, dtype: DType) -> np.ndarray:
        """x as `dtype` would hold it, in its compute dtype (rounds even when wide)."""
        return load_array(round_array(x, dtype), dtype, self.precision)

    def stored(self, array: Any, type: Type) -> Any:
        """A result as it is kept: rounded to its dtype."""
        return store_array(array, type, self.precision)

    def block(self, block: Block, arrays: Sequence[Any]) -> tuple[Any, ...]:
        """Run a region on its arguments; extents that it decides are forgotten at its end."""
        saved, outside = self.op, self.bindings
        self.bindings = dict(outside)
        try:
            return run_block(block, arrays, self)
        finally:
            self.op, self.bindings = saved, outside

    def bind(self, value: Value, numbers: Sequence[int]) -> None:
        """Give the symbols that stand for the elements of a value their numbers."""
        assert value.op is not None and value.op.block is not None and value.op.block.function is not None
        known = known_contents(value, value.op.block.function.symbols)
        assert known is not None
        for dim, number in zip(known.reshape(-1).tolist(), numbers, strict=True):
            self.bindings[dim.as_symbol()] = number

    def after(self, op: Op) -> None:
        """Test what is demanded of the extents that an op decides."""
        if op.id in self._deciding and self.symbols is not None:
            self.symbols.check_bindings(self.bindings, op.id)

    def _name(self) -> str:
        return self.op.name if self.op is not None else "evaluate"


def _deciding_ops(symbols: Symbols | None) -> frozenset[int]:
    """Ids of ops that decide extents at run time."""
    if symbols is None:
        return frozenset()
    decided = {info.op for info in (symbols.declared(name).origin for name in symbols)}
    return frozenset(decided | {c.after_op for c in symbols.checks if c.after_op is not None})


def load_array(array: Any, dtype: DType, precision: Precision) -> np.ndarray:
    """A stored array as arithmetic sees it: its compute dtype, or f64 for floats when wide."""
    want = np.dtype(np.float64) if precision == "wide" and dtype.is_float else dtype.compute.numpy
    loaded: np.ndarray = array if array.dtype == want else array.astype(want)
    return loaded


def store_array(array: Any, type: Type, precision: Precision) -> Any:
    """A computed array as the environment keeps it: rounded to its dtype, or f64 when wide."""
    if not isinstance(type, TensorType):
        return array
    array = np.asarray(array)
    if precision == "wide" and type.dtype.is_float:
        return array if array.dtype == np.float64 else array.astype(np.float64)
    return round_array(array, type.dtype)


def run_block(block: Block, arrays: Sequence[Any], ev: Evaluation) -> tuple[Any, ...]:
    """Values of the terminator's operands for given arguments."""
    env: dict[Value, Any] = {}
    left: dict[Value, int] = {}
    for arg, array in zip(block.args, arrays, strict=True):
        env[arg] = store_array(array, arg.type, ev.precision)
        bind_shape(arg.type, env[arg], ev, arg.name)
    for op in block:
        if op.has(Trait.TERMINATOR):
            return tuple(env[v] for v in op.present_operands())
        run_op(op, env, ev)
        for v in dict.fromkeys(op.present_operands()):  # drop arrays after their last use
            count = left.get(v, v.use_count) - op.operands.count(v)
            left[v] = count
            if count == 0:
                env.pop(v, None)
    raise UnevaluableOp(op="a block", reason="it has no terminator")


def run_op(op: Op, env: dict[Value, Any], ev: Evaluation) -> None:
    """Evaluate one op into `env`."""
    ev.op = op
    operands = [None if v is None else _operand(v, env[v], ev) for v in op.operands]
    try:
        with np.errstate(all="ignore"):
            out = op.evaluate(ev, *operands) if evaluates(type(op)) else by_decomposition(op, ev, operands)
        keep_results(op, out if isinstance(out, tuple) else (out,), env, ev)
    except AinoError as error:
        if error.loc is None:
            error.loc = op.loc
        raise


def keep_results(op: Op, outputs: Sequence[Any], env: dict[Value, Any], ev: Evaluation) -> None:
    """Enter what an op computed, bind the extents that it decided, and test what is demanded of them."""
    if len(outputs) != len(op.results):
        raise UnevaluableOp(
            loc=op.loc, op=op.name, reason=f"it gives {len(outputs)} values for {len(op.results)} results"
        )
    for result, array in zip(op.results, outputs, strict=True):
        env[result] = ev.stored(array, result.type)
        bind_shape(result.type, env[result], ev, op.name)
    ev.after(op)


def evaluates(cls: type[Op]) -> bool:
    """Whether an op class says itself what its ops compute."""
    return cls.evaluate is not Op.evaluate


def by_decomposition(op: Op, ev: Evaluation, operands: Sequence[Any]) -> tuple[Any, ...]:
    """Results of an op whose class only declares what simpler ops it is made of."""
    block = decomposition(op)
    if block is None:
        raise UnevaluableOp(loc=op.loc, op=op.name, reason="it declares neither evaluate nor decompose")
    return ev.block(block, [a for a in operands if a is not None])


def decomposition(op: Op) -> Block | None:
    """A block of simpler ops that computes `op` from its present operands, or None for a primitive op."""
    from aino_ir.builder import Builder
    from aino_ir.graph import Module

    function = Module("decomposition").add_function()
    source = op.block.function if op.block is not None else None
    if source is not None:
        function.symbols = source.symbols.clone()
        function.module.reserve_ids(source.module.last_id)  # symbols of data are named by op ids
    inside: dict[Value, Value] = {v: function.add_argument(v.type) for v in op.present_operands()}
    arguments = tuple(None if v is None else inside[v] for v in op.operands)
    stand_in = type(op)(op.id, arguments, op.attributes, op.regions, op.loc)
    stand_in.block = function.block
    stand_in.results = op.results
    b = Builder(function, loc=op.loc)
    made = stand_in.decompose(b)
    if made is None:
        return None
    values = made if isinstance(made, (tuple, list)) else [made]
    return b.finish(values).block


def _operand(value: Value, array: Any, ev: Evaluation) -> Any:
    if not isinstance(value.type, TensorType):
        return array
    return load_array(array, value.type.dtype, ev.precision)


def bind_shape(type: Type, array: Any, ev: Evaluation, what: str) -> None:
    """Unify a value's type with its array: binds symbols, and catches a wrong `infer`."""
    if not isinstance(type, (TensorType, StringType)):
        return
    if len(type.shape) != array.ndim:
        raise InputMismatch(name=what, what="rank", expected=len(type.shape), got=array.ndim)
    for axis, (dim, extent) in enumerate(zip(type.shape, array.shape, strict=True)):
        if is_static(dim):
            if dim != extent:
                raise InputMismatch(name=what, what=f"extent of axis {axis}", expected=dim, got=extent)
            continue
        assert isinstance(dim, Dim)
        name = dim.as_symbol()
        if name is not None and name not in ev.bindings:
            ev.bindings[name] = int(extent)
        elif dim.free_symbols() <= ev.bindings.keys() and dim.evaluate(ev.bindings) != extent:
            raise InputMismatch(
                name=what,
                what=f"extent of axis {axis} ({dim})",
                expected=dim.evaluate(ev.bindings),
                got=extent,
            )


def evaluate_block(block: Block, arrays: Sequence[Any], precision: Precision = "native") -> tuple[Any, ...]:
    """Run an isolated block with no symbols bound beforehand."""
    return run_block(block, arrays, Evaluation(precision))


def run_function(
    function: Function,
    inputs: Sequence[Any],
    precision: Precision = "native",
    states: Sequence[Any] | None = None,
    bindings: Mapping[str, int] | None = None,
) -> tuple[Any, ...]:
    """Run a function: outputs followed by new state values."""
    ev = Evaluation(precision, dict(bindings or {}), function.symbols)
    arrays = with_defaults(function, inputs)
    for arg, array in zip(function.inputs, arrays, strict=True):
        if isinstance(arg.type, TensorType):
            bind_shape(arg.type, array, ev, arg.name)
    slots = list(states) if states is not None else initial_states(function, ev)
    if len(slots) != len(function.states):
        raise WrongInputCount(expected=tuple(s.name for s in function.states), got=f"{len(slots)} states")
    for arg, array in zip(function.state_args, slots, strict=True):
        bind_shape(arg.type, array, ev, arg.name)
    function.symbols.check_bindings(ev.bindings)
    return run_block(function.block, [*arrays, *slots], ev)


def with_defaults(function: Function, inputs: Sequence[Any]) -> list[Any]:
    """One array per input: those left out at the end, or None, have their defaults.

    Raises:
        WrongInputCount: there are too many, or one without a default is missing.
    """
    names = function.input_names
    if len(inputs) > len(names):
        raise WrongInputCount(expected=tuple(names), got=f"{len(inputs)} positional")
    arrays = []
    for i, (name, value) in enumerate(zip(names, function.inputs, strict=True)):
        array = inputs[i] if i < len(inputs) else None
        if array is None and name in function.defaults:
            array = function.defaults[name].array()
        if array is None and (i >= len(inputs) or not isinstance(value.type, OptionalType)):
            raise WrongInputCount(expected=tuple(names), got=f"{len(inputs)} positional, none for '{name}'")
        arrays.append(array)
    return arrays


def initial_states(function: Function, ev: Evaluation) -> list[Any]:
    """First values of the state slots."""
    out = []
    for state in function.states:
        assert isinstance(state.type, TensorType)
        zeros = np.zeros(ev.dims(state.type.shape), state.type.dtype.numpy)
        out.append(zeros if state.init is None else state.init.array())
    return out


def run_module(module: Module, inputs: Sequence[Any], precision: Precision = "native") -> tuple[Any, ...]:
    """Outputs of a module's main function."""
    main = module.main
    return run_function(main, inputs, precision)[: len(main.output_names)]


class SymbolicEvaluation(Evaluation):
    """Evaluates index arithmetic on object arrays of ints and Dims."""

    def __init__(self, symbols: Symbols, op: Op) -> None:
        super().__init__()
        self.symbols = self.table = symbols
        self.op = op

    @property
    def symbolic(self) -> bool:
        """Always true; `Op.evaluate` of SYMBOLIC ops may ask with getattr(ev, "symbolic", False)."""
        return True

    def size(self, dim: DimLike) -> Any:
        """Dims stay Dims here."""
        return dim

    def dims(self, dims: Sequence[DimLike]) -> tuple[Any, ...]:
        """Static extents as ints."""
        return tuple(dims)

    def run(self, operands: Sequence[np.ndarray | None], value: Value) -> np.ndarray | None:
        """The contents of one result, or None when they cannot be told."""
        assert self.op is not None
        try:
            out = self.op.evaluate(self, *operands)
        except (AinoError, TypeError, ZeroDivisionError):  # a Dim where only a number will do: not known
            return None
        array = np.asarray(out[value.index] if isinstance(out, tuple) else out, dtype=object)
        if array.shape != tuple(value.shape):
            return None
        flat = [self._simple(v, value.type.dtype) for v in array.reshape(-1).tolist()]  # type: ignore[union-attr]
        if any(v is None for v in flat):
            return None
        result = np.empty(len(flat), object)
        result[:] = flat
        return result.reshape(array.shape)

    def _simple(self, v: Any, dtype: DType) -> DimLike | None:
        if isinstance(v, Dim):
            return self.table.simplify(v)
        low, high = integer_range(dtype)
        return int(v) if isinstance(v, (int, bool, np.integer, np.bool_)) and low <= v <= high else None
