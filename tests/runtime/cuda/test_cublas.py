"""The table of cuBLAS's functions against the library's own words, and products on emulated memory."""

from __future__ import annotations

import ctypes
import gc
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from aino_ir.codegen.cuda.emulated.cublas import EmulatedCublas
from aino_ir.codegen.cuda.emulated.device import EmulatedGpus
from aino_ir.errors.cuda import LibraryCallFailed, LibraryMissing
from aino_ir.library_calls import CUBLAS, Matrix, ProductCall
from aino_ir.runtime.cuda import cublas
from aino_ir.runtime.cuda.cublas import (
    PROTOTYPES,
    SCALARS,
    Cublas,
    HeuristicResult,
    alignment_of,
    installed_functions,
    status_name,
)
from aino_ir.runtime.cuda.device import Device, Stream
from aino_ir.runtime.cuda.driver import Driver, bind
from aino_ir.runtime.cuda.graph import Captured, Graph
from aino_ir.runtime.cuda.library_launch import Libraries, LibraryLaunch, LibraryNotUsed
from tests.runtime.cuda.headers import NVCC, expect_compiled

DOCUMENTED = """
cublasLtCreate(cublasLtHandle_t *lighthandle)
cublasLtDestroy(cublasLtHandle_t lightHandle)
cublasLtGetProperty(libraryPropertyType type, int *value)
cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *matmulDesc, cublasComputeType_t computeType, cudaDataType_t scaleType)
cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t matmulDesc, cublasLtMatmulDescAttributes_t attr,
    const void *buf, size_t sizeInBytes)
cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t matmulDesc)
cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *matLayout, cudaDataType type, uint64_t rows, uint64_t cols,
    int64_t ld)
cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t matLayout, cublasLtMatrixLayoutAttribute_t attr,
    const void *buf, size_t sizeInBytes)
cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t matLayout)
cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *pref)
cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t pref, cublasLtMatmulPreferenceAttributes_t attr,
    const void *buf, size_t sizeInBytes)
cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t pref)
cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t lightHandle, cublasLtMatmulDesc_t operationDesc,
    cublasLtMatrixLayout_t Adesc, cublasLtMatrixLayout_t Bdesc, cublasLtMatrixLayout_t Cdesc,
    cublasLtMatrixLayout_t Ddesc, cublasLtMatmulPreference_t preference, int requestedAlgoCount,
    cublasLtMatmulHeuristicResult_t *heuristicResultsArray, int *returnAlgoCount)
cublasLtMatmul(cublasLtHandle_t lightHandle, cublasLtMatmulDesc_t computeDesc, const void *alpha, const void *A,
    cublasLtMatrixLayout_t Adesc, const void *B, cublasLtMatrixLayout_t Bdesc, const void *beta, const void *C,
    cublasLtMatrixLayout_t Cdesc, void *D, cublasLtMatrixLayout_t Ddesc, const cublasLtMatmulAlgo_t *algo,
    void *workspace, size_t workspaceSizeInBytes, cudaStream_t stream)
"""
"""Signatures as NVIDIA's documentation of cublasLt (12.0 to 13.0) writes them."""

HEADER = next((p for p in Path("/").glob("usr/local/cuda*/include/cublasLt.h")), None)

ROWS, COLUMNS, TERMS = 5, 3, 4
CALL = ProductCall(
    ROWS,
    COLUMNS,
    TERMS,
    1,
    Matrix(0, "f32", TERMS, 0, turned=True),
    Matrix(1, "f32", TERMS, 0),
    Matrix(2, "f32", ROWS, 0),
    "f32",
)


NUMBERS = {
    "CUBLASLT_MATMUL_DESC_TRANSA": cublas.TURN_FIRST,
    "CUBLASLT_MATMUL_DESC_TRANSB": cublas.TURN_SECOND,
    "CUBLASLT_MATMUL_DESC_EPILOGUE": cublas.EPILOGUE,
    "CUBLASLT_MATMUL_DESC_BIAS_POINTER": cublas.BIAS_POINTER,
    "CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT": cublas.STACK_HEIGHT,
    "CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET": cublas.STACK_STRIDE,
    "CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES": cublas.MOST_WORKSPACE,
    "CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK": cublas.REDUCTIONS,
    **{
        f"CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_{m}_BYTES": n
        for m, n in zip("ABCD", cublas.ALIGNMENTS, strict=True)
    },
    "CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE": cublas.IN_COMPUTE_TYPE,
    "CUBLASLT_EPILOGUE_DEFAULT": cublas.EPILOGUES[""],
    "CUBLASLT_EPILOGUE_BIAS": cublas.WITH_BIAS,
    "CUBLASLT_EPILOGUE_RELU_BIAS": cublas.EPILOGUES["relu"] | cublas.WITH_BIAS,
    "CUBLASLT_EPILOGUE_GELU_BIAS": cublas.EPILOGUES["gelu"] | cublas.WITH_BIAS,
    "CUBLAS_COMPUTE_32F": cublas.COMPUTE_TYPES["f32"][0],
    "CUBLAS_COMPUTE_32F_FAST_TF32": cublas.COMPUTE_TYPES["tf32"][0],
    "CUBLAS_COMPUTE_64F": cublas.COMPUTE_TYPES["f64"][0],
    "CUBLAS_COMPUTE_32I": cublas.COMPUTE_TYPES["i32"][0],
    **{
        f"CUDA_R_{b}": cublas.DATA_TYPES[t]
        for b, t in zip(("32F", "64F", "16F", "8I", "32I", "16BF"), cublas.DATA_TYPES, strict=True)
    },
    **{name: number for number, name in cublas.STATUSES.items()},
}
"""What the header calls the numbers that the library is told."""


def test_prototypes_are_those_of_the_documentation() -> None:
    found = {}
    for name, parameters in re.findall(r"^(\w+)\((.*?)\)$", DOCUMENTED, re.MULTILINE | re.DOTALL):
        types = (re.sub(r"\w+$", "", p.strip()).strip() for p in parameters.split(","))
        found[name] = ", ".join(types)
    assert found == PROTOTYPES


@pytest.mark.skipif(HEADER is None or NVCC is None, reason="the header of cuBLAS is not installed")
def test_prototypes_are_those_of_the_header(tmp_path: Path) -> None:
    size = ctypes.sizeof(HeuristicResult)
    lines = [
        "#include <cublasLt.h>",
        *(f"cublasStatus_t (*own_{n})({p}) = {n};" for n, p in PROTOTYPES.items()),
        f'static_assert(sizeof(cublasLtMatmulHeuristicResult_t) == {size}, "result");',
        *(f'static_assert({name} == {number}, "number");' for name, number in NUMBERS.items()),
    ]
    expect_compiled(lines, tmp_path)


def test_every_type_is_known() -> None:
    words = {word for text in PROTOTYPES.values() for word in text.split(", ")}
    handles = re.compile(r".*(Handle|Desc|Layout|Preference|Stream)_t|.*\*")
    assert all(word in SCALARS or handles.fullmatch(word) for word in words)
    assert ctypes.sizeof(HeuristicResult) == 96


def test_functions_are_bound_by_their_types() -> None:
    library = SimpleNamespace(**{name: SimpleNamespace() for name in PROTOTYPES})
    bound: Any = bind(library, PROTOTYPES, SCALARS)
    assert bound["cublasLtMatrixLayoutCreate"].argtypes[2:] == [
        ctypes.c_uint64,
        ctypes.c_uint64,
        ctypes.c_int64,
    ]
    assert bound["cublasLtMatmul"].argtypes[14] is ctypes.c_size_t


def test_the_double_has_every_function() -> None:
    assert set(EmulatedCublas(EmulatedGpus()).functions) == set(PROTOTYPES)


def test_no_library_is_found_where_none_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cublas, "library_paths", lambda major: iter(["libnothing.so.13"]))
    installed_functions.cache_clear()
    with pytest.raises(LibraryMissing, match="libnothing"):
        installed_functions(13)
    installed_functions.cache_clear()


def test_libraries_are_no_newer_than_the_driver() -> None:
    assert [p.rpartition(".")[2] for p in cublas.library_paths(12)][-1] == "12"
    assert "13" not in {p.rpartition(".")[2] for p in cublas.library_paths(12)}


def test_words() -> None:
    assert status_name(15) == "CUBLAS_STATUS_NOT_SUPPORTED" and status_name(99) == "status 99"
    assert [alignment_of(n) for n in (0, 512, 48, 3)] == [256, 256, 16, 1]


class Bench:
    """A device with cuBLAS, and a product on it."""

    def __init__(self) -> None:
        self.gpus = EmulatedGpus()
        self.double = EmulatedCublas(self.gpus)
        self.driver = Driver(self.gpus.functions, {CUBLAS: self.double.functions})
        self.device = Device(self.driver)
        rng = np.random.default_rng(0)
        self.first = rng.standard_normal((ROWS, TERMS)).astype(np.float32)
        self.second = rng.standard_normal((COLUMNS, TERMS)).astype(np.float32)

    def places(self) -> list[int]:
        """New memory with both factors, and room for the result."""
        result = np.zeros((COLUMNS, ROWS), np.float32)
        return [self.gpus.allocate(a) for a in (self.first, self.second, result)]

    def result(self, places: list[int]) -> Any:
        """What lies there now."""
        data = self.gpus.contents(places[2], 4 * ROWS * COLUMNS)
        return np.frombuffer(data, np.float32).reshape(COLUMNS, ROWS)

    def launch(self, library: Cublas, places: list[int], workspace: int) -> LibraryLaunch:
        """The product on some addresses."""
        product = library.product(CALL, {}, places, "matmul_5x3")
        return LibraryLaunch(product, places, workspace, "matmul_5x3", "node 'm'")


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    with made.device.current():
        yield made


def test_a_product_on_a_stream(bench: Bench) -> None:
    library = Cublas(bench.device)
    assert library.version == "13.0.2"
    places, room = bench.places(), bench.device.alloc(4096, "room")
    stream = Stream.new(bench.device)
    bench.launch(library, places, room.address).enqueue(bench.device, stream.handle)
    bench.device.synchronize(stream.handle)
    np.testing.assert_allclose(bench.result(places), bench.second @ bench.first.T, rtol=1e-5, atol=1e-6)
    assert bench.gpus.launched == ["cublasLtMatmul"]


def test_a_product_in_a_graph_whose_addresses_change(bench: Bench) -> None:
    library, room = Cublas(bench.device), bench.device.alloc(4096, "room")
    launch = bench.launch(library, bench.places(), room.address)
    graph = Graph(bench.device, [launch, bench.launch(library, launch.addresses, room.address)], [[], [0]])
    assert bench.gpus.launched == ["cublasLtMatmul"]  # once outside of the graph, on memory of its own
    assert not bench.result(launch.addresses).any()
    others = bench.places()
    assert not launch.take(bench.launch(library, launch.addresses, room.address))
    assert launch.take(bench.launch(library, others, room.address)) and graph.update(0)
    stream = Stream.new(bench.device)
    graph.enqueue(stream.handle)
    bench.device.synchronize(stream.handle)
    np.testing.assert_allclose(bench.result(others), bench.second @ bench.first.T, rtol=1e-5, atol=1e-6)
    bench.gpus.fail("cuGraphExecChildGraphNodeSetParams", 910)
    assert not graph.update(0)


def test_nothing_is_left_behind(bench: Bench) -> None:
    library, room = Cublas(bench.device), bench.device.alloc(4096, "room")
    places = bench.places()
    graph = Graph(bench.device, [bench.launch(library, places, room.address)], [[]])
    del graph, library, room
    gc.collect()
    assert bench.double.live == 0
    for address in places:
        bench.driver.call("cuMemFree_v2", address)
    assert bench.gpus.live() == {}


def test_a_workspace_that_is_gone_is_noticed(bench: Bench) -> None:
    library, room = Cublas(bench.device), bench.device.alloc(4096, "room")
    graph = Graph(bench.device, [bench.launch(library, bench.places(), room.address)], [[]])
    room.free()
    stream = Stream.new(bench.device)
    graph.enqueue(stream.handle)
    assert bench.driver.status("cuStreamSynchronize", stream.handle) == 700


def test_alignments_are_told_and_kept(bench: Bench) -> None:
    library, places = Cublas(bench.device), bench.places()
    product = library.product(CALL, {}, places, "k")
    assert library.product(CALL, {}, bench.places(), "k") is product
    assert library.product(CALL, {}, [places[0] + 4, *places[1:]], "k") is not product
    room = bench.device.alloc(4096, "room")
    with pytest.raises(LibraryCallFailed, match="INVALID_VALUE"):
        product.enqueue([places[0] + 4, *places[1:]], room.address, 0, "k")


def test_a_bias_that_lies_askew_is_left_to_the_own_kernel(bench: Bench) -> None:
    call, places = replace(CALL, bias=3), bench.places()
    bias = bench.gpus.allocate(np.zeros(64, np.float32))
    library = Cublas(bench.device)
    assert library.product(call, {}, [*places, bias + 16], "k").workspace_bytes
    with pytest.raises(LibraryCallFailed, match="'k': its bias does not begin at a multiple of 16 bytes"):
        library.product(call, {}, [*places, bias + 4], "k")


def test_what_the_library_has_nothing_for_is_asked_once(bench: Bench) -> None:
    bench.double.refuse = {0}
    library, libraries, places = Cublas(bench.device), Libraries(bench.device), bench.places()
    for kernel in ("k", "l"):
        with pytest.raises(LibraryCallFailed, match=f"'{kernel}'.*NOT_SUPPORTED"):
            library.product(CALL, {}, places, kernel)
    assert bench.double.calls["cublasLtMatmulAlgoGetHeuristic"] == 1
    with pytest.warns(LibraryNotUsed):
        assert libraries.product(CALL, {}, places, "k", "") is None
    bench.double.refuse = set()
    assert libraries.product(CALL, {}, places, "k", "") is None  # and says no more
    assert libraries.product(CALL, {}, [places[0] + 16, *places[1:]], "k", "") is not None


def test_only_so_many_products_are_remembered(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cublas, "REMEMBERED", 1)
    library, places = Cublas(bench.device), bench.places()
    before = bench.double.live
    for _ in range(3):
        library.product(CALL, {}, places, "k")
        library.product(CALL, {}, [places[0] + 4, *places[1:]], "k")
    gc.collect()
    assert bench.double.live == before + 6  # a product, four matrices, a search


def test_a_refused_capture_is_ended(bench: Bench) -> None:
    library, room = Cublas(bench.device), bench.device.alloc(4096, "room")
    launch = bench.launch(library, bench.places(), room.address)
    launch.product.warm_up(launch.addresses, room.address, "k")
    bench.double.fails = 13
    with pytest.raises(
        LibraryCallFailed, match=r"matmul_5x3.*cublasLtMatmul says CUBLAS_STATUS_EXEC"
    ) as raised:
        Captured(bench.device, lambda stream: launch.enqueue(bench.device, stream))
    assert "node 'm'" in str(raised.value)
    assert "recordedgraph" not in bench.gpus.live()


def test_waiting_spoils_a_capture(bench: Bench) -> None:
    driver = bench.driver
    stream = Stream.new(bench.device)
    graph = ctypes.c_void_p()
    assert driver.status("cuStreamEndCapture", stream.handle, ctypes.byref(graph)) == 401
    driver.call("cuStreamBeginCapture_v2", stream.handle, 2)
    assert driver.status("cuStreamBeginCapture_v2", stream.handle, 2) == 401
    assert driver.status("cuStreamSynchronize", stream.handle) == 900
    assert driver.status("cuStreamEndCapture", stream.handle, ctypes.byref(graph)) == 901


def test_a_library_that_is_missing_or_refuses_is_named_once(bench: Bench) -> None:
    alone = Device(Driver(bench.gpus.functions, {}))
    missing = Libraries(alone)
    with pytest.warns(LibraryNotUsed, match=r"E0547: cuBLAS is not there: .*'k' \(node 'm'\) runs instead"):
        assert missing.product(CALL, {}, bench.places(), "k", "node 'm'") is None
    assert missing.product(CALL, {}, bench.places(), "k", "node 'm'") is None
    bench.double.refuse = {0}
    with pytest.warns(LibraryNotUsed, match="E0548: .*GetHeuristic says CUBLAS_STATUS_NOT_SUPPORTED"):
        assert Libraries(bench.device).product(CALL, {}, bench.places(), "k", "") is None


def test_a_library_that_does_not_start_is_missing(bench: Bench) -> None:
    functions = {**bench.double.functions, "cublasLtCreate": lambda handle: 1}
    device = Device(Driver(bench.gpus.functions, {CUBLAS: functions}))
    with pytest.raises(LibraryMissing, match="cublasLtCreate says CUBLAS_STATUS_NOT_INITIALIZED"):
        Cublas(device)
