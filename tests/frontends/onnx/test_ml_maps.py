"""ai.onnx.ml operators on maps, and conversions of texts, against ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto as T
from onnx import helper

import aino_ir as aino
from aino_ir.driver import onnx_backend
from aino_ir.errors.export import OpNotExportable
from aino_ir.errors.onnx import NodeInvalid
from aino_ir.errors.usage import OperatorsUnsupported
from aino_ir.frontends.onnx import load_onnx
from tests.conformance.batch import in_child
from tests.conformance.onnxruntime_session import Session

I, S, F, D = T.INT64, T.STRING, T.FLOAT, T.DOUBLE


def map_of(key: int, value: int) -> onnx.TypeProto:
    return helper.make_map_type_proto(key, helper.make_tensor_type_proto(value, []))


def model_of(
    op: str, type_: onnx.TypeProto, domain: str = "ai.onnx.ml", **attributes: Any
) -> onnx.ModelProto:
    node = helper.make_node(op, ["x"], ["y"], domain=domain, **attributes)
    port = onnx.ValueInfoProto(name="x")
    port.type.CopyFrom(type_)
    graph = helper.make_graph([node], "maps", [port], [onnx.ValueInfoProto(name="y")])
    imports = [helper.make_opsetid("", 20), helper.make_opsetid("ai.onnx.ml", 1)]
    return helper.make_model(graph, opset_imports=imports, ir_version=10)


def by_engine(model: onnx.ModelProto, value: Any) -> Any:
    got = in_child(lambda: Session(model).run([value]))
    assert isinstance(got, list), got
    return got[0]


def same(got: Any, want: Any) -> bool:
    if isinstance(want, np.ndarray):
        assert got.dtype == want.dtype and got.shape == want.shape
        return bool(np.array_equal(got, want, equal_nan=want.dtype.kind == "f"))
    return bool(got == want)


NUMBERS = {3: 1.5, 1: -2.7, 20: 1e20}
CAST = [
    {"cast_to": to, **form}
    for to in ("TO_FLOAT", "TO_INT64", "TO_STRING")
    for form in ({}, {"map_form": "SPARSE", "max_map": 5})
]


@pytest.mark.parametrize("attributes", CAST, ids=str)
def test_maps_of_numbers_as_tensors(attributes: dict[str, Any]) -> None:
    model = model_of("CastMap", map_of(I, F), **attributes)
    want = by_engine(model, NUMBERS)
    for target in ("reference", "c"):
        assert same(aino.compile(model, target, cache=False).run({"x": NUMBERS})[0], want)


def test_maps_of_texts_as_tensors() -> None:
    """ONNX Runtime's Python interface takes no maps of texts."""
    texts = {3: "1.5", 1: "-2"}

    def cast(**attributes: Any) -> Any:
        return (
            aino.compile(model_of("CastMap", map_of(I, S), **attributes), "reference")
            .run({"x": texts})[0]
            .tolist()
        )

    sparse = {"map_form": "SPARSE", "max_map": 4}
    assert cast() == [[-2.0, 1.5]] and cast(cast_to="TO_INT64") == [[-2, 1]]
    assert cast(cast_to="TO_STRING") == [["-2", "1.5"]] and cast(**sparse) == [[0, -2, 0, 1.5]]
    assert cast(cast_to="TO_STRING", **sparse) == [["0.f", "-2", "0.f", "1.5"]]


@pytest.mark.parametrize(
    ("key", "value", "x", "words"),
    [
        (S, F, {"a": 1.0, "z": 2.0}, ["z", "b", "a"]),
        (S, F, {"a": 1.0, "unknown": 2.0}, ["z", "b", "a"]),
        (I, F, {1: 1.5, 2: 2.0}, [5, 2, 1]),
    ],
)
def test_rows_of_a_vocabulary(key: int, value: int, x: Any, words: Any) -> None:
    names = {"string_vocabulary": words} if key == S else {"int64_vocabulary": words}
    model = model_of("DictVectorizer", map_of(key, value), **names)
    want = by_engine(model, x)
    for target in ("reference", "c"):
        assert same(aino.compile(model, target, cache=False).run({"x": x})[0], want)


def test_rows_of_other_values() -> None:
    def row(value: int, x: Any, words: Any) -> Any:
        kind = "string_vocabulary" if isinstance(words[0], str) else "int64_vocabulary"
        model = model_of("DictVectorizer", map_of(S if kind[0] == "s" else I, value), **{kind: words})
        (y,) = aino.compile(model, "reference").run({"x": x})
        return y.dtype.name, y.tolist()

    assert row(I, {"a": 7}, ["b", "a"]) == ("int64", [[0, 7]])
    assert row(D, {"a": 0.1}, ["b", "a"]) == ("float64", [[0, 0.1]])
    assert row(S, {1: "u"}, [1, 2]) == ("object", [["u", ""]])


@pytest.mark.parametrize("shape", [(2, 3), (3,), (1, 3)])
@pytest.mark.parametrize(
    "keys", [{"classlabels_int64s": [7, 8, 9]}, {"classlabels_strings": ["a", "b", "a"]}], ids=str
)
def test_rows_as_maps(shape: tuple[int, ...], keys: dict[str, Any]) -> None:
    x = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    model = model_of("ZipMap", helper.make_tensor_type_proto(F, list(shape)), **keys)
    want = by_engine(model, x)
    for target in ("reference", "c"):
        assert aino.compile(model, target, cache=False).run(x)[0] == want


def test_a_map_beside_native_code() -> None:
    """Probabilities in native code, maps of them in Python, and rows of those again."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"]),
        helper.make_node("Softmax", ["h"], ["p"]),
        helper.make_node("ZipMap", ["p"], ["maps"], domain="ai.onnx.ml", classlabels_int64s=[4, 2]),
        helper.make_node("SequenceAt", ["maps", "one"], ["second"]),
        helper.make_node("CastMap", ["second"], ["row"], domain="ai.onnx.ml"),
        helper.make_node("Relu", ["row"], ["y"]),
    ]
    x, w = (
        np.random.default_rng(1).standard_normal((2, 2, 3)).astype(np.float32)[0],
        np.eye(3, 2, dtype=np.float32),
    )
    graph = helper.make_graph(
        nodes,
        "classes",
        [helper.make_tensor_value_info("x", F, [2, 3])],
        [onnx.ValueInfoProto(name="maps"), onnx.ValueInfoProto(name="y")],
        [onnx.numpy_helper.from_array(w, "w"), onnx.numpy_helper.from_array(np.array(1), "one")],
    )
    imports = [helper.make_opsetid("", 20), helper.make_opsetid("ai.onnx.ml", 1)]
    model = helper.make_model(graph, opset_imports=imports, ir_version=10)
    executable = aino.compile(model, "c", cache=False)
    maps, y = executable.run(x)
    assert [list(m) for m in maps] == [[4, 2]] * 2
    assert all(abs(sum(m.values()) - 1) < 1e-6 for m in maps)
    assert y.tolist() == [[maps[1][2], maps[1][4]]]
    assert {n["op"] for n in executable.report.python_nodes} == {"map.zip", "sequence.at", "map.sorted"}
    with pytest.raises(OperatorsUnsupported, match="map"):
        aino.compile(model, "c", cache=False, strict=True)


def test_the_backend_takes_and_gives_maps() -> None:
    node = helper.make_node("CastMap", ["x"], ["y"], domain="ai.onnx.ml")
    (y,) = onnx_backend.run_node(node, [{3: 1.5, 1: 2.0}], target="reference")
    assert y.tolist() == [[2.0, 1.5]]
    node = helper.make_node("ZipMap", ["x"], ["y"], domain="ai.onnx.ml", classlabels_strings=["a", "b"])
    (maps,) = onnx_backend.run_node(node, [np.ones((1, 2), np.float32)], target="reference")
    assert maps == [{"a": 1.0, "b": 1.0}]
    node = helper.make_node("SequenceAt", ["s", "i"], ["y"])
    given = [[{"a": 1.0}, {"a": 2.0}], np.array(1)]
    assert onnx_backend.run_node(node, given, target="reference") == ({"a": 2.0},)


def test_maps_survive_artifacts_and_exports(tmp_path: Any) -> None:
    model = model_of("CastMap", map_of(I, F))
    executable = aino.compile(model, "c", cache=False)
    executable.save(tmp_path / "m.aino")
    loaded = aino.load_executable(tmp_path / "m.aino")
    assert same(loaded.run({"x": NUMBERS})[0], executable.run({"x": NUMBERS})[0])
    for case in (
        model,
        model_of("CastMap", map_of(I, F), cast_to="TO_STRING", map_form="SPARSE", max_map=5),
        model_of("DictVectorizer", map_of(I, F), int64_vocabulary=[5, 3]),
    ):
        again = aino.to_onnx(load_onnx(case))
        onnx.checker.check_model(again, full_check=True)
        assert same(by_engine(again, NUMBERS), by_engine(case, NUMBERS))
    x = np.ones((2, 1), np.float32)
    zipped = model_of("ZipMap", helper.make_tensor_type_proto(F, [2, 1]), classlabels_int64s=[3])
    assert by_engine(aino.to_onnx(load_onnx(zipped)), x) == [{3: 1.0}, {3: 1.0}]
    for case in (
        model_of("CastMap", map_of(I, F), cast_to="TO_STRING"),
        model_of("CastMap", map_of(I, S), map_form="SPARSE", max_map=5),
        model_of("CastMap", map_of(I, D)),
    ):
        with pytest.raises(OpNotExportable):
            aino.to_onnx(load_onnx(case))


def test_what_makes_no_sense_is_refused() -> None:
    row = helper.make_tensor_type_proto(F, [2, 2])
    for case, match in (
        (model_of("ZipMap", row), "one of them"),
        (model_of("ZipMap", helper.make_tensor_type_proto(F, []), classlabels_int64s=[1]), "1 or 2"),
        (model_of("CastMap", row), "a map"),
        (model_of("CastMap", map_of(S, F)), "integers"),
        (model_of("CastMap", map_of(I, F), map_form="OTHER"), "DENSE or SPARSE"),
        (model_of("CastMap", map_of(I, F), map_form="SPARSE", max_map=0), "at least 1"),
    ):
        with pytest.raises(NodeInvalid, match=match):
            load_onnx(case)


TEXTS = np.array(["1.5", "-2", "1e3", "INF", "-inf", "NaN", " 7"], object)


@pytest.mark.parametrize(
    ("x", "to"),
    [
        (np.array([1.5, -0.0, 1e20, 3.14159274, np.nan, np.inf, -np.inf, 1e-7, 123456.789], np.float32), S),
        (np.array([1.5, 0.1, 1e300, 1 / 3]), S),
        (np.array([0.1, 65504], np.float16), S),
        (np.array([True, False]), S),
        (np.array([[-5], [7]], np.int8), S),
        (np.array([2**63], np.uint64), S),
        (TEXTS, F),
        (TEXTS[:3], T.FLOAT16),
        (TEXTS, D),
        (np.array(["5", "-2", " 7", "1.5"], object), I),
        (np.array(["300"], object), T.INT8),
        (np.array(["1", "0"], object), T.BOOL),
    ],
    ids=str,
)
def test_conversions_of_texts(x: np.ndarray[Any, Any], to: int) -> None:
    kind = S if x.dtype == object else helper.np_dtype_to_tensor_dtype(x.dtype)
    model = model_of("Cast", helper.make_tensor_type_proto(kind, list(x.shape)), domain="", to=to)
    want = by_engine(model, x)
    assert same(aino.compile(model, "reference").run({"x": x})[0], want)
    assert same(by_engine(aino.to_onnx(load_onnx(model)), x), want)


def test_casts_like_texts() -> None:
    nodes = [helper.make_node("CastLike", ["x", "t"], ["y"]), helper.make_node("CastLike", ["y", "x"], ["z"])]
    ports = [helper.make_tensor_value_info("x", F, [2]), helper.make_tensor_value_info("t", S, [1])]
    graph = helper.make_graph(nodes, "like", ports, [onnx.ValueInfoProto(name=n) for n in "yz"])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    x = np.array([1.5, -2], np.float32)
    y, z = aino.compile(model, "reference").run(x, np.array(["t"], object))
    assert y.tolist() == ["1.5", "-2"] and z.tolist() == x.tolist()
