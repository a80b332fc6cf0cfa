"""Tensors of strings: numpy object arrays, served by the runtime in Python."""

from __future__ import annotations

import math
import re
from typing import Any, NoReturn

import numpy as np

from aino_ir.dims import DimLike
from aino_ir.dtypes import Kind, boolean, i64, integer_range
from aino_ir.errors.run import TextUnreadable
from aino_ir.graph import Value
from aino_ir.infer import InferContext
from aino_ir.op import Op, Trait, bool_attr, dims_attr, dtype_attr, int_attr, operand, str_attr, strs_attr
from aino_ir.ops.math import Array
from aino_ir.types import StringType, TensorType, Type

HOST = frozenset({Trait.HOST})


class StringConstant(Op):
    """out = texts in a shape, row-major."""

    name = "text.string_constant"
    traits = HOST
    values = strs_attr()
    shape = dims_attr()

    def infer(self, ic: InferContext) -> list[Type]:
        count = int(np.prod([int(d) for d in self.shape], dtype=np.int64))  # type: ignore[arg-type]
        if count != len(self.values):
            ic.bad_attribute("values", f"{count} texts", len(self.values))
        return [StringType(self.shape)]

    def evaluate(self, ev: Any) -> Array:
        return texts(self.values, ev.dims(self.shape))


class StringConcat(Op):
    """out = lhs followed by rhs, broadcast numpy-wise."""

    name = "text.concat"
    traits = HOST
    lhs = operand()
    rhs = operand()

    def infer(self, ic: InferContext) -> list[Type]:
        return [StringType(ic.broadcast(string_shape(ic, self.lhs), string_shape(ic, self.rhs)))]

    def evaluate(self, ev: Any, a: Array, b: Array) -> Array:
        return np.asarray(np.frompyfunc(lambda x, y: x + y, 2, 1)(a, b), object)


class StringEqual(Op):
    """out = whether lhs and rhs are the same text, broadcast numpy-wise."""

    name = "text.eq"
    traits = HOST
    lhs = operand()
    rhs = operand()

    def infer(self, ic: InferContext) -> list[Type]:
        shape = ic.broadcast(string_shape(ic, self.lhs), string_shape(ic, self.rhs))
        return [TensorType(boolean, shape)]

    def evaluate(self, ev: Any, a: Array, b: Array) -> Array:
        return np.asarray(a == b, bool)


class StringSplit(Op):
    """parts, counts = each text cut at a delimiter: parts have one axis more, filled up with ''.

    An empty delimiter cuts at runs of white space.  At most `limit` cuts are made (-1: all).
    """

    name = "text.split"
    traits = HOST | {Trait.DATA_DEPENDENT}
    x = operand()
    delimiter = str_attr("")
    limit = int_attr(-1)

    def infer(self, ic: InferContext) -> list[Type]:
        shape = string_shape(ic, self.x)
        return [StringType((*shape, ic.data_symbol(0, None))), TensorType(i64, shape)]

    def evaluate(self, ev: Any, x: Array) -> tuple[Array, Array]:
        rows = [str(text).split(self.delimiter or None, self.limit) for text in x.reshape(-1)]
        most = max(map(len, rows), default=0)
        flat = [part for row in rows for part in (*row, *[""] * (most - len(row)))]
        counts = np.asarray([len(row) for row in rows], np.int64).reshape(x.shape)
        return texts(flat, (*x.shape, most)), counts


class RegexFullMatch(Op):
    """out = whether a whole text matches a regular expression."""

    name = "text.regex_full_match"
    traits = HOST
    x = operand()
    pattern = str_attr()

    def infer(self, ic: InferContext) -> list[Type]:
        try:
            re.compile(self.pattern)
        except re.error as error:
            ic.bad_attribute("pattern", f"a regular expression ({error})", self.pattern)
        return [TensorType(boolean, string_shape(ic, self.x))]

    def evaluate(self, ev: Any, x: Array) -> Array:
        pattern = re.compile(self.pattern)
        found: Array = np.asarray([pattern.fullmatch(t) is not None for t in x.reshape(-1)], bool)
        found.shape = x.shape
        return found


class StringNormalize(Op):
    """out = the texts of the last axis that are no stop words, in another case; [''] if none is left.

    `case` is "none", "lower" or "upper"; with `sensitive` stop words are compared as they are.
    """

    name = "text.normalize"
    traits = HOST | {Trait.DATA_DEPENDENT}
    x = operand()
    case = str_attr("none")
    sensitive = bool_attr(False)
    stop = strs_attr(())

    def infer(self, ic: InferContext) -> list[Type]:
        shape = string_shape(ic, self.x)
        if len(shape) not in (1, 2):
            ic.bad_operand("rank of x", "1 or 2", len(shape))
        if self.case not in ("none", "lower", "upper"):
            ic.bad_attribute("case", "none, lower or upper", self.case)
        return [StringType((*shape[:-1], ic.data_symbol(0, None)))]

    def evaluate(self, ev: Any, x: Array) -> Array:
        stop = set(self.stop) if self.sensitive else {s.lower() for s in self.stop}
        kept = [t for t in x.reshape(-1) if (t if self.sensitive else t.lower()) not in stop]
        if self.case != "none":
            kept = [t.lower() if self.case == "lower" else t.upper() for t in kept]
        kept = kept or [""]
        return texts(kept, (*x.shape[:-1], len(kept)))


class StringLookup(Op):
    """out = the position of each text among `keys` (the first one), or -1."""

    name = "text.lookup"
    traits = HOST
    x = operand()
    keys = strs_attr()

    def infer(self, ic: InferContext) -> list[Type]:
        return [TensorType(i64, string_shape(ic, self.x))]

    def evaluate(self, ev: Any, x: Array) -> Array:
        places = {key: n for n, key in reversed(list(enumerate(self.keys)))}
        found: Array = np.asarray([places.get(str(t), -1) for t in x.reshape(-1)], np.int64)
        found.shape = x.shape
        return found


class StringChoose(Op):
    """out = the text of `texts` at each index; `other` where the index is none of theirs."""

    name = "text.choose"
    traits = HOST
    index = operand()
    texts = strs_attr()
    other = str_attr("")

    def infer(self, ic: InferContext) -> list[Type]:
        index = ic.tensor(self.index, "index")
        if not index.dtype.is_integer:
            ic.bad_dtype("dtype of index", "an integer", index.dtype)
        return [StringType(index.shape)]

    def evaluate(self, ev: Any, index: Array) -> Array:
        count = len(self.texts)
        chosen = [self.texts[i] if 0 <= i < count else self.other for i in index.reshape(-1).tolist()]
        return texts(chosen, index.shape)


class TextFormat(Op):
    """out = each number as a decimal text: with 8 significant digits, or with `decimals` behind the point.

    Infinities are INF and -INF, what is no number NaN (inf, -inf and nan with `decimals`); truth values are 0
    and 1.
    """

    name = "text.format"
    traits = HOST
    x = operand()
    decimals = int_attr(-1)

    def infer(self, ic: InferContext) -> list[Type]:
        return [StringType(ic.tensor(self.x, "x").shape)]

    def evaluate(self, ev: Any, x: Array) -> Array:
        return texts([self._text(v) for v in x.reshape(-1).tolist()], x.shape)

    def _text(self, number: float | int | bool) -> str:
        if isinstance(number, int):
            return str(int(number))
        if self.decimals >= 0:
            return f"{number:.{self.decimals}f}"
        if math.isnan(number):
            return "NaN"
        return f"{number:.8g}".replace("inf", "INF")


class TextParse(Op):
    """out = the number that each text says, as `to`; to an integer its fraction is dropped, and it wraps.

    A text that is no number is an error.
    """

    name = "text.parse"
    traits = HOST
    x = operand()
    to = dtype_attr("f32")

    def infer(self, ic: InferContext) -> list[Type]:
        if self.to.kind is Kind.COMPLEX:
            ic.bad_attribute("to", "a real dtype", self.to)
        return [TensorType(self.to, string_shape(ic, self.x))]

    def evaluate(self, ev: Any, x: Array) -> Array:
        numbers = [self._number(str(t)) for t in x.reshape(-1).tolist()]
        if self.to.is_float:
            with np.errstate(over="ignore"):
                found: Array = np.asarray(numbers, np.float64).astype(ev.float_dtype(self.to))
        elif self.to.is_bool:
            found = np.asarray([n != 0 for n in numbers], bool)
        else:
            bits, low = self.to.bits, integer_range(self.to)[0]
            wrapped = [(int(n) - low) % (1 << bits) + low for n in numbers]
            found = np.asarray(wrapped, self.to.compute.numpy)
        found.shape = x.shape
        return found

    def _number(self, text: str) -> float:
        try:
            if not self.to.is_float and text.strip().lstrip("+-").isdecimal():
                return int(text)
            number = float(text)
        except ValueError:
            number = math.nan
            if text.strip().lower().lstrip("+-") != "nan":
                self._refuse(text)
        if not self.to.is_float and not math.isfinite(number):
            self._refuse(text)
        return number

    def _refuse(self, text: str) -> NoReturn:
        raise TextUnreadable(loc=self.loc, op=self.name, text=ascii(text[:40]), dtype=self.to)


def string_shape(ic: InferContext, value: Value) -> tuple[DimLike, ...]:
    """The shape of an operand that must hold strings."""
    if not isinstance(value.type, StringType):
        ic.bad_operand("type of the operand", "a tensor of strings", value.type)
    return value.type.shape


def texts(values: Any, shape: Any) -> Array:
    """An object array of texts."""
    out: Array = np.empty(len(values), object)
    out[:] = list(values)
    out.shape = shape
    return out
