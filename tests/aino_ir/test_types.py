"""Types and layouts: physical extents, addresses, packing, against a naive reading of the definition."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aino_ir.dims import is_static, symbol
from aino_ir.dtypes import DTYPES, f32
from aino_ir.symbols import Symbols
from aino_ir.types import (
    ROW_MAJOR,
    Layout,
    OptionalType,
    SequenceType,
    StringType,
    TensorType,
    permuted,
    tensor,
    type_of,
)
from aino_ir.verify import layout_fits


@st.composite
def layouts(draw, rank: int) -> Layout:
    """Any legal layout of a rank: tiled, padded and permuted axes."""
    tiles = {a: draw(st.sampled_from([2, 3, 4])) for a in range(rank) if draw(st.booleans())}
    pads = {a: draw(st.sampled_from([2, 3, 8])) for a in range(rank) if draw(st.integers(0, 3)) == 0}
    parts = [(a, p) for a in range(rank) for p in (("o", "i") if a in tiles else (None,))]
    order = draw(st.permutations(parts))
    if not tiles and not pads and draw(st.booleans()):
        return ROW_MAJOR
    return Layout(tuple(order), tuple(tiles.items()), tuple(pads.items()))


@st.composite
def laid_out(draw) -> tuple[Layout, tuple[int, ...]]:
    shape = tuple(draw(st.lists(st.integers(1, 5), min_size=0, max_size=3)))
    return draw(layouts(len(shape))), shape


def naive_address(layout: Layout, shape: tuple[int, ...], index: tuple[int, ...]) -> int:
    """The position of an element in an array with one axis per physical dim."""
    tiles, pads = dict(layout.tiles), dict(layout.pad)
    extents, where = [], []
    for axis, part in layout.order or [(a, None) for a in range(len(shape))]:
        full = -(-shape[axis] // pads.get(axis, 1)) * pads.get(axis, 1)
        tile = tiles.get(axis, 1)
        extents.append({None: full, "o": -(-full // tile), "i": tile}[part])
        where.append({None: index[axis], "o": index[axis] // tile, "i": index[axis] % tile}[part])
    return int(np.ravel_multi_index(where, extents)) if extents else 0


@given(laid_out())
@settings(max_examples=150)
def test_addresses_are_where_a_naive_reading_puts_them(case: tuple[Layout, tuple[int, ...]]) -> None:
    layout, shape = case
    assert layout_fits(layout, len(shape))
    addresses = [layout.addr(shape, i) for i in np.ndindex(*shape)]
    assert addresses == [naive_address(layout, shape, i) for i in np.ndindex(*shape)]
    assert len(set(addresses)) == len(addresses)
    assert max(addresses) < layout.bound(shape)


@given(laid_out())
@settings(max_examples=100)
def test_packing_puts_elements_at_their_addresses_and_zeros_elsewhere(
    case: tuple[Layout, tuple[int, ...]],
) -> None:
    layout, shape = case
    array = np.arange(1, 1 + np.prod(shape, dtype=int), dtype=np.float32).reshape(shape)
    flat = layout.pack(array)
    assert flat.shape == (layout.bound(shape),)
    expected = np.zeros(flat.size, np.float32)
    for index in np.ndindex(*shape):
        expected[layout.addr(shape, index)] = array[index]
    np.testing.assert_array_equal(flat, expected)
    np.testing.assert_array_equal(layout.unpack(flat, shape), array)


@given(laid_out(), st.integers(1, 9))
@settings(max_examples=60)
def test_symbolic_extents_give_the_same_addresses(case: tuple[Layout, tuple[int, ...]], extent: int) -> None:
    layout, shape = case
    if not shape:
        return
    symbolic = (symbol("s"), *shape[1:])
    known = {"s": extent}
    static = (extent, *shape[1:])
    phys = [d if is_static(d) else d.evaluate(known) for d in layout.phys(symbolic)]
    assert tuple(phys) == layout.phys(static)
    index = tuple(d - 1 for d in static)
    address = layout.addr(symbolic, index)
    assert (address if is_static(address) else address.evaluate(known)) == layout.addr(static, index)


def test_blocked_layout_of_channels() -> None:
    blocked = Layout(((0, None), (1, "o"), (2, None), (1, "i")), ((1, 16),))
    assert blocked.phys((2, 20, 7)) == (2, 2, 7, 16)
    assert blocked.addr((2, 20, 7), (1, 17, 3)) == ((1 * 2 + 1) * 7 + 3) * 16 + 1
    assert blocked.bound((2, 20, 7)) == 2 * 2 * 7 * 16
    assert str(blocked) == "@(0 1o 2 1i16)"


def test_pads_come_before_tiles() -> None:
    layout = Layout(((0, "o"), (0, "i")), ((0, 4),), ((0, 6),))
    assert layout.phys((5,)) == (2, 4)
    assert layout.pack(np.ones(5)).tolist() == [1] * 5 + [0] * 3


def test_a_symbolic_axis_divides_where_the_table_says_so() -> None:
    symbols = Symbols()
    s = symbols.new("s", 8, 64, 8)
    (outer, inner) = Layout(((0, "o"), (0, "i")), ((0, 8),)).phys((s,))
    assert symbols.prove_eq(outer * inner, s) is True


def test_empty_and_scalar_arrays_pack() -> None:
    assert ROW_MAJOR.pack(np.float32(3)).tolist() == [3]
    assert ROW_MAJOR.unpack(np.ones(1), ()).shape == ()
    tiled = Layout(((0, "o"), (0, "i")), ((0, 4),))
    assert tiled.pack(np.zeros(0)).shape == (0,)
    assert tiled.unpack(np.zeros(0), (0,)).shape == (0,)


def test_the_plain_order_is_row_major() -> None:
    assert permuted(0, 1, 2) == ROW_MAJOR and hash(permuted(0, 1)) == hash(ROW_MAJOR)
    assert permuted(1, 0) != ROW_MAJOR
    assert ROW_MAJOR.is_row_major and not permuted(1, 0).is_row_major
    assert not Layout(pad=((0, 4),)).is_row_major
    assert Layout(pad=((0, 4),)).phys((5, 3)) == (8, 3)


@pytest.mark.parametrize(
    "layout",
    [
        permuted(1, 2),
        permuted(0, 0),
        permuted(2, 1, 0),
        permuted(1, 0, 2),
        Layout(((0, "o"), (1, None)), ((0, 4),)),
        Layout(((0, "o"), (0, "i"), (1, None))),
        Layout(((0, "o"), (0, "i"), (1, None)), ((0, 0),)),
        Layout(((0, None), (1, None)), (), ((1, 0),)),
        Layout(((0, None), (1, None)), (), ((2, 4),)),
        Layout(((0, "o"), (0, "i"), (1, None)), ((0, 4), (0, 2))),
    ],
)
def test_layouts_that_do_not_fit_a_matrix(layout: Layout) -> None:
    assert not layout_fits(layout, 2)


def test_one_layout_has_one_spelling() -> None:
    order = ((0, "o"), (1, "o"), (1, "i"), (0, "i"))
    assert Layout(order, ((1, 4), (0, 2))) == Layout(order, ((0, 2), (1, 4)))
    assert Layout(pad=((1, 8), (0, 2))) == Layout(((0, None), (1, None)), (), ((0, 2), (1, 8)))
    assert str(Layout(pad=((1, 8), (0, 2)))) == "@(pad0:2 pad1:8)" and str(ROW_MAJOR) == ""


def test_types_are_equal_by_content() -> None:
    s = symbol("s")
    assert tensor("f32", s + 1, 3) == TensorType(f32, (1 + s, 3))
    assert hash(tensor("f32", 2)) == hash(tensor("f32", 2))
    different = [
        tensor("f32", 2),
        tensor("f64", 2),
        tensor("f32", 3),
        tensor("f32", 2, 1),
        TensorType(f32, (2,), Layout(pad=((0, 4),))),
        StringType((2,)),
        SequenceType(tensor("f32", 2)),
        OptionalType(tensor("f32", 2)),
    ]
    for a, b in itertools.combinations(different, 2):
        assert a != b


def test_derived_types() -> None:
    t = TensorType(f32, (2, 3), permuted(1, 0))
    assert t.with_shape((6,)) == tensor("f32", 6)
    assert t.with_dtype("i8") == TensorType(DTYPES["i8"], (2, 3), permuted(1, 0))
    assert t.logical() == tensor("f32", 2, 3)
    assert (t.rank, t.size, t.is_static) == (2, 6, True)
    s = symbol("s")
    assert not tensor("f32", s).is_static and tensor("f32", s, 2).size is s * 2
    assert str(OptionalType(SequenceType(t))) == "optional<seq<f32[2, 3]@(1 0)>>"


@pytest.mark.parametrize("name", sorted(DTYPES))
def test_every_dtype_is_found_by_its_arrays(name: str) -> None:
    assert type_of(np.zeros((2, 1), DTYPES[name].numpy)) == tensor(name, 2, 1)


def test_strings_and_strange_arrays() -> None:
    assert type_of(np.array(["a", "b"])) == StringType((2,))
    assert type_of(np.array(["a"], object)) == StringType((1,))
    assert type_of(np.zeros(2, "datetime64[s]")) is None
