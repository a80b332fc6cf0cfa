"""Samples of ops that declare none of their own: movement, contractions and pools."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from aino_ir.dtypes import DTYPES, Kind
from aino_ir.op import Sample
from aino_ir.sampling import edge_values, random_values, seeded

STORED = tuple(name for name, dtype in DTYPES.items() if dtype.kind is not Kind.COMPLEX)
"""Dtypes that movement must carry bit by bit."""

NARROW = tuple(name for name in STORED if DTYPES[name].bits <= 8 and DTYPES[name].is_storage)
"""Dtypes of 8 bits and less that are computed in f32 or i32."""

NUMBERS = ("f64", "f16", "bf16", "i64", "i32", "i16", "i8", "u8", "u16", "u32", "u64", "i4")
"""Dtypes beside f32 that contractions and pools take."""


def _values(dtype: str, shape: tuple[int, ...], rng: np.random.Generator) -> Any:
    """Edge values where they fill the shape, plain ones after them."""
    kind = DTYPES[dtype]
    plain = random_values(kind, shape, rng)
    edges = edge_values(kind)[: plain.size]
    flat = plain.reshape(-1).copy()
    flat[: len(edges)] = edges
    return rng.permutation(flat).reshape(shape)


def _moved(name: str, cases: tuple[tuple[tuple[int, ...], dict[str, Any]], ...]) -> Iterator[Sample]:
    """One operand: every dtype on the first case, f32 and i8 on the others."""
    rng = seeded(name)
    for number, (shape, attrs) in enumerate(cases):
        for dtype in STORED if number == 0 else ("f32", "i8"):
            yield Sample((_values(dtype, shape, rng),), attrs, f"{dtype} {list(shape)}")


def _reshape() -> Iterator[Sample]:
    shapes = (
        ((2, 6), (3, 4)),
        ((5,), (1, 5, 1)),
        ((), (1,)),
        ((0, 3), (3, 0, 2)),
        ((1, 1), ()),
        ((2, 3), (2, 3)),
    )
    return _moved("reshape", tuple((a, {"shape": b}) for a, b in shapes))


def _transpose() -> Iterator[Sample]:
    cases = (
        ((3, 5), (1, 0)),
        ((2, 3, 4), (2, 0, 1)),
        ((2, 3, 4), (0, 2, 1)),
        ((2, 3, 4, 5), (3, 1, 2, 0)),
        ((33, 17), (1, 0)),
        ((2, 9, 16), (1, 0, 2)),
        ((), ()),
        ((0, 3), (1, 0)),
        ((1, 7), (1, 0)),
        ((4, 2, 3, 2, 5), (4, 2, 0, 3, 1)),
    )
    return _moved("transpose", tuple((shape, {"perm": perm}) for shape, perm in cases))


def _expand() -> Iterator[Sample]:
    cases = (
        ((3, 1), (3, 5)),
        ((), (4,)),
        ((1,), (2, 3, 7)),
        ((2, 1, 3), (2, 4, 3)),
        ((1, 17), (9, 17)),
        ((3,), (0, 3)),
        ((1,), (0,)),
        ((2, 3), (1, 1)),
        ((), ()),
    )
    return _moved("expand", tuple((shape, {"shape": to}) for shape, to in cases))


def _slice() -> Iterator[Sample]:
    cases = (
        ((7,), (2,), (4,), (1,)),
        ((7,), (6,), (4,), (-2,)),
        ((9,), (8,), (9,), (-1,)),
        ((40,), (1,), (19,), (2,)),
        ((50,), (49,), (17,), (-3,)),
        ((4, 20), (1, 3), (2, 9), (1, 1)),
        ((4, 20), (3, 18), (2, 7), (-2, -2)),
        ((4, 20), (3, 0), (4, 20), (-1, 1)),
        ((4, 5), (0, 5), (4, 0), (1, 1)),
        ((0, 5), (0, 1), (0, 3), (1, 1)),
        ((), (), (), ()),
        ((3, 4, 5), (2, 0, 4), (1, 2, 5), (1, 2, -1)),
    )
    return _moved("slice", tuple((shape, {"starts": a, "sizes": n, "steps": s}) for shape, a, n, s in cases))


def _concat() -> Iterator[Sample]:
    rng = seeded("concat")
    cases = (
        (((2, 3), (2, 4)), 1),
        (((2, 3), (1, 3), (3, 3)), 0),
        (((5,),), 0),
        (((2, 0, 3), (2, 4, 3)), 1),
        (((2, 3, 2), (2, 3, 1), (2, 3, 17)), 2),
        (((0, 3), (0, 2)), 1),
        (((3, 1, 4), (3, 2, 4)), 1),
    )
    for number, (shapes, axis) in enumerate(cases):
        for dtype in STORED if number == 0 else ("f32", "i8"):
            yield Sample(tuple(_values(dtype, s, rng) for s in shapes), {"axis": axis}, f"{dtype} {shapes}")


def _pad() -> Iterator[Sample]:
    cases: list[tuple[tuple[int, ...], dict[str, Any]]] = [
        ((5,), {"before": (2,), "after": (3,)}),
        ((5,), {"before": (2,), "after": (3,), "value": 1.0}),
        ((3, 9), {"before": (1, 2), "after": (0, 4), "value": 3.0}),
        ((3, 9), {"before": (0, -2), "after": (1, -3)}),
        ((3, 9), {"before": (-1, 0), "after": (0, 0)}),
        ((2, 0), {"before": (0, 2), "after": (1, 1), "value": 7.0}),
        ((), {"before": (), "after": ()}),
        ((2, 20), {"before": (0, 0), "after": (0, 0)}),
    ]
    for mode in ("reflect", "symmetric", "edge", "wrap"):
        cases += [
            ((5,), {"before": (2,), "after": (3,), "mode": mode}),
            ((3, 9), {"before": (1, 4), "after": (2, 5), "mode": mode}),
            ((3, 9), {"before": (0, 4), "after": (0, 0), "mode": mode}),
            ((4, 19), {"before": (1, 0), "after": (2, 0), "mode": mode}),
        ]
    yield from _moved("pad", tuple(cases))
    ones = np.ones(3, DTYPES["f8e8m0"].numpy)  # a type without a zero: NaN stands for it
    yield Sample((ones,), {"before": (1,), "after": (1,)}, "f8e8m0")
    yield Sample(
        (ones.astype(DTYPES["f16"].numpy),), {"before": (1,), "after": (1,), "value": 0.1}, "rounded fill"
    )


def _gather() -> Iterator[Sample]:
    rng = seeded("gather")
    cases: tuple[tuple[tuple[int, ...], Any, int], ...] = (
        ((7,), [0, -7, 6, 3], 0),
        ((4, 9), [[1, 0], [-1, -4]], 0),
        ((4, 9), [[1, 8], [-9, -1]], 1),
        ((4, 9), 2, 1),
        ((3, 4, 5), [2, 0, -1], 1),
        ((3, 20), [0, 2, 1, -1, 0], 0),
        ((3, 20), list(range(-20, 20)), 1),
        ((4, 2), np.zeros((0,)), 0),
        ((0, 5), [1, 2], 1),
        ((5, 1), [0, 0, -1], 1),
    )
    for number, (shape, indices, axis) in enumerate(cases):
        for dtype in STORED if number == 1 else ("f32",):
            for kind in ("i64", "i32") if dtype == "f32" else ("i64",):
                x = _values(dtype, shape, rng)
                where = np.asarray(indices).astype(DTYPES[kind].numpy)
                yield Sample((x, where), {"axis": axis}, f"{dtype} {kind} {list(shape)}")
    for kind in ("i8", "i16", "u8", "u32", "u64", "i4"):
        where = np.array([0, 6, 3]).astype(DTYPES[kind].numpy)
        yield Sample((_values("f32", (7,), rng), where), {"axis": 0}, f"f32 {kind}")


def _matmul() -> Iterator[Sample]:
    rng = seeded("matmul")
    shapes: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...] = (
        ((5, 7), (7, 9)),
        ((1, 1), (1, 1)),
        ((1, 33), (33, 17)),
        ((17, 3), (3, 1)),
        ((6, 16), (16, 32)),
        ((13, 40), (40, 20)),
        ((2, 3, 4), (4, 5)),
        ((2, 3, 4), (2, 4, 5)),
        ((2, 1, 3, 4), (3, 4, 5)),
        ((3, 4), (2, 4, 5)),
        ((0, 4), (4, 5)),
        ((3, 0), (0, 5)),
        ((3, 4), (4, 0)),
        ((0, 2, 3), (3, 4)),
    )
    for a, b in shapes:
        for ta, tb in ((False, False), (True, False), (False, True), (True, True)):
            lhs = (*a[:-2], a[-1], a[-2]) if ta else a
            rhs = (*b[:-2], b[-1], b[-2]) if tb else b
            attrs = {"transpose_lhs": ta, "transpose_rhs": tb}
            values = (random_values(DTYPES["f32"], lhs, rng), random_values(DTYPES["f32"], rhs, rng))
            yield Sample(values, attrs, f"f32 {list(a)} x {list(b)}")
    for dtype in NUMBERS:
        for a, b in (((5, 7), (7, 9)), ((2, 3, 4), (2, 4, 18))):
            values = (random_values(DTYPES[dtype], a, rng), random_values(DTYPES[dtype], b, rng))
            yield Sample(values, {}, f"{dtype} {list(a)} x {list(b)}")
    special = random_values(DTYPES["f32"], (4, 6), rng)
    special[1, 2], special[2, 3], special[3, 0] = np.nan, np.inf, -np.inf
    yield Sample((special, random_values(DTYPES["f32"], (6, 19), rng)), {}, "f32 NaN and infinities")
    for dtype in ("i32", "i8", "u8", "i64"):
        x = np.resize(edge_values(DTYPES[dtype]), (4, 6))
        yield Sample((x, np.resize(edge_values(DTYPES[dtype])[::-1], (6, 5))), {}, f"{dtype} wraps")


def _geometry(spatial: int, stride: int = 1, dilation: int = 1, pad: Any = 0) -> dict[str, Any]:
    pads = pad if isinstance(pad, tuple) else (pad, pad)
    return {
        "strides": (stride,) * spatial,
        "dilations": (dilation,) * spatial,
        "pads_before": (pads[0],) * spatial,
        "pads_after": (pads[1],) * spatial,
    }


CONVOLUTIONS: tuple[tuple[tuple[int, ...], tuple[int, ...], bool, dict[str, Any]], ...] = (
    ((1, 3, 7, 9), (4, 3, 3, 3), True, _geometry(2, 1, 1, 1)),
    ((2, 4, 8, 8), (6, 4, 1, 1), False, _geometry(2)),
    ((1, 4, 9, 11), (5, 4, 3, 3), True, _geometry(2, 2, 1, 1)),
    ((1, 4, 9, 11), (5, 4, 3, 3), False, _geometry(2, 1, 2, 2)),
    ((1, 4, 9, 11), (5, 4, 3, 2), False, _geometry(2, 2, 2, (1, 0))),
    ((1, 6, 8, 8), (6, 1, 3, 3), True, {**_geometry(2, 1, 1, 1), "groups": 6}),
    ((1, 6, 8, 8), (12, 1, 3, 3), False, {**_geometry(2, 2, 1, 1), "groups": 6}),
    ((2, 6, 5, 7), (9, 2, 3, 3), True, {**_geometry(2, 1, 1, 1), "groups": 3}),
    ((2, 3, 20), (4, 3, 5), True, _geometry(1, 1, 1, 2)),
    ((1, 2, 31), (3, 2, 4), False, _geometry(1, 3, 2, (0, 3))),
    ((1, 2, 4, 5, 6), (3, 2, 3, 3, 3), True, _geometry(3, 1, 1, 1)),
    ((1, 2, 5, 5, 5), (2, 1, 2, 3, 2), False, {**_geometry(3, 2, 1, 1), "groups": 2}),
    ((1, 3, 40, 3), (16, 3, 7, 3), False, _geometry(2, 2, 1, 3)),
    ((1, 1, 1, 1), (1, 1, 1, 1), True, _geometry(2)),
    ((1, 2, 2, 2), (3, 2, 3, 3), False, _geometry(2, 1, 1, 2)),
    ((0, 3, 5, 5), (2, 3, 3, 3), False, _geometry(2)),
    ((1, 16, 6, 6), (32, 16, 3, 3), True, _geometry(2, 1, 1, 1)),
    ((1, 3, 33, 35), (8, 3, 7, 7), True, _geometry(2, 2, 1, 3)),
    ((1, 2, 3, 3), (2, 2, 5, 5), False, _geometry(2, 1, 1, 4)),
)
"""Operand shapes, whether there is a bias, and attributes."""


def _conv() -> Iterator[Sample]:
    rng = seeded("conv")
    for number, (x, w, bias, attrs) in enumerate(CONVOLUTIONS):
        for dtype in ("f32", *NUMBERS) if number in (0, 5) else ("f32",):
            kind = DTYPES[dtype]
            operands = (
                random_values(kind, x, rng),
                random_values(kind, w, rng),
                random_values(kind, w[:1], rng) if bias else None,
            )
            yield Sample(operands, attrs, f"{dtype} {list(x)} * {list(w)}")


POOLS: tuple[tuple[tuple[int, ...], dict[str, Any]], ...] = (
    ((1, 3, 8, 8), {"kernel": (2, 2), **_geometry(2, 2)}),
    ((2, 3, 9, 11), {"kernel": (3, 3), **_geometry(2, 2, 1, 1)}),
    ((1, 2, 9, 11), {"kernel": (3, 2), **_geometry(2, 2, 1, 1), "ceil_mode": True}),
    ((1, 2, 9, 11), {"kernel": (3, 3), **_geometry(2, 1, 2, 2)}),
    ((1, 2, 20), {"kernel": (4,), **_geometry(1, 3, 1, (1, 2)), "ceil_mode": True}),
    ((1, 2, 5, 6, 7), {"kernel": (2, 3, 2), **_geometry(3, 2, 1, 1)}),
    ((1, 2, 7, 7), {"kernel": (7, 7), **_geometry(2)}),
    ((0, 2, 7, 7), {"kernel": (2, 2), **_geometry(2)}),
    ((1, 16, 6, 6), {"kernel": (3, 3), **_geometry(2, 1, 1, 1)}),
)


def _pools(name: str, options: tuple[dict[str, Any], ...]) -> Iterator[Sample]:
    rng = seeded(name)
    for number, (shape, attrs) in enumerate(POOLS):
        for dtype in ("f32", *NUMBERS) if number == 1 and name == "max_pool" else ("f32",):
            for more in options:
                x = random_values(DTYPES[dtype], shape, rng)
                yield Sample((x,), {**attrs, **more}, f"{dtype} {list(shape)}")
    for dtype in ("f64", "f16", "bf16"):
        x = random_values(DTYPES[dtype], (2, 3, 9, 11), rng)
        yield Sample((x,), POOLS[1][1], f"{dtype} [2, 3, 9, 11]")
    special = random_values(DTYPES["f32"], (1, 2, 9, 9), rng)
    special[0, 0, 3, 3], special[0, 1, 0, 0], special[0, 1, 8] = np.nan, np.inf, -np.inf
    yield Sample((special,), POOLS[1][1], "f32 NaN and infinities")


def _casts() -> Iterator[Sample]:
    """Edge values from and to every narrow dtype."""
    for source in STORED:
        for to in STORED:
            if source in NARROW or to in NARROW:
                both = DTYPES[source].is_float and DTYPES[to].is_float and to in NARROW
                for saturate in (False, True) if both else (False,):
                    x = edge_values(DTYPES[source])
                    yield Sample((x,), {"to": to, "saturate": saturate}, f"{source} edges")


REINTERPRETED = (
    *(("f16", "u16"), ("bf16", "i16"), ("u16", "bf16"), ("f8e4m3fn", "u8"), ("u8", "f8e8m0")),
    *(("i4", "u4"), ("u4", "f4e2m1"), ("f4e2m1", "i4"), ("i2", "u2"), ("f64", "i64"), ("u32", "f32")),
)
"""Pairs of dtypes of one width, one of them a storage type: lowering makes views of these bitcasts."""


def _bitcasts() -> Iterator[Sample]:
    for source, to in REINTERPRETED:
        x = np.resize(edge_values(DTYPES[source]), (3, 17))
        yield Sample((x,), {"to": to}, f"{source} to {to}")


def _narrow(name: str, arity: int) -> Iterator[Sample]:
    """Arithmetic and comparisons on narrow dtypes: all pairs of edge values."""
    for dtype in NARROW:
        edges = edge_values(DTYPES[dtype])
        if name == "math.div" and DTYPES[dtype].is_integer:
            continue  # divisors of zero are refused: test_semantics
        grid = [edges.reshape([-1 if i == j else 1 for j in range(arity)]) for i in range(arity)]
        yield Sample(tuple(grid), {}, f"{dtype} edges")


def _dims() -> Iterator[Sample]:
    for dims in ((), (3,), (4, 0, 7)):
        yield Sample((), {"dims": dims})


MORE_SAMPLES: dict[str, list[Sample]] = {
    "core.dims": list(_dims()),
    "math.bitcast": list(_bitcasts()),
    "math.cast": list(_casts()),
    **{f"math.{name}": list(_narrow(f"math.{name}", 1)) for name in ("neg", "abs", "relu")},
    **{
        f"math.{name}": list(_narrow(f"math.{name}", 2))
        for name in ("add", "sub", "mul", "div", "max", "min")
    },
    **{f"logic.{name}": list(_narrow(f"logic.{name}", 2)) for name in ("eq", "lt", "ge")},
    "tensor.reshape": list(_reshape()),
    "tensor.transpose": list(_transpose()),
    "tensor.expand": list(_expand()),
    "tensor.slice": list(_slice()),
    "tensor.concat": list(_concat()),
    "tensor.pad": list(_pad()),
    "tensor.gather": list(_gather()),
    "nn.matmul": list(_matmul()),
    "nn.conv": list(_conv()),
    "nn.max_pool": list(_pools("max_pool", ({},))),
    "nn.avg_pool": list(_pools("avg_pool", ({}, {"count_include_pad": True}))),
}
"""Samples by op name."""
