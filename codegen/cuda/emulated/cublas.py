"""cuBLAS's products on emulated GPUs: the functions of cublasLt that are used, by numpy.

They answer as the library documents: what it refuses is refused, an algorithm goes with the description and
the alignments that it was asked for with, and a call overwrites its workspace.
"""

from __future__ import annotations

import ctypes
import hashlib
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import ml_dtypes
import numpy as np

from aino_ir.codegen.cuda.emulated.device import EmulatedGpus
from aino_ir.codegen.cuda.emulated.machine import number_of

INVALID_VALUE, NOT_SUPPORTED = 7, 15

TYPES: dict[int, Any] = {
    0: np.float32,
    1: np.float64,
    2: np.float16,
    3: np.int8,
    10: np.int32,
    14: ml_dtypes.bfloat16,
}
"""cudaDataType -> the type of elements."""

SUPPORTED = {
    (68, 0): {(0, 0), (2, 2), (2, 0), (14, 14), (14, 0)},
    (77, 0): {(0, 0)},
    (70, 1): {(1, 1)},
    (72, 10): {(3, 10)},
}
"""(cublasComputeType_t, type of scales) -> (type of the factors, of the result)."""

FACTORS = {68: np.float64, 77: np.float64, 70: np.float64, 72: np.int64}
"""What sums are computed in here: at least as exactly as there."""

EPILOGUES = (1, 2, 4, 6, 32, 36)
ALIGNMENTS = (5, 6, 7, 8)


class HeuristicResult(ctypes.Structure):
    """What a search for algorithms gives; written apart from the runtime's, so that each checks the other."""

    _fields_ = (
        ("algorithm", ctypes.c_uint64 * 8),
        ("workspace_bytes", ctypes.c_size_t),
        ("state", ctypes.c_int),
        ("waves", ctypes.c_float),
        ("reserved", ctypes.c_int * 4),
    )


@dataclass
class Described:
    """A thing with attributes: a product, a matrix, a search.

    Attributes:
        facts: what it was made with.
        attributes: bytes by number.
    """

    facts: tuple[int, ...] = ()
    attributes: dict[int, bytes] = field(default_factory=dict)

    def number(self, attribute: int, default: int = 0) -> int:
        """An attribute as an integer."""
        data = self.attributes.get(attribute)
        return default if data is None else int.from_bytes(data, "little", signed=True)


class EmulatedCublas:
    """The library beside emulated GPUs.

    Args:
        gpus: whose memory and streams it uses.
        version: major, minor, patch.
        workspace_bytes: what every product wants.

    Attributes:
        calls: how often each function was called.
        refuse: types of factors (cudaDataType) for which no algorithm is found.
        keeps_nan: whether its ReLU gives NaN for NaN.
        fails: status that the next products give instead of running; 0: none.
    """

    def __init__(
        self, gpus: EmulatedGpus, version: tuple[int, int, int] = (13, 0, 2), workspace_bytes: int = 4096
    ) -> None:
        self.gpus = gpus
        self.version = version
        self.workspace_bytes = workspace_bytes
        self.calls: dict[str, int] = {}
        self.refuse: set[int] = set()
        self.keeps_nan = True
        self.fails = 0
        self._things: dict[int, Described] = {}
        self._numbers = itertools.count(0x100, 16)

    @property
    def functions(self) -> dict[str, Callable[..., int]]:
        """The table of functions, by exported name."""
        return {name[1:]: self._counted(name[1:]) for name in dir(self) if name.startswith("_cublasLt")}

    @property
    def live(self) -> int:
        """How many things nobody has destroyed."""
        return len(self._things)

    def _counted(self, name: str) -> Callable[..., int]:
        function = getattr(self, f"_{name}")

        def call(*arguments: Any) -> int:
            self.calls[name] = self.calls.get(name, 0) + 1
            return int(function(*arguments) or 0)

        return call

    def _make(self, handle: Any, *facts: int) -> None:
        handle._obj.value = next(self._numbers)
        self._things[handle._obj.value] = Described(facts)

    def _set(self, thing: Any, attribute: int, value: Any, size: int) -> int:
        found = self._things.get(number_of(thing))
        if found is None:
            return INVALID_VALUE
        found.attributes[attribute] = ctypes.string_at(ctypes.addressof(value._obj), size)
        return 0

    def _destroy(self, thing: Any) -> int:
        return 0 if self._things.pop(number_of(thing), None) else INVALID_VALUE

    # -- the functions ------------------------------------------------------------------------------

    def _cublasLtCreate(self, handle: Any) -> None:
        self._make(handle)

    def _cublasLtDestroy(self, handle: Any) -> int:
        return self._destroy(handle)

    def _cublasLtGetProperty(self, which: int, value: Any) -> None:
        value._obj.value = self.version[which]

    def _cublasLtMatmulDescCreate(self, handle: Any, compute: int, scale: int) -> None:
        self._make(handle, compute, scale)

    def _cublasLtMatmulDescSetAttribute(self, *given: Any) -> int:
        return self._set(*given)

    def _cublasLtMatmulDescDestroy(self, thing: Any) -> int:
        return self._destroy(thing)

    def _cublasLtMatrixLayoutCreate(self, handle: Any, *facts: int) -> int:
        _, rows, _, leading = facts
        if leading < rows:
            return INVALID_VALUE
        self._make(handle, *facts)
        return 0

    def _cublasLtMatrixLayoutSetAttribute(self, *given: Any) -> int:
        return self._set(*given)

    def _cublasLtMatrixLayoutDestroy(self, thing: Any) -> int:
        return self._destroy(thing)

    def _cublasLtMatmulPreferenceCreate(self, handle: Any) -> None:
        self._make(handle)

    def _cublasLtMatmulPreferenceSetAttribute(self, *given: Any) -> int:
        return self._set(*given)

    def _cublasLtMatmulPreferenceDestroy(self, thing: Any) -> int:
        return self._destroy(thing)

    def _cublasLtMatmulAlgoGetHeuristic(self, *given: Any) -> int:
        _, facts, *layouts, search, _, results, count = given
        product = self._product(facts, layouts)
        count._obj.value = 0
        if product is None or product.first.kind in self.refuse:
            return NOT_SUPPORTED
        if product.has_bias and not self._things[number_of(facts)].number(8):
            return INVALID_VALUE
        wishes = self._things[number_of(search)]
        if wishes.number(1) < self.workspace_bytes:
            return NOT_SUPPORTED
        result = HeuristicResult.from_address(ctypes.addressof(results._obj))
        result.algorithm[0] = product.key
        for place, attribute in enumerate(ALIGNMENTS, start=1):
            result.algorithm[place] = wishes.number(attribute, 256)
        result.workspace_bytes, result.state = self.workspace_bytes, 0
        count._obj.value = 1
        return 0

    def _cublasLtMatmul(self, *given: Any) -> int:
        _, facts, one, a, a_layout, b, b_layout, share, c, c_layout, d, d_layout, *rest = given
        algorithm, workspace, workspace_bytes, stream = rest
        if self.fails:
            return self.fails
        product = self._product(facts, [a_layout, b_layout, c_layout, d_layout])
        chosen = (ctypes.c_uint64 * 8).from_address(ctypes.addressof(algorithm._obj))
        places = [number_of(p) for p in (a, b, c, d)]
        if product is None or chosen[0] != product.key or one._obj.value != 1:
            return INVALID_VALUE
        if any(place % wanted for place, wanted in zip(places, chosen[1:5], strict=True)):
            return INVALID_VALUE
        if workspace_bytes < self.workspace_bytes or number_of(workspace) % 256:
            return INVALID_VALUE
        bias = self._things[number_of(facts)].number(8)
        room = (number_of(workspace), workspace_bytes)

        adds = share._obj.value

        def run() -> bool:
            return self._run(product, places, bias, room, adds)

        return self.gpus.put(stream, "cublasLtMatmul", run)

    # -- what a product is --------------------------------------------------------------------------

    def _product(self, facts: Any, layouts: list[Any]) -> _Product | None:
        """What is described; None where the library has nothing for it."""
        described = self._things[number_of(facts)]
        matrices = [_Matrix.of(self._things[number_of(layout)]) for layout in layouts]
        first, second, third, result = matrices
        turned = described.number(3), described.number(4)
        product = _Product(first, second, third, result, turned, described.facts[0], described.number(7, 1))
        pairs = SUPPORTED.get((described.facts[0], described.facts[1]), set())
        fits = first.kind == second.kind and (first.kind, result.kind) in pairs
        whole_words = first.kind != 3 or (turned == (1, 0) and not (first.leading | second.leading) % 4)
        return product if fits and product.agrees and whole_words else None

    def _run(
        self, product: _Product, places: list[int], bias: int, room: tuple[int, int], adds: float
    ) -> bool:
        """Multiply; whether all memory is there."""
        matrices = (product.first, product.second, product.third, product.result)
        stretches = [*((p, m.bytes) for p, m in zip(places, matrices, strict=True)), room]
        if product.has_bias and bias % 16:
            return False  # as kernels that read 16 bytes at a time would find it
        if product.has_bias:
            stretches.append((bias, product.result.rows * product.result.itemsize))
        if not all(self.gpus.inside(*stretch) for stretch in stretches):
            return False
        ctypes.memset(room[0], 0xFF, room[1])
        wide = FACTORS[product.compute]
        first, second = product.first.array(places[0]), product.second.array(places[1])
        if product.turned[0]:
            first = first.swapaxes(1, 2)
        if product.turned[1]:
            second = second.swapaxes(1, 2)
        with np.errstate(all="ignore"):
            total = np.matmul(first.astype(wide), second.astype(wide))
            if adds:
                total = total + adds * product.third.array(places[2]).astype(wide)
            if product.has_bias:
                numbers = np.frombuffer(ctypes.string_at(bias, stretches[-1][1]), TYPES[product.result.kind])
                total = total + numbers.astype(wide)[:, None]
            total = self._activated(total, product.epilogue)
            product.result.array(places[3])[...] = total.astype(TYPES[product.result.kind])
        return True

    def _activated(self, x: np.ndarray[Any, Any], epilogue: int) -> np.ndarray[Any, Any]:
        if epilogue & 2:
            return np.asarray(np.maximum(x, 0) if self.keeps_nan else np.fmax(x, 0))
        if epilogue & 32:
            inner = np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)
            return np.asarray(0.5 * x * (1 + np.tanh(inner)))
        return x


@dataclass(frozen=True)
class _Matrix:
    """A stack of matrices, column after column."""

    kind: int
    rows: int
    columns: int
    leading: int
    height: int
    stride: int

    @staticmethod
    def of(described: Described) -> _Matrix:
        """As it was described."""
        kind, rows, columns, leading = described.facts
        return _Matrix(kind, rows, columns, leading, described.number(5, 1), described.number(6))

    @property
    def itemsize(self) -> int:
        """Bytes of an element."""
        return int(np.dtype(TYPES[self.kind]).itemsize)

    @property
    def bytes(self) -> int:
        """From the first element to the end of the last one."""
        last = (self.height - 1) * self.stride + (self.columns - 1) * self.leading + self.rows
        return last * self.itemsize

    def array(self, address: int) -> np.ndarray[Any, Any]:
        """The matrices in memory, (height, rows, columns)."""
        data = (ctypes.c_uint8 * self.bytes).from_address(address)
        flat = np.frombuffer(memoryview(data), TYPES[self.kind])
        steps = (self.stride * self.itemsize, self.itemsize, self.leading * self.itemsize)
        return np.lib.stride_tricks.as_strided(flat, (self.height, self.rows, self.columns), steps)


@dataclass(frozen=True)
class _Product:
    """What is multiplied."""

    first: _Matrix
    second: _Matrix
    third: _Matrix
    result: _Matrix
    turned: tuple[int, int]
    compute: int
    epilogue: int

    @property
    def has_bias(self) -> bool:
        """Whether something is added."""
        return bool(self.epilogue & 4)

    @property
    def key(self) -> int:
        """What tells it from others."""
        return int.from_bytes(hashlib.sha256(repr(self).encode()).digest()[:8], "little")

    @property
    def agrees(self) -> bool:
        """Whether extents fit together, and what follows is known."""
        shapes = [(m.rows, m.columns) for m in (self.first, self.second)]
        shapes = [s[::-1] if t else s for s, t in zip(shapes, self.turned, strict=True)]
        (rows, terms), (again, columns) = shapes
        heights = {m.height for m in (self.first, self.second, self.third, self.result)}
        wanted = (self.result.kind, rows, columns)
        fits = terms == again and all(
            (m.kind, m.rows, m.columns) == wanted for m in (self.third, self.result)
        )
        return fits and len(heights) == 1 and self.epilogue in EPILOGUES
