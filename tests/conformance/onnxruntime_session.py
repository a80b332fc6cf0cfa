"""ONNX Runtime on a model, with arrays of types that numpy lacks passed through conversions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

NARROW = {
    **dict.fromkeys(
        (TensorProto.BFLOAT16, TensorProto.FLOAT8E4M3FN, TensorProto.FLOAT8E4M3FNUZ), TensorProto.FLOAT
    ),
    **dict.fromkeys((TensorProto.FLOAT8E5M2, TensorProto.FLOAT8E5M2FNUZ), TensorProto.FLOAT),
    **dict.fromkeys((TensorProto.FLOAT8E8M0, TensorProto.FLOAT4E2M1), TensorProto.FLOAT),
    **dict.fromkeys(
        (TensorProto.INT4, TensorProto.UINT4, TensorProto.INT2, TensorProto.UINT2), TensorProto.INT32
    ),
}
"""Element types that have no numpy type -> those that hold their values exactly."""


class Session:
    """A model that ONNX Runtime has loaded, without graph optimisations."""

    def __init__(self, model: onnx.ModelProto) -> None:
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.log_severity_level = 4
        options.intra_op_num_threads = 1
        self.names = [v.name for v in model.graph.input]
        self.dtypes = [_numpy(v) for v in model.graph.output]
        wide, self.widened = with_wide_ports(model)
        self.session = ort.InferenceSession(
            wide.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )

    def run(self, inputs: Sequence[Any]) -> list[Any]:
        """Outputs for inputs in graph order; trailing ones may have defaults."""
        given: dict[str, Any] = {}
        for name, array in zip(self.names, inputs, strict=False):
            port, dtype = self.widened.get(name, (name, None))
            if array is not None:
                array = np.asarray(array) if isinstance(array, np.generic) else array
                given[port] = array if dtype is None else array.astype(dtype)
        results = self.session.run(None, given)
        with np.errstate(all="ignore"):
            return [
                r if d is None or not isinstance(r, np.ndarray) or r.dtype == d else r.astype(d)
                for r, d in zip(results, self.dtypes, strict=True)
            ]


def kept_infinities(code: int) -> dict[str, int]:
    """Attributes of a conversion that changes no value."""
    return {"saturate": 0} if TensorProto.DataType.Name(code).startswith(("FLOAT8E4", "FLOAT8E5")) else {}


def _numpy(value: onnx.ValueInfoProto) -> Any:
    code = value.type.tensor_type.elem_type
    return helper.tensor_dtype_to_np_dtype(code) if code in NARROW else None


def with_wide_ports(model: onnx.ModelProto) -> tuple[onnx.ModelProto, dict[str, tuple[str, Any]]]:
    """The model with conversions behind inputs and before outputs of narrow types.

    Also returns, by the name of an input that got one, its new name and numpy dtype.
    """
    ports = [*model.graph.input, *model.graph.output]
    if not any(v.type.tensor_type.elem_type in NARROW for v in ports):
        return model, {}
    made = onnx.ModelProto()
    made.CopyFrom(model)
    widened: dict[str, tuple[str, Any]] = {}
    before, after = [], []
    inputs = len(made.graph.input)
    for place, value in enumerate((*made.graph.input, *made.graph.output)):
        tensor = value.type.tensor_type
        if tensor.elem_type not in NARROW:
            continue
        name, narrow, wide = value.name, tensor.elem_type, NARROW[tensor.elem_type]
        tensor.elem_type = wide
        value.name = f"{name}/wide"
        if place < inputs:
            before.append(
                helper.make_node("Cast", [value.name], [name], to=narrow, **kept_infinities(narrow))
            )
            widened[name] = value.name, helper.tensor_dtype_to_np_dtype(wide)
        else:
            after.append(helper.make_node("Cast", [name], [value.name], to=wide))
    nodes = [*before, *made.graph.node, *after]
    del made.graph.node[:]
    made.graph.node.extend(nodes)
    return made, widened
