"""Calibration: running a module on samples and looking at what flows through it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from aino_ir.dims import is_static
from aino_ir.errors.compression import CalibrationInputWrong, CalibrationNotFinite, EmptyCalibration
from aino_ir.graph import Function, Module, Value
from aino_ir.interp import Evaluation, bind_shape, run_op, store_array, with_defaults
from aino_ir.op import Op, Trait
from aino_ir.types import TensorType, Type

Array = np.ndarray[Any, Any]
Sample = tuple[Array, ...]
Watch = Callable[[Evaluation, Op, Sequence[Array | None], tuple[Array, ...]], None]
"""Gets what `Op.evaluate` gets, the op, its operands and its results."""

KEPT = 1 << 16
"""Values of one tensor that are kept over all samples."""


def read_samples(module: Module, calibration: Iterable[Any] | None) -> list[Sample]:
    """Calibration data as one tuple of arrays a sample.

    Args:
        module: whose inputs they are for.
        calibration: samples; each is a tuple of arrays, a mapping by input name, or one array.

    Raises:
        EmptyCalibration: there is none.
        CalibrationInputWrong: a sample does not fit the inputs.
        CalibrationNotFinite: a sample holds NaN or infinity.
    """
    names = module.main.input_names
    samples = []
    for number, given in enumerate(calibration if calibration is not None else ()):
        if isinstance(given, Mapping):
            if set(given) != set(names):
                raise CalibrationInputWrong(number=number, expected=", ".join(names), got=", ".join(given))
            given = [given[n] for n in names]
        parts = given if isinstance(given, (tuple, list)) else (given,)
        sample = tuple(np.asarray(a) for a in parts)
        if len(sample) != len(names):
            got = f"{len(sample)} arrays"
            raise CalibrationInputWrong(number=number, expected=", ".join(names), got=got)
        for name, array, value in zip(names, sample, module.main.inputs, strict=True):
            if not fits(array, value.type):
                got = f"{array.dtype}{list(array.shape)}"
                raise CalibrationInputWrong(number=number, expected=f"{name}: {value.type}", got=got)
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                raise CalibrationNotFinite(number=number, name=name)
        samples.append(sample)
    if not samples:
        raise EmptyCalibration()
    return samples


def fits(array: Array, wanted: Type) -> bool:
    """Whether an array can be an input: of the dtype, or a whole or real number of another width."""
    if not isinstance(wanted, TensorType):
        return True
    kinds = "f" if wanted.dtype.is_float else "iu" if wanted.dtype.is_integer else ""
    shape = zip(array.shape, wanted.shape, strict=False)
    return (
        (array.dtype == wanted.dtype.numpy or array.dtype.kind in kinds)
        and array.ndim == wanted.rank
        and all(not is_static(want) or got == want for got, want in shape)
    )


def run_watched(function: Function, inputs: Sequence[Array], watches: Mapping[int, Watch]) -> None:
    """Run a function without states on the interpreter; watched ops (by id) are shown as they run."""
    ev = Evaluation("native", {}, function.symbols)
    env: dict[Value, Any] = {}
    for arg, array in zip(function.inputs, with_defaults(function, inputs), strict=True):
        env[arg] = store_array(array, arg.type, "native")
        bind_shape(arg.type, env[arg], ev, arg.name)
    function.symbols.check_bindings(ev.bindings)
    left = {v: v.use_count for v in env}
    for op in function.block:
        if op.has(Trait.TERMINATOR):
            return
        watch = watches.get(op.id)
        operands = [None if v is None else env[v] for v in op.operands]
        with np.errstate(all="ignore"):
            run_op(op, env, ev)
        if watch is not None:
            watch(ev, op, operands, tuple(env[r] for r in op.results))
        left.update((r, r.use_count) for r in op.results)
        for v in dict.fromkeys(op.present_operands()):
            left[v] -= op.operands.count(v)
            if left[v] <= 0:
                del env[v]


@dataclass
class Seen:
    """What one tensor held over all samples.

    Attributes:
        low, high: extremes.
        parts: evenly spaced values of each sample.
    """

    each: int
    low: float = float("inf")
    high: float = float("-inf")
    parts: list[Array] = field(default_factory=list)

    def add(self, array: Array) -> None:
        """Look at one more sample."""
        flat = np.asarray(array, np.float32).reshape(-1)
        if not flat.size:
            return
        self.low, self.high = min(self.low, float(flat.min())), max(self.high, float(flat.max()))
        self.parts.append(flat[:: max(1, flat.size // self.each)].copy())

    @property
    def values(self) -> Array:
        """The kept values, f32."""
        return np.concatenate(self.parts) if self.parts else np.zeros(0, np.float32)


def observe(module: Module, samples: Sequence[Sample], readers: Mapping[int, int]) -> dict[int, Seen]:
    """What the given values held.

    Args:
        module: without states.
        samples: inputs.
        readers: value id -> id of an op that reads it as its first operand.
    """
    seen = {value: Seen(max(1, KEPT // len(samples))) for value in readers}
    watches: dict[int, Watch] = {}
    for value, op in readers.items():
        watches[op] = lambda ev, op, operands, results, at=seen[value]: at.add(operands[0])  # type: ignore[misc]
    for sample in samples:
        run_watched(module.main, sample, watches)
    return seen


def is_float32(value: Value) -> bool:
    """Whether a value is a tensor of f32."""
    return isinstance(value.type, TensorType) and value.dtype.name == "f32"
