"""The cases of the ONNX backend test suite: node tests, small and real models, models once written by PyTorch."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from onnx import numpy_helper

KINDS = ("node", "simple", "real", "pytorch-converted", "pytorch-operator")

CORE_OPSET = 26
"""The newest operator set of the fair core: the last one that other engines have had time for."""

_T = onnx.TensorProto
CORE_TYPES = frozenset(
    (
        *(_T.FLOAT, _T.DOUBLE, _T.FLOAT16, _T.BOOL),
        *(_T.INT8, _T.INT16, _T.INT32, _T.INT64, _T.UINT8, _T.UINT16, _T.UINT32, _T.UINT64),
    )
)
"""Element types of the fair core."""

_RANDOM = "its results are random: ONNX fixes no generator; only their types and shapes are compared"
LEFT_OUT = {
    **{
        name + suffix: _RANDOM
        for name in ("test_bernoulli", "test_bernoulli_double", "test_bernoulli_seed")
        for suffix in ("", "_expanded")
    },
    **{f"test_training_dropout{suffix}": _RANDOM for suffix in ("", "_mask", "_default", "_default_mask")},
}
"""Cases whose values cannot be compared, and why."""


@dataclass(frozen=True)
class Case:
    """One case of the suite: a model, and pairs of inputs and expected outputs.

    Attributes:
        data: made when it is first needed: real models have large outputs.
    """

    name: str
    kind: str
    model: onnx.ModelProto
    data: Callable[[], tuple[tuple[list[Any], list[Any]], ...]]
    rtol: float
    atol: float

    @property
    def operator(self) -> str:
        """The operator under test: the first node's; the folder's name for larger models."""
        nodes = self.model.graph.node
        if self.kind == "real" or not len(nodes):
            return self.name.removeprefix("test_")
        return str(nodes[0].op_type)

    @functools.cached_property
    def is_core(self) -> bool:
        """Whether it belongs to the fair core: a node test of released operators on standard types."""
        ports = [*self.model.graph.input, *self.model.graph.output]
        return (
            self.kind == "node"
            and all(o.domain in ("", "ai.onnx") and o.version <= CORE_OPSET for o in self.model.opset_import)
            and all(
                v.type.WhichOneof("value") == "tensor_type" and v.type.tensor_type.elem_type in CORE_TYPES
                for v in ports
            )
        )


def cases(kinds: Iterable[str] = KINDS, wanted: Callable[[str], Any] = bool) -> Iterator[Case]:
    """Every case of the given kinds whose name is wanted, the same order in every run."""
    for kind in kinds:
        for test in sorted(_loaded(kind), key=lambda t: str(t.name)):
            if not wanted(test.name):
                continue
            if test.model is not None:
                yield Case(test.name, kind, test.model, functools.partial(_given, test), test.rtol, test.atol)
            elif test.model_dir is not None:
                yield _stored(test, kind)
            else:
                yield _light(test, kind)


@functools.cache  # the suite makes all node tests anew when it is asked, in seconds
def _loaded(kind: str) -> list[Any]:
    from onnx.backend.test.loader import load_model_tests

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return list(load_model_tests(kind=kind))


def _given(test: Any) -> tuple[tuple[list[Any], list[Any]], ...]:
    return tuple(([_array(v) for v in i], [_array(v) for v in o]) for i, o in test.data_sets or ())


def _stored(test: Any, kind: str) -> Case:
    """A case in a folder: a model, and folders of inputs and outputs."""
    folder = Path(test.model_dir)
    model = onnx.load(folder / "model.onnx")

    def data() -> tuple[tuple[list[Any], list[Any]], ...]:
        return tuple(_stored_pair(d, model) for d in sorted(folder.glob("test_data_set*")))

    return Case(test.name, kind, model, data, test.rtol, test.atol)


def _stored_pair(folder: Path, model: onnx.ModelProto) -> tuple[list[Any], list[Any]]:
    sides = []
    for side, values in (("input", model.graph.input), ("output", model.graph.output)):
        files = sorted(folder.glob(f"{side}_*.pb"), key=lambda p: int(p.stem.rpartition("_")[2]))
        sides.append([_load(f, values[i].type) for i, f in enumerate(files)])
    return sides[0], sides[1]


def _light(test: Any, kind: str) -> Case:
    """A real network without its weights: a model and its outputs beside it, inputs as the suite makes them."""
    path = Path(onnx.__file__).parent.parent / test.url

    def data() -> tuple[tuple[list[Any], list[Any]], ...]:
        from onnx.backend.test.runner import Runner

        made = {i.name for i in model.graph.initializer}
        inputs = [Runner.generate_dummy_data(v) for v in model.graph.input if v.name not in made]
        outputs = [
            _load(path.with_name(f"{path.stem}_output_{i}.pb"), v.type)
            for i, v in enumerate(model.graph.output)
        ]
        return ((inputs, outputs),)

    model = onnx.load(path)
    return Case(test.name, kind, model, data, test.rtol, test.atol)


def _load(path: Path, declared: onnx.TypeProto) -> Any:
    kinds: dict[str, tuple[Any, Any]] = {
        "sequence_type": (onnx.SequenceProto, numpy_helper.to_list),
        "optional_type": (onnx.OptionalProto, numpy_helper.to_optional),
        "tensor_type": (onnx.TensorProto, numpy_helper.to_array),
    }
    message, convert = kinds[declared.WhichOneof("value")]
    return convert(message.FromString(path.read_bytes()))


def _array(value: Any) -> Any:
    return numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else value
