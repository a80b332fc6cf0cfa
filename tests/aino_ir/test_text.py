"""The `.air` text: exact round trips of random modules."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aino_ir.builder import Builder, op_class
from aino_ir.constants import Const
from aino_ir.dims import ceildiv, dmax, dmin, symbol
from aino_ir.dtypes import DTYPES
from aino_ir.errors.text import TextMismatch, TextSyntaxError, UnknownWeight
from aino_ir.graph import Module
from aino_ir.location import loc
from aino_ir.op import OPS, Op, Sample
from aino_ir.sampling import sample_module, samples_for
from aino_ir.symbols import Origin
from aino_ir.text import parse, print_module
from aino_ir.text.leaves import RESERVED
from aino_ir.text.printer import Printer, dim_text, float_text
from aino_ir.types import (
    Layout,
    MapType,
    OptionalType,
    SequenceType,
    StringType,
    TensorType,
    permuted,
    tensor,
)
from aino_ir.verify import verify

NAMES = st.text(max_size=12) | st.sampled_from(
    ['"', "\\", "a\nb", "\t", "é", "😀", "*/", "// x", "\u202e", "%1", "\x00"]
)


def round_trip(module: Module) -> Module:
    """The module read back from its own text; both are sound and print alike."""
    verify(module)
    printer = Printer()
    text = printer.module(module)
    assert text.isascii()
    weights = {
        digest: np.ascontiguousarray(c.array()).reshape(-1).view(np.uint8)
        for digest, c in printer.weights.items()
    }
    again = parse(text, weights)
    verify(again)
    assert print_module(again) == text
    return again


@lru_cache
def pool() -> tuple[tuple[type[Op], Sample], ...]:
    """Small samples of every op class."""
    op_class("math.add")
    out = []
    for _, cls in sorted(OPS.items()):
        if not cls.__module__.startswith("aino_ir."):
            continue
        small = [s for s in samples_for(cls) if all(a is None or a.size <= 200 for a in s.operands)]
        out += [(cls, s) for s in small[:: max(1, len(small) // 4)]]
    return tuple(out)


def add_sample(b: Builder, cls: type[Op], sample: Sample, how: list[int], number: int, name: str) -> None:
    """One op of a sample: operands are constants, inputs with or without a default, or earlier values."""
    from aino_ir.types import type_of

    values: list[Any] = []
    for i, array in enumerate(sample.operands):
        kind = None if array is None else type_of(array)
        if array is None or kind is None:
            values.append(None)
        elif isinstance(kind, TensorType) and how[i % len(how)] == 0:
            values.append(b.constant(array, name))
        else:
            values.append(b.input(f"{name}.{number}.{i}", kind))
            if isinstance(kind, TensorType) and how[i % len(how)] == 1:
                b.function.defaults[f"{name}.{number}.{i}"] = Const.of(array)
    op = b.op(cls, *values, names=[f"{name}{i}" for i in range(1)], **sample.attrs)
    for i, result in enumerate(op.results):
        b.output(f"{name} {number} {i}", result)


@given(st.data())
@settings(max_examples=60)
def test_random_modules_come_back_exactly(data: st.DataObject) -> None:
    b = Builder()
    b.function.module.name = data.draw(NAMES)
    for key in data.draw(st.lists(NAMES, max_size=3)):
        b.function.module.metadata[key] = data.draw(NAMES)
    for number in range(data.draw(st.integers(1, 6))):
        cls, sample = data.draw(st.sampled_from(pool()))
        b.loc = loc(*data.draw(st.lists(NAMES, max_size=2)))
        how = data.draw(st.lists(st.integers(0, 2), min_size=1, max_size=3))
        add_sample(b, cls, sample, how, number, data.draw(NAMES))
    again = round_trip(b.module)
    assert again.metadata == b.module.metadata and again.name == b.module.name
    assert [op.loc for op in again.walk()] == [op.loc for op in b.module.walk()]
    assert again.main.input_names == b.module.main.input_names
    assert again.main.output_names == b.module.main.output_names
    assert again.main.defaults == b.module.main.defaults


@pytest.mark.parametrize("name", sorted({cls.name for cls, _ in pool()}))
def test_every_op_class_comes_back(name: str) -> None:
    for cls, sample in pool():
        if cls.name == name:
            module = sample_module(cls, sample)
            again = round_trip(module)
            for old, new in zip(module.walk(), again.walk(), strict=True):
                assert old.attributes_key() == new.attributes_key() and old.id == new.id


# -- symbols and checks -------------------------------------------------------------------------------

DIMS = st.recursive(
    st.sampled_from(["s", "t", "min", "true", "batch.1", "u_2"]).map(symbol) | st.integers(-40, 40),
    lambda inner: st.one_of(
        st.tuples(inner, inner).map(lambda p: p[0] + p[1]),
        st.tuples(inner, inner).map(lambda p: p[0] - p[1]),
        st.tuples(inner, inner).map(lambda p: p[0] * p[1]),
        st.tuples(inner, st.integers(1, 9)).map(lambda p: p[0] // p[1]),
        st.tuples(inner, st.integers(1, 9)).map(lambda p: ceildiv(p[0], p[1])),
        st.tuples(inner, inner).map(lambda p: dmin(*p)),
        st.tuples(inner, inner).map(lambda p: dmax(*p)),
    ),
    max_leaves=6,
)


@given(st.lists(DIMS, min_size=1, max_size=4))
@settings(max_examples=60)
def test_extents_come_back_as_the_same_objects(dims: list[Any]) -> None:
    b = Builder()
    for name in ("s", "t", "min", "true", "batch.1", "u_2"):
        b.symbol(name, 1, 64)
    b.output("d", b.op(op_class("core.dims"), dims=tuple(dims)).result)
    again = round_trip(b.module)
    (read,) = (op.dims for op in again.walk() if op.name == "core.dims")
    assert all(x is y or x == y for x, y in zip(read, dims, strict=True))


def test_symbols_named_like_words_of_the_language() -> None:
    b = Builder()
    names = sorted(
        RESERVED | {"in", "step", "symbols", "func", "string", "seq", "input", "data", "after", "module"}
    )
    shape = [b.symbol(n, 1, 8) for n in names]
    b.output("x", b.relu(b.input("x", tensor("f32", *shape[:8]))))
    b.output("y", b.relu(b.input("y", tensor("f32", *shape[8:16]))))
    b.output("d", b.op(op_class("core.dims"), dims=tuple(2 * d + dmin(d, 3) for d in shape)).result)
    again = round_trip(b.module)
    assert list(again.main.symbols) == names
    assert dim_text(2 * symbol("min") + dmin(symbol("min"), 3)) == "2*$min + min($min, 3)"


def test_tables_of_symbols_and_checks() -> None:
    b = Builder()
    table = b.function.symbols
    s = table.new("s", 1, 64, 2, Origin.input("x", 0))
    t = table.new("t", None, None, 1, Origin.value(7, 1))
    u = table.new("u", 0, s * 2 + 1, 1)
    table.data(9, 0, s + u)
    table.assume_ge(u, 3, 'needs "three"\n')
    table.assume_eq(t, s // 2, "half")
    b.output("x", b.relu(b.input("x", tensor("f32", s, u))))
    again = round_trip(b.module).main.symbols
    assert [again.declared(n) for n in again] == [table.declared(n) for n in table]
    assert again.checks == table.checks
    assert again.prove_eq(t * 2, s) is True and again.interval(u)[0] == 3


def test_checks_that_ops_recorded() -> None:
    b = Builder()
    s, t = b.symbol("s", 1, 8), b.symbol("t", 1, 8)
    b.output("z", b.add(b.input("x", tensor("f32", s)), b.input("y", tensor("f32", t))))
    assert "s == t" in print_module(b.module) or "t == s" in print_module(b.module)
    assert len(round_trip(b.module).main.symbols.checks) == 1


# -- types, constants, structure ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "layout",
    [
        permuted(0, 2, 1),
        Layout(((0, None), (1, "o"), (2, None), (1, "i")), ((1, 16),)),
        Layout(((0, "o"), (1, None), (2, "o"), (2, "i"), (0, "i")), ((0, 4), (2, 8)), ((1, 3),)),
        Layout(pad=((2, 8),)),
    ],
    ids=str,
)
def test_layouts_come_back(layout: Layout) -> None:
    b = Builder()
    x = b.input("x", TensorType(DTYPES["f32"], (2, 20, 7), layout))
    b.output("y", b.op(op_class("core.relayout"), x, layouts=[permuted(2, 1, 0)]).result)
    again = round_trip(b.module)
    assert again.main.inputs[0].type.layout == layout


def test_types_of_host_values_come_back() -> None:
    b = Builder()
    s = b.symbol("s", 1, 8)
    types = [
        StringType((2, s)),
        StringType(()),
        StringType((3,)),
        SequenceType(tensor("f32", s)),
        tensor("i4"),
    ]
    types += [MapType(StringType(()), tensor("f32")), SequenceType(MapType(tensor("i64"), StringType(())))]
    types += [OptionalType(SequenceType(StringType((1,)))), SequenceType(OptionalType(tensor("bool", 0, 2)))]
    for i, t in enumerate(types):
        b.output(f"y{i}", b.input(f"x{i}", t))
    assert [v.type for v in round_trip(b.module).main.inputs] == types


@pytest.mark.parametrize("name", sorted(DTYPES))
def test_constants_of_every_dtype_come_back(name: str) -> None:
    dtype = DTYPES[name]
    if dtype.is_bool:
        values = np.array([True, False])
    elif dtype.is_integer:
        info = (
            [0, 1, -(1 << (dtype.bits - 1)), (1 << (dtype.bits - 1)) - 1]
            if dtype.is_signed
            else [0, 1, (1 << dtype.bits) - 1]
        )
        values = np.array(info, np.uint64 if name == "u64" else np.int64).astype(dtype.numpy)
    else:
        raw = [0.0, -0.0, 1.0, -1.5, 0.1, 1e-30, 3e38, 1e-45, np.inf, -np.inf, np.nan, 448.0, 6.0, 2.0**-6]
        with np.errstate(all="ignore"):
            values = np.array(
                raw + ([1j, -0.0 - 1e10j, complex("inf+nanj")] if name[0] == "c" else [])
            ).astype(dtype.numpy)
    small, large = Const.of(values), Const.of(np.resize(values, 70))
    b = Builder()
    b.output("s", b.constant(small))
    b.output("l", b.constant(large))
    again = [op.value for op in round_trip(b.module).walk() if op.name == "core.constant"]
    for old, new in zip((small, large), again, strict=True):
        old_array, new_array = old.array(), new.array()
        assert new_array.dtype == old_array.dtype and new_array.shape == old_array.shape
        equal = old_array.view(np.uint8) == new_array.view(np.uint8) if old is large else None
        if equal is not None:
            assert equal.all()
        else:
            np.testing.assert_array_equal(_bits(new_array), _bits(old_array))


def _bits(array: np.ndarray) -> np.ndarray:
    """The bytes of an array, every NaN made the same one."""
    if array.dtype.kind == "c":
        parts = np.stack([array.real, array.imag])
        return _bits(parts)
    if array.dtype.kind in "iub":
        return array.view(np.uint8)
    clean = array.astype(np.float64)
    return np.where(np.isnan(clean), np.nan, clean).view(np.uint64)


@given(st.floats(), st.floats(width=32), st.floats(width=16))
@settings(max_examples=50)
def test_floats_come_back_exactly(f64: float, f32: float, f16: float) -> None:
    b = Builder()
    x = b.input("x", tensor("f32", 1))
    b.output("a", b.leaky_relu(x, alpha=f64))
    for width, value in ((64, f64), (32, f32), (16, f16)):
        b.output(f"c{width}", b.constant(np.array([value], f"f{width // 8}")))
    again = round_trip(b.module)
    read = next(op for op in again.walk() if op.name == "math.leaky_relu")
    assert read.attributes_key() == b.block.first.attributes_key()
    assert float(float_text(f64)) == f64 or f64 != f64


def test_short_decimals_stand_for_narrow_floats() -> None:
    b = Builder()
    b.output("y", b.constant(np.array([0.1, 1e-7, 3.0], np.float32)))
    assert "const f32[3] [0.1, 1e-07, 3.0]" in print_module(b.module)
    round_trip(b.module)


def lazy_const(b: Builder) -> Const:
    kind = tensor("f32", 2)
    region = b.region([kind, kind], lambda inner, p, q: [inner.add(inner.leaky_relu(p, alpha=0.5), q)])
    return Const.lazy(region, (Const.of(np.ones(2, np.float32)), Const.of(np.full(2, 3, np.float32))), kind)


def test_lazy_constants_come_back_with_the_same_identity() -> None:
    b = Builder(loc=loc("somewhere"))
    inner = lazy_const(b)
    outer = Const.lazy(b.region([inner.type], lambda i, p: [i.neg(p)]), (inner,), inner.type)
    nothing = Const.lazy(
        b.region([], lambda i: [i.constant(np.arange(100, dtype=np.float32))]), (), tensor("f32", 100)
    )
    for i, const in enumerate((inner, outer, nothing)):
        b.output(f"y{i}", b.constant(const))
    read = [op.value for op in round_trip(b.module).main.block if op.name == "core.constant"]
    assert [c.key for c in read] == [inner.key, outer.key, nothing.key]
    assert read[1].array().tolist() == [-4, -4]


def test_tied_weights_share_one_handle() -> None:
    b = Builder()
    shared = Const.of(np.arange(100, dtype=np.float32))
    b.output("x", b.constant(shared))
    b.output("y", b.constant(shared))
    first, second = [op.value for op in round_trip(b.module).walk() if op.name == "core.constant"]
    assert first is second


def test_regions_with_several_blocks_and_names_come_back() -> None:
    b = Builder()
    x = b.input("x", tensor("f32", 2))

    def nested(inner: Builder, v: Any) -> list[Any]:
        deep = inner.region([v.type], lambda i, w: [i.neg(w), w])
        return [inner.add(*inner.fused(v, regions=[deep], kind="row", anchor=1))]

    region = b.region([x.type], nested)
    region.args[0].name = "inside"
    b.output("y", b.fused(x, regions=[region]))
    again = round_trip(b.module)
    (outer,) = (op for op in again.main.block if op.regions)
    assert outer.regions[0].args[0].name == "inside" and outer.regions[0].parent is outer
    assert outer.regions[0].first.attrs() == {"kind": "row", "anchor": 1}


def test_states_and_defaults_come_back() -> None:
    b = Builder()
    x = b.input("x", tensor("f32", 2))
    b.function.defaults["x"] = Const.of(np.array([1, 2], np.float32))
    cell = b.state("cell", tensor("f32", 2), Const.of(np.array([5, 6], np.float32)))
    zero = b.state("zero", tensor("i64", 70), Const.of(np.arange(70)))
    b.output("y", b.add(x, cell))
    b.finish([cell, zero])
    again = round_trip(b.module).main
    assert [(s.name, s.type) for s in again.states] == [(s.name, s.type) for s in b.function.states]
    assert [s.init for s in again.states] == [s.init for s in b.function.states]
    assert again.defaults == b.function.defaults


def test_several_functions_with_any_name() -> None:
    module = Module("two")
    for name in ("main", 'say "hi"', "a.b"):
        b = Builder(module.add_function(name))
        b.output("y", b.input("x", tensor("f32", 1)))
        b.finish()
    assert list(round_trip(module).functions) == ["main", 'say "hi"', "a.b"]


def test_new_ids_do_not_meet_those_of_the_text() -> None:
    b = Builder()
    b.function.module.reserve_ids(500)
    b.output("y", b.relu(b.input("x", tensor("f32", 1))))
    again = parse(print_module(b.module))
    used = {op.id for op in again.walk()} | {v.id for op in again.walk() for v in op.results}
    assert again.new_id() > max(used)


def test_comments_and_spaces_are_ignored() -> None:
    b = Builder()
    b.output("y", b.relu(b.input("x", tensor("f32", 1))))
    text = print_module(b.module)
    spread = "// a comment: é\n" + text.replace("{", "{ // opens\n").replace(" = ", "\t=\n")
    assert print_module(parse(spread)) == text


def test_attributes_with_a_default_may_be_left_out() -> None:
    text = 'module "m" { func main(%1: f32[2] "x") -> ("y") { %2 = math.leaky_relu %1 : f32[2] #3 core.return %2 #4 } }'
    module = parse(text)
    verify(module)
    assert next(iter(module.walk())).attrs() == {"alpha": 0.01}
    assert parse(text.replace("%1 :", "%1 <alpha = 3> :")).main.block.first.attrs() == {"alpha": 3.0}


# -- what is refused ----------------------------------------------------------------------------------


@lru_cache
@given(st.data())
@settings(max_examples=100)
def test_damaged_text_is_refused_or_read_never_worse(data: st.DataObject) -> None:
    text = sample_text()
    start = data.draw(st.integers(0, len(text) - 1))
    stop = min(len(text), start + data.draw(st.integers(0, 8)))
    middle = data.draw(st.text(alphabet='%#!<>{}()[]"=,:@$-+*/.0123456789abcdefinx \n', max_size=4))
    try:
        parse(text[:start] + middle + text[stop:])
    except (TextSyntaxError, TextMismatch, UnknownWeight) as error:
        assert "^" in str(error) or isinstance(error, UnknownWeight)


def sample_text() -> str:
    b = Builder(loc=loc("node 'n'"))
    s = b.symbol("s", 1, 64)
    x = b.input("x", tensor("f32", s, 4))
    y = b.matmul(x, b.constant(np.ones((4, 3), np.float32)))
    region = b.region([y.type], lambda inner, v: [inner.relu(v)])
    b.output("y", b.fused(y, regions=[region]))
    b.output("l", b.constant(lazy_const(b)))
    b.output("i", b.constant(np.array([1, -2])))
    return print_module(b.module)


def test_elided_text_is_for_people() -> None:
    b = Builder(loc=loc("node 'é'"))
    b.output("l", b.constant(lazy_const(b)))
    b.output("y", b.leaky_relu(b.constant(np.linspace(0, 1, 9, dtype=np.float32)), alpha=0.1))
    text = print_module(b.module, elide=True)
    assert (
        "weight f32[9]" in text
        and "alpha = 0.1" in text
        and "lazy f32[2]" in text
        and "// node '\\xe9'" in text
    )
