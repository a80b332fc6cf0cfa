"""Every version of every operator since operator set 7: the suite's one-node cases, said in older words.

A case of the backend suite is a node of the newest version.  Where the schema of an older one allows its
inputs and attributes, the same node is lowered for that operator set, and onnx's evaluator, which has
implementations by version, says what comes out.
"""

from __future__ import annotations

import collections
import functools
import warnings
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
import onnx.defs
import pytest
from onnx.reference import ReferenceEvaluator

from aino_ir.frontends.onnx import load_onnx
from aino_ir.frontends.onnx.schemas import signature
from aino_ir.interp import run_module
from tests.conformance.onnx_cases import Case, cases

OLDEST = 7
SHARE = 6
"""One case in this many is run by `make test` for each version of its operator."""

RANDOM = {"Bernoulli", "Dropout", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}

OTHER_GRAMMAR = {"If", "Loop", "OptionalHasElement", "Scan"}
"""Operators whose cases hold nodes, or are called in ways, that older operator sets do not know."""

MISJUDGED = {
    **{
        (op, v): "its axes from `axis` on are one"
        for op in ("Hardmax", "LogSoftmax", "Softmax")
        for v in (7, 11)
    },
    **{("BatchNormalization", v): "one output alone asks for inference" for v in (7, 9)},
}
"""(operator, version) -> what onnx's evaluator does not know about it; `test_forms_of_old` tests these."""


@functools.cache
def versions() -> dict[str, tuple[int, ...]]:
    """Operators of the default domain with more than one version since operator set 7."""
    found: dict[str, set[int]] = collections.defaultdict(set)
    for schema in onnx.defs.get_all_schemas_with_history():
        if schema.domain == "" and not schema.deprecated:
            found[schema.name].add(max(schema.since_version, OLDEST))
    return {name: tuple(sorted(v)) for name, v in sorted(found.items()) if len(v) > 1}


def older(case: Case) -> Iterator[tuple[int, onnx.ModelProto]]:
    """A one-node case as older versions of its operator would say it."""
    (node,) = case.model.graph.node
    newest = next(o.version for o in case.model.opset_import if o.domain == "")
    for version in versions().get(node.op_type, ()):
        known = signature("", node.op_type, version)
        judged = (node.op_type, version) not in MISJUDGED
        if version >= newest or known is None or not fits(node, known) or not judged:
            continue
        model = onnx.ModelProto()
        model.CopyFrom(case.model)
        for imported in model.opset_import:
            if imported.domain == "":
                imported.version = version
        yield version, model


def fits(node: onnx.NodeProto, known: Any) -> bool:
    """Whether a node is well-formed by another version's signature."""
    inputs, outputs = len(node.input), len(node.output)
    if any(n < inputs and not node.input[n] for n, _ in known.required):
        return False
    names = {a.name for a in node.attribute}
    return (
        known.inputs[0] <= inputs <= known.inputs[1]
        and known.outputs[0] <= outputs <= known.outputs[1]
        and names <= known.attributes.keys()
        and set(known.needed) <= names
    )


def one_node_cases() -> Iterator[Case]:
    """Cases of the suite that are one node of the default domain with several versions."""
    for case in cases(["node"]):
        nodes = case.model.graph.node
        if len(nodes) == 1 and not nodes[0].domain and nodes[0].op_type in versions():
            if nodes[0].op_type not in RANDOM | OTHER_GRAMMAR:
                yield case


def disagreement(model: onnx.ModelProto, inputs: list[Any], case: Case) -> str | None:
    """What differs between AINO and onnx's evaluator, or None; also where the evaluator cannot judge."""
    feeds = dict(zip([v.name for v in model.graph.input], inputs, strict=True))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            want = ReferenceEvaluator(model).run(None, feeds)
    except Exception:  # an implementation that the evaluator lacks, or one that is broken
        return "unjudged"
    got = run_module(load_onnx(model), inputs)
    for g, w in zip(got, want, strict=True):
        if isinstance(w, (list, type(None))):
            continue
        g, w = np.asarray(g), np.asarray(w)
        if g.shape != w.shape:
            return f"shape {g.shape}, not {w.shape}"
        if w.dtype == object or w.dtype.kind in "US":
            if g.astype(object).tolist() != w.astype(object).tolist():
                return "other texts"
        elif not np.allclose(g.astype(np.float64), w.astype(np.float64), case.rtol * 4, 1e-5, True):
            return "other values"
    return None


@pytest.mark.slow
def test_older_versions_of_the_suites_cases() -> None:
    """A sample of the cases in every older version; at least 95 % of them can be judged."""
    seen: collections.Counter[str | None] = collections.Counter()
    wrong = []
    for case in one_node_cases():
        for version, model in older(case):
            if zlib.crc32(f"{case.name}/{version}".encode()) % SHARE:
                continue
            found = disagreement(model, list(case.data()[0][0]), case)
            seen["judged" if found is None else found] += 1
            if found not in (None, "unjudged"):
                wrong.append(f"{case.name} as version {version}: {found}")
    assert not wrong, "\n".join(wrong)
    assert seen["judged"] > 2400 // SHARE and seen["unjudged"] < seen["judged"] // 20


# -- forms that only old operator sets have ---------------------------------------------------------------

X = np.random.default_rng(11).standard_normal((2, 3, 4)).astype(np.float32)
INT = np.int64
Form = tuple[dict[str, Any], dict[str, Any]]
"""Constant inputs behind the first one, by position; attributes."""


def form(*inputs: Any, **attributes: Any) -> Form:
    return {n: np.asarray(v) for n, v in enumerate(inputs, 1) if v is not None}, attributes  # type: ignore[misc]


FORMS: list[tuple[str, int, Form, int, Form]] = [
    ("Clip", 7, form(min=-0.5, max=0.5), 13, form(np.float32(-0.5), np.float32(0.5))),
    ("DepthToSpace", 7, form(blocksize=1), 13, form(blocksize=1, mode="DCR")),
    ("GlobalLpPool", 7, form(p=2), 22, form(p=2)),
    ("Pad", 7, form(pads=[0, 0, 1, 0, 1, 0], value=2.0), 13, form(INT([0, 0, 1, 0, 1, 0]), np.float32(2))),
    ("Slice", 7, form(starts=[1, -2], ends=[9, 4], axes=[1, 2]), 13, form(INT([1, -2]), INT([9, 4]), INT([1, 2]))),
    ("Slice", 7, form(starts=[0, 1], ends=[1, 3]), 11, form(INT([0, 1]), INT([1, 3]))),
    ("Squeeze", 7, form(axes=[0]), 13, form(INT([0]))),
    ("Unsqueeze", 7, form(axes=[0, 2]), 13, form(INT([0, 2]))),
    ("Unsqueeze", 11, form(axes=[-1]), 13, form(INT([-1]))),
    ("Split", 11, form(axis=2, split=[4]), 13, form(INT([4]), axis=2)),
    ("TopK", 7, form(k=2, axis=1), 11, form(INT([2]), axis=1)),
    ("Upsample", 7, form(scales=[1.0, 2.0, 2.0]), 9, form(np.float32([1, 2, 2]))),
    ("Resize", 10, form(np.float32([1, 2, 2])), 13,
     form(None, np.float32([1, 2, 2]), coordinate_transformation_mode="asymmetric", nearest_mode="floor")),
    *[
        (f"Reduce{name}", old, form(axes=[1], keepdims=keep), 18, form(INT([1]), keepdims=keep))
        for name in ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "SumSquare")
        for old, keep in ((7, 1), (11, 0), (13, 1))
    ],
    ("ReduceSum", 11, form(axes=[-1], keepdims=0), 13, form(INT([-1]), keepdims=0)),
    *[(op, v, form(axis=2), 13, form(axis=2)) for op in ("Softmax", "LogSoftmax", "Hardmax") for v in (7, 11)],
    ("Dropout", 7, form(ratio=0.5), 12, form()),
]  # fmt: skip


def run_form(op: str, version: int, given: Form, x: np.ndarray) -> np.ndarray:
    constants, attributes = given
    most = max(constants, default=0)
    names = ["x", *(f"c{n}" if n in constants else "" for n in range(1, most + 1))]
    node = onnx.helper.make_node(op, names, ["y", *(["z"] if op == "TopK" else [])], **attributes)
    graph = onnx.helper.make_graph(
        [node],
        "form",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, x.shape)],
        [onnx.ValueInfoProto(name="y")],
        [onnx.numpy_helper.from_array(v, f"c{n}") for n, v in constants.items()],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", version)], ir_version=8)
    return np.asarray(run_module(load_onnx(model), [x])[0])


@pytest.mark.parametrize(
    ("op", "old", "before", "new", "after"), FORMS, ids=[f"{r[0]}-{r[1]}-{n}" for n, r in enumerate(FORMS)]
)
def test_forms_of_old(op: str, old: int, before: Form, new: int, after: Form) -> None:
    """An attribute that became an input means the same."""
    x = np.abs(X[:1]) if op in ("ReduceLogSum", "Squeeze") else X
    x = X.reshape(2, 4, 3, 1) if op == "DepthToSpace" else x
    got, want = run_form(op, old, before, x), run_form(op, new, after, x)
    assert got.shape == want.shape
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax", "Hardmax"])
@pytest.mark.parametrize("version", [7, 11])
def test_axes_from_one_on_were_one(op: str, version: int) -> None:
    flat = run_form(op, 13, form(axis=1), X.reshape(2, 12)).reshape(X.shape)
    np.testing.assert_allclose(run_form(op, version, form(axis=1), X), flat, rtol=1e-6)


def test_every_operator_with_versions_is_tried() -> None:
    """Each one has a case in the suite, a form of old, or a test of its own."""
    own = RANDOM | OTHER_GRAMMAR | {"MaxRoiPool", "Multinomial", "Optional", "Attention"}
    tried = {row[0] for row in FORMS} | {c.model.graph.node[0].op_type for c in one_node_cases()} | own
    assert versions().keys() <= tried
    assert len(versions()) > 120
