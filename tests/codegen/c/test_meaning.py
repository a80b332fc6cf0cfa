"""Every operation on every dtype, scalar and vector, means in C what the loop language says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from aino_ir.codegen.c.unit import print_unit
from aino_ir.dtypes import DTYPES, boolean, f32, i32
from aino_ir.loops.expr import (
    BINARY_OPS,
    COMPARE_OPS,
    Shuffle,
    VecType,
    binary,
    bitcast,
    call,
    cast,
    compare,
    fma,
    maximum,
    minimum,
    reduce_lanes,
    round_to,
    select,
    unary,
)
from aino_ir.loops.math import FUNCTIONS
from tests.codegen.c.support import (
    Case,
    check_cases,
    compile_text,
    compilers,
    edge_values,
    runnable_isas,
    target,
)

FLOATS = ("f32", "f64")
INTEGERS = ("i8", "i16", "i32", "i64", "u8", "u16", "u32", "u64")
NUMBERS = FLOATS + INTEGERS
STORAGE = (
    "f16",
    "bf16",
    "f8e4m3fn",
    "f8e4m3fnuz",
    "f8e5m2",
    "f8e5m2fnuz",
    "f8e8m0",
    "f4e2m1",
    "i4",
    "u4",
    "i2",
    "u2",
)
COUNT = 1024
INTEGER_ONLY = {"and", "or", "xor", "shl", "shr"}
FLOAT_ONLY = {"copysign"}


def values(name: str, seed: int) -> np.ndarray:
    return edge_values(DTYPES[name], seed, COUNT)


def pairs_of(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Two operands in which all edge values meet."""
    x = edge_values(DTYPES[name], 1, COUNT)
    head = 32
    specials = np.sort(edge_values(DTYPES[name], 1, 46))[:head] if name in INTEGERS else x[:head]
    a, b = x.copy(), edge_values(DTYPES[name], 2, COUNT)
    grid = np.array([(p, q) for p in specials[:23] for q in specials[:23]], x.dtype)
    a[: len(grid)], b[: len(grid)] = grid[:, 0], grid[:, 1]
    return a, b


def binaries(lanes: int) -> Iterator[Case]:
    for name in NUMBERS:
        dtype = DTYPES[name]
        for op in sorted(BINARY_OPS):
            if (op in INTEGER_ONLY and dtype.is_float) or (op in FLOAT_ONLY and not dtype.is_float):
                continue
            a, b = pairs_of(name)
            if op in ("shl", "shr"):
                b = np.where(np.arange(COUNT) % 3, np.abs(b.astype(np.int64)) % (dtype.bits + 2), b).astype(
                    b.dtype
                )
            yield Case(
                f"{op}_{name}_l{lanes}",
                (dtype, dtype),
                dtype,
                lambda x, y, op=op: binary(op, x, y),
                lanes,
                (a, b),
            )


def comparisons(lanes: int) -> Iterator[Case]:
    for name in (*NUMBERS, "bool"):
        dtype = DTYPES[name]
        for op in sorted(COMPARE_OPS):
            arrays = pairs_of(name) if name != "bool" else (values(name, 3), values(name, 4))
            yield Case(
                f"{op}_{name}_l{lanes}",
                (dtype, dtype),
                boolean,
                lambda x, y, op=op: compare(op, x, y),
                lanes,
                arrays,
            )
    for op in ("and", "or", "xor"):
        arrays = (values("bool", 5), values("bool", 6))
        yield Case(
            f"{op}_bool_l{lanes}",
            (boolean, boolean),
            boolean,
            lambda x, y, op=op: binary(op, x, y),
            lanes,
            arrays,
        )
    yield Case(f"not_bool_l{lanes}", (boolean,), boolean, lambda x: ~x, lanes, (values("bool", 7),))


def unaries(lanes: int) -> Iterator[Case]:
    for name in NUMBERS:
        dtype = DTYPES[name]
        ops = ["neg", "abs"] if dtype.is_signed or dtype.is_float else []
        ops += ["sqrt", "floor", "ceil", "round", "trunc", "isnan", "isinf"] if dtype.is_float else ["not"]
        for op in ops:
            result = boolean if op in ("isnan", "isinf") else dtype
            yield Case(
                f"{op}_{name}_l{lanes}",
                (dtype,),
                result,
                lambda x, op=op: unary(op, x),
                lanes,
                (values(name, 8),),
            )


def casts(lanes: int) -> Iterator[Case]:
    names = (*NUMBERS, "bool")
    for source in names:
        for goal in names:
            if source != goal:
                a, b = DTYPES[source], DTYPES[goal]
                yield Case(
                    f"{source}_to_{goal}_l{lanes}",
                    (a,),
                    b,
                    lambda x, b=b: cast(x, b),
                    lanes,
                    (values(source, 9),),
                )
    yield from bounded_casts(lanes)
    for a, b in (("f32", "i32"), ("i32", "f32"), ("f64", "u64"), ("u32", "i32"), ("i16", "u16")):
        given, goal = DTYPES[a], DTYPES[b]
        yield Case(
            f"bits_{a}_{b}_l{lanes}",
            (given,),
            goal,
            lambda x, goal=goal: bitcast(x, goal),
            lanes,
            (values(a, 10),),
        )


def bounded_casts(lanes: int) -> Iterator[Case]:
    """Floats that are kept in a range, rounded, or both, on the way to an integer."""
    for goal, low, high in (("i32", -128.0, 127.0), ("u8", 0.0, 255.0), ("i32", -(2.0**31), 2.0**31 - 128)):
        yield Case(
            f"bounded_{goal}_{int(high)}_l{lanes}",
            (f32,),
            DTYPES[goal],
            lambda x, goal=goal, low=low, high=high: cast(minimum(maximum(x, low), high), DTYPES[goal]),
            lanes,
            (values("f32", 21),),
        )
        yield Case(
            f"rounded_{goal}_{int(high)}_l{lanes}",
            (f32,),
            DTYPES[goal],
            lambda x, goal=goal, low=low, high=high: cast(
                unary("round", minimum(maximum(x / 8.0, low), high)), DTYPES[goal]
            ),
            lanes,
            (values("f32", 22),),
        )
    for goal, low, high in (("u8", 0.0, 255.0), ("i8", -128.0, 127.0)):
        for step in ("rounded", "moved"):
            yield Case(
                f"{step}_bytes_{goal}_l{lanes}",
                (f32,),
                DTYPES[goal],
                lambda x, goal=goal, low=low, high=high, step=step: cast(
                    cast(
                        unary("round", minimum(maximum(x / 8.0, low), high))
                        if step == "rounded"
                        else minimum(maximum(unary("round", x / 8.0) + 3.0, low), high),
                        i32,
                    ),
                    DTYPES[goal],
                ),
                lanes,
                (values("f32", 23),),
            )


def mixtures(lanes: int) -> Iterator[Case]:
    for name in FLOATS:
        d = DTYPES[name]
        x, y, z = values(name, 11), values(name, 12), values(name, 13)
        with np.errstate(all="ignore"):
            z[::3] = -(x[::3] * y[::3])
        yield Case(f"fma_{name}_l{lanes}", (d, d, d), d, lambda a, b, c: fma(a, b, c), lanes, (x, y, z))
        yield Case(f"relu_{name}_l{lanes}", (d,), d, lambda a: maximum(0.0, a), lanes, (x,))
        yield Case(f"clip_{name}_l{lanes}", (d,), d, lambda a: minimum(maximum(a, -1.25), 6.0), lanes, (x,))
        yield Case(
            f"mix_{name}_l{lanes}",
            (d, d),
            d,
            lambda a, b: (a - b) * 0.5 - (1.0 - (a + (b + a))),
            lanes,
            (x, y),
        )
    for name in (*NUMBERS, "bool"):
        d = DTYPES[name]
        arrays = (values("bool", 14), values(name, 15), values(name, 16))
        yield Case(
            f"pick_{name}_l{lanes}", (boolean, d, d), d, lambda m, a, b: select(m, a, b), lanes, arrays
        )
    for name in INTEGERS:
        d = DTYPES[name]
        x = values(name, 17)
        yield Case(f"const_{name}_l{lanes}", (d,), d, lambda a: (a * 3 + 5) ^ 0x5A, lanes, (x,))
        yield Case(f"quarters_{name}_l{lanes}", (d,), d, lambda a: binary("shr", a, 2) / 3, lanes, (x,))
        yield Case(f"modulo_{name}_l{lanes}", (d,), d, lambda a: binary("rem", a, 7), lanes, (x,))
    yield Case(f"widths_l{lanes}", (f32, DTYPES["f64"], DTYPES["i8"]), i32,
               lambda a, b, c: select((a < 0.0) & (b < 1.0) | (c > 3), cast(c, i32), cast(a, i32)),
               lanes, (values("f32", 18), values("f64", 19), values("i8", 20)))  # fmt: skip


def storages(lanes: int) -> Iterator[Case]:
    for name in STORAGE:
        d = DTYPES[name]
        c = d.compute
        raw = np.arange(COUNT * 64, dtype=np.uint32).astype(f"u{d.bytes}")
        if d.bits < 8:
            raw = raw % (1 << d.bits)
            raw = (raw.astype(np.int8) - ((raw >> (d.bits - 1)) << d.bits) * d.is_signed).astype(np.uint8)
        every = raw.view(d.numpy)
        yield Case(
            f"load_{name}_l{lanes}",
            (d,),
            c,
            lambda x: x + 0 if x.dtype.is_integer else x * 1.0,
            lanes,
            (every,),
        )
        x = values(c.name, 21)
        if c.is_float:
            x = np.concatenate([x, np.linspace(-500, 500, COUNT, dtype=np.float32), _near(every)])
            x = x[: len(x) // 64 * 64]
        yield Case(f"store_{name}_l{lanes}", (c,), d, lambda x: x, lanes, (x,))
        yield Case(f"round_{name}_l{lanes}", (c,), c, lambda x, d=d: round_to(x, d), lanes, (x,))


def _near(every: np.ndarray) -> np.ndarray:
    """Numbers between neighbours of a storage type: halfway and just beside."""
    with np.errstate(all="ignore"):
        known = np.unique(every.astype(np.float32))
        known = known[np.isfinite(known)]
        middle = (known[1:].astype(np.float64) + known[:-1]) / 2
        middle = middle.astype(np.float32)
        return np.concatenate(
            [middle, np.nextafter(middle, np.float32(9e9)), np.nextafter(middle, np.float32(-9e9))]
        )


def reductions(lanes: int) -> Iterator[Case]:
    if lanes == 1:
        return
    for name in (*NUMBERS, "bool"):
        d = DTYPES[name]
        ops = ("and", "or") if name == "bool" else ("add", "mul", "min", "max")
        for op in ops:
            x = values(name, 22)
            if op == "mul" and d.is_float:
                x = (np.arange(COUNT) % 13 / 7 + 0.3).astype(d.numpy)
            yield Case(
                f"sum_{op}_{name}_l{lanes}", (d,), d, lambda x, op=op: reduce_lanes(op, x), lanes, (x,), True
            )
    reverse, deal = tuple(reversed(range(lanes))), tuple((i // 2) + (i % 2) * lanes for i in range(lanes))
    for name in ("f32", "i64", "u8"):
        d = DTYPES[name]
        x, y, t = values(name, 23), values(name, 24), VecType(d, lanes)
        yield Case(f"reverse_{name}_l{lanes}", (d,), d, lambda a, t=t: Shuffle(a, a, reverse, t), lanes, (x,))
        yield Case(
            f"deal_{name}_l{lanes}", (d, d), d, lambda a, b, t=t: Shuffle(a, b, deal, t), lanes, (x, y)
        )


def functions(lanes: int) -> Iterator[Case]:
    if lanes not in (1, 8):
        return
    for function in FUNCTIONS.values():
        for d in function.dtypes:
            arrays = tuple(values(d.name, 25 + i) for i in range(function.arity))
            name = f"math_{function.name}_{d}_l{lanes}"
            yield Case(
                name, (d,) * function.arity, d, lambda *xs, f=function.name: call(f, *xs), lanes, arrays
            )


FAMILIES = (functions, binaries, comparisons, unaries, casts, mixtures, storages, reductions)
QUICK = [("gcc", "avx2", (1, 8)), ("zig", "avx2", (8,)), ("gcc", "vec128", (4,))]
WHOLE = [
    ("gcc", "vec128", (1, 16)),
    ("zig", "vec128", (8,)),
    ("gcc", "avx2", (4, 16)),
    ("zig", "avx2", (1, 16)),
    ("gcc", "avx512", (8, 16)),
    ("zig", "avx512", (1, 16)),
]


def check(
    family: Callable[[int], Iterator[Case]], compiler: str, isa: str, lanes: tuple[int, ...], tmp: Path
) -> None:
    if compiler not in compilers() or isa not in runnable_isas():
        pytest.skip("not on this machine")
    complaints = check_cases((case for n in lanes for case in family(n)), compiler, isa, tmp)
    assert not complaints, "\n".join(complaints)


@pytest.mark.parametrize(("compiler", "isa", "lanes"), QUICK, ids=lambda v: v if isinstance(v, str) else "")
@pytest.mark.parametrize("family", FAMILIES, ids=lambda f: f.__name__)
def test_bits(family, compiler, isa, lanes, tmp_path) -> None:
    check(family, compiler, isa, lanes, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(("compiler", "isa", "lanes"), WHOLE, ids=lambda v: v if isinstance(v, str) else "")
@pytest.mark.parametrize("family", FAMILIES, ids=lambda f: f.__name__)
def test_bits_at_all_widths(family, compiler, isa, lanes, tmp_path) -> None:
    check(family, compiler, isa, lanes, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("compiler", ["gcc", "zig"])
@pytest.mark.parametrize("family", FAMILIES, ids=lambda f: f.__name__)
def test_avx512_text_compiles(family, compiler, tmp_path) -> None:
    if compiler not in compilers():
        pytest.skip("not on this machine")
    kernels = [case.kernel() for lanes in (8, 16) for case in family(lanes)]
    compile_text(print_unit(kernels, target("avx512")), compiler, "avx512", tmp_path, "-O1")
