"""Runs loop functions as compiled C beside their meaning on numpy."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import itertools
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from aino_ir.codegen.c.unit import print_unit
from aino_ir.dims import DimLike, symbol
from aino_ir.dtypes import DType, boolean
from aino_ir.loops.evaluate import evaluate
from aino_ir.loops.expr import Arg, Expr, Load, Var, VecType
from aino_ir.loops.stmt import UNIT, Access, Let, LoopFn, Param, Store
from aino_ir.target import ISAS, Host, Target, detect_host, parse_target

RUNTIME = Path(__file__).resolve().parents[3] / "codegen" / "c" / "runtime"
FLAGS = ["-std=gnu11", "-Wall", "-Wextra", "-Werror", "-Wno-psabi", "-ffp-contract=off", "-fwrapv"]
FLAGS += ["-fno-strict-aliasing", "-fno-math-errno", "-fno-trapping-math", "-fPIC", "-I", str(RUNTIME)]
HOST = Host(
    "x86_64", "any", frozenset(f for isa in ISAS.values() for f in isa.features), 2, 32768, 524288, 1 << 23
)


def target(isa: str) -> Target:
    """The facts of one ISA variant."""
    return parse_target(f"c:{'portable' if isa == 'vec128' else isa}", HOST)


@functools.cache
def compilers() -> dict[str, list[str]]:
    """The compilers of this machine: gcc from the system, zig from the wheel."""
    found = {}
    if shutil.which("gcc"):
        found["gcc"] = ["gcc"]
    try:
        import ziglang  # noqa: F401
    except ImportError:
        return found
    found["zig"] = [
        sys.executable,
        "-m",
        "ziglang",
        "cc",
        "-target",
        "x86_64-linux-gnu",
        "-fno-sanitize=undefined",
    ]
    return found


def runnable_isas() -> list[str]:
    """ISA variants that this processor runs."""
    host = detect_host()
    return [
        isa.name for isa in ISAS.values() if isa.arch in ("", host.arch) and not host.missing(isa.features)
    ]


def isa_flags(isa: str) -> list[str]:
    """Compiler flags for an ISA variant."""
    names = {"avx512_bf16": "avx512bf16", "avx512_vnni": "avx512vnni", "bmi1": "bmi"}
    return [f"-m{names.get(feature, feature)}" for feature in ISAS[isa].features]


def compile_text(text: str, compiler: str, isa: str, folder: Path, level: str = "-O1") -> Path:
    """Compile one unit, warnings being errors, to an object."""
    name = hashlib.sha256(f"{compiler}{isa}{level}{text}".encode()).hexdigest()[:16]
    source, result = folder / f"{name}.c", folder / f"{name}.o"
    source.write_text(text)
    command = [*compilers()[compiler], *FLAGS, level, *isa_flags(isa), "-c", str(source), "-o", str(result)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"{source}\n{done.stderr[:4000]}"
    return result


def build(text: str, compiler: str, isa: str, folder: Path) -> ctypes.CDLL:
    """Compile and load one unit."""
    result = compile_text(text, compiler, isa, folder)
    library = result.with_suffix(".so")
    linker = "gcc" if "gcc" in compilers() else compiler
    subprocess.run(
        [*compilers()[linker], "-shared", "-o", str(library), str(result), "-lm"], check=True, timeout=300
    )
    return ctypes.CDLL(str(library))


def run(
    library: ctypes.CDLL,
    fn: LoopFn,
    arrays: Sequence[np.ndarray],
    symbols: Sequence[int] = (),
    span: tuple[int, int] | None = None,
    status: np.ndarray | None = None,
) -> None:
    """Call a kernel on arrays, for a range of units (all of them by default)."""
    views = [*arrays] if status is None else [*arrays, status]
    pointers = (ctypes.c_void_p * max(1, len(views)))(*[a.ctypes.data for a in views])
    values = (ctypes.c_int64 * max(1, len(symbols)))(*symbols)
    scratch = np.zeros(65536 + 64, np.uint8)
    base = scratch.ctypes.data + (-scratch.ctypes.data) % 64
    if span is None:
        env = dict(zip(fn.symbols, symbols, strict=True))
        units = fn.units if isinstance(fn.units, int) else fn.units.evaluate(env)
        span = (0, units)
    function = getattr(library, fn.name)
    function.restype = None
    function(pointers, values, ctypes.c_void_p(base), ctypes.c_int64(span[0]), ctypes.c_int64(span[1]))


@dataclass(frozen=True)
class Case:
    """An expression over operands, evaluated lane by lane over arrays."""

    name: str
    operands: tuple[DType, ...]
    result: DType
    build: Callable[..., Expr]
    lanes: int
    arrays: tuple[np.ndarray, ...]
    scalar_result: bool = False

    @property
    def count(self) -> int:
        """Elements of each operand; a multiple of the lanes."""
        return len(self.arrays[0])

    def kernel(self) -> LoopFn:
        """A kernel that loads the operands, evaluates and stores."""
        unit: DimLike = symbol(UNIT) * self.lanes
        args, body = [], []
        for i, dtype in enumerate(self.operands):
            value = Load(f"x{i}", unit, VecType(dtype.compute, self.lanes))
            body.append(Let(f"a{i}", value))
            args.append(Var(f"a{i}", value.type))
        out = symbol(UNIT) if self.scalar_result else unit
        body.append(Let("r", self.build(*args)))
        body.append(Store("y", out, Var("r", body[-1].value.type)))
        params = [Param(f"x{i}", d, self.count) for i, d in enumerate(self.operands)]
        params.append(Param("y", self.result, self.size, Access.WRITE))
        return LoopFn(self.name, tuple(params), (), self.count // self.lanes, tuple(body))

    @property
    def size(self) -> int:
        """Elements of the result."""
        return self.count // self.lanes if self.scalar_result else self.count

    def expected(self) -> np.ndarray:
        """What numpy says."""
        args = [
            a.astype(d.compute.numpy).reshape(-1, self.lanes) if self.lanes > 1 else a.astype(d.compute.numpy)
            for a, d in zip(self.arrays, self.operands, strict=True)
        ]
        tree = self.build(*(Arg(i, VecType(d.compute, self.lanes)) for i, d in enumerate(self.operands)))
        with np.errstate(all="ignore"):
            return np.asarray(evaluate(tree, args=args)).reshape(-1).astype(self.result.numpy)

    def result_array(self) -> np.ndarray:
        """Room for the result, filled with a pattern."""
        return np.frombuffer(b"\xa5" * (self.size * self.result.bytes), self.result.numpy).copy()


def same_bits(got: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Where two arrays agree bit by bit, any NaN for any NaN."""
    raw = np.dtype(f"u{got.dtype.itemsize}")
    equal = got.view(raw) == expected.view(raw)
    with np.errstate(all="ignore"):
        return equal | ((got != got) & (expected != expected))


def check_cases(cases: Iterable[Case], compiler: str, isa: str, folder: Path) -> list[str]:
    """Compile all cases as one unit and compare each with numpy; returns what differs."""
    cases = list(cases)
    kernels = [c.kernel() for c in cases]
    library = build(print_unit(kernels, target(isa)), compiler, isa, folder)
    complaints = []
    for case, fn in zip(cases, kernels, strict=True):
        result = case.result_array()
        run(library, fn, [*case.arrays, result])
        expected = case.expected()
        wrong = np.flatnonzero(~same_bits(result, expected))
        if len(wrong):
            first = wrong[0]
            inputs = [
                a[first] if not case.scalar_result else a[first * case.lanes : (first + 1) * case.lanes]
                for a in case.arrays
            ]
            complaints.append(
                f"{case.name}: {len(wrong)} differ, first at {first}: {inputs} -> "
                f"{result[first]!r}, expected {expected[first]!r}"
            )
    return complaints


def edge_values(dtype: DType, seed: int, count: int) -> np.ndarray:
    """Special values of a dtype and random ones, `count` in all."""
    rng = np.random.default_rng(seed)
    if dtype is boolean:
        return rng.integers(0, 2, count).astype(np.bool_)
    if dtype.is_float:
        wide = np.array(_FLOAT_EDGES, np.float64)
        random = rng.standard_normal(count) * 10.0 ** rng.integers(-9, 12, count)
        with np.errstate(all="ignore"):
            mixed = np.concatenate([wide, random])
            return rng.permutation(mixed[: max(count, len(wide))])[:count].astype(dtype.numpy)
    low, high = int(np.iinfo(dtype.numpy).min), int(np.iinfo(dtype.numpy).max)
    edges = [0, 1, 2, 3, 7, 8, 15, 16, 31, high, high - 1, low, low + 1] + ([-1, -2, -7] if low else [])
    edges = np.array([e for e in edges if low <= e <= high], dtype.numpy)
    random = rng.integers(low, high, count, dtype.numpy, endpoint=True)
    return rng.permutation(np.concatenate([edges, random])[:count])


_FLOAT_EDGES = [
    0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 1.5, 2.5, -2.5, 0.49999997, -0.49999997, 3.999, -3.999,
    np.inf, -np.inf, np.nan, 1e-40, -1e-40, 1e-45, 1.17549435e-38, 3.4028235e38, -3.4028235e38,
    2147483648.0, 2147483520.0, -2147483648.0, -2147483904.0, 4294967296.0, 4294967040.0,
    9.223372036854775807e18, 9.2233715e18, -9.223372036854775808e18, 1.8446744e19, 127.5, 128.0, -128.9,
    255.5, 256.0, 32767.9, 65535.5, -0.99, 8388607.5, 8388608.5, -8388607.5, 4503599627370495.5, 1e300,
    -1e300,
]  # fmt: skip


def pairs(values: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Two arrays that hold every pair of the first values, up to `count`."""
    side = int(count**0.5)
    grid = list(itertools.product(values[:side], values[:side]))
    a = np.array([p[0] for p in grid], values.dtype)
    b = np.array([p[1] for p in grid], values.dtype)
    return a, b
