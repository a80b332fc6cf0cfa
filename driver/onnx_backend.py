"""The ONNX backend interface: `onnx.backend.base.Backend` for AINO's targets.

    import aino_ir.driver.onnx_backend as backend
    rep = backend.prepare(model)                       # for target c; prepare(model, target="reference")
    outputs = rep.run(inputs)

The module itself, `Backend` and `ReferenceBackend` all serve as the backend of
`onnx.backend.test.BackendTest`.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import defs, helper
from onnx.backend import base

from aino_ir.driver.api import AnyExecutable, compile
from aino_ir.errors.onnx import InputNotConstant
from aino_ir.errors.run import WrongInputCount
from aino_ir.errors.usage import UnknownDevice
from aino_ir.frontends.onnx import load_onnx


class BackendRep(base.BackendRep):
    """A prepared model.

    Where an input must be known at compile time (one that decides the rank of a value), the model is
    compiled when it is first run, for the value which that input then has, and again for every other
    value.

    Attributes:
        target: what it is compiled for.
        fixed: names of the inputs whose values it is compiled for.
        host_steps: operators that the last run carried out in Python.
    """

    def __init__(self, model: onnx.ModelProto, target: str, options: Mapping[str, Any]) -> None:
        """Compile the model as far as it can be without data.

        Raises:
            AinoError: what is wrong with the model.
        """
        self.target = target
        self.fixed: tuple[str, ...] = ()
        self.host_steps = 0
        self._model = model
        self._options = dict(options)
        self._names = [v.name for v in model.graph.input]
        given = {tensor.name for tensor in model.graph.initializer}
        self._required = [name for name in self._names if name not in given]
        self._compiled: dict[tuple[Any, ...], AnyExecutable] = {}
        try:
            self._compiled[()] = compile(model, target, **self._options)
        except InputNotConstant as error:
            self.fixed = self._decisive(error, self._names)

    def run(self, inputs: Any, **kwargs: Any) -> tuple[Any, ...]:
        """Run the model.

        Args:
            inputs: values by name, or in the order of the graph's inputs: of all, or of those that have
                no default. Tensors are numpy arrays, sequences lists, absent optionals None,
                maps dicts.
            kwargs: none is known.

        Returns:
            The outputs in order.
        """
        given = dict(inputs) if isinstance(inputs, Mapping) else self._named(list(inputs))
        executable = self._executable(given)
        taken = {name for name, _ in executable.inputs}
        before = executable.host_steps
        outputs = executable.run({name: value for name, value in given.items() if name in taken})
        self.host_steps = executable.host_steps - before
        return outputs

    def _named(self, inputs: Sequence[Any]) -> dict[str, Any]:
        """Positional inputs by name."""
        names = self._names if len(inputs) > len(self._required) else self._required
        if len(inputs) > len(names):
            raise WrongInputCount(expected=tuple(names), got=f"{len(inputs)} positional")
        return dict(zip(names, inputs, strict=False))

    def _executable(self, given: Mapping[str, Any]) -> AnyExecutable:
        """The model compiled for the values of the inputs that must be known."""
        while True:
            if not all(name in given for name in self.fixed):
                raise WrongInputCount(expected=tuple(self._names), got=tuple(given))
            key = tuple(_identity(given.get(name)) for name in self.fixed)
            if key in self._compiled:
                return self._compiled[key]
            try:
                module = load_onnx(self._model, values={name: given[name] for name in self.fixed})
                self._compiled[key] = compile(module, self.target, **self._options)
            except InputNotConstant as error:
                self.fixed = self._decisive(error, given)

    def _decisive(self, error: InputNotConstant, available: Container[str]) -> tuple[str, ...]:
        """The names of inputs that must be known, with those that an error asks for."""
        more = tuple(name for name in error.inputs if name not in self.fixed)
        if not more or any(name not in available for name in more):
            raise error
        return (*self.fixed, *more)


def _identity(value: Any) -> Any:
    """What tells a value of an input from others."""
    array = np.asarray(value)
    return (array.dtype.str, array.shape, array.tobytes())


class Backend(base.Backend):
    """AINO on this CPU, as generated C.

    Attributes:
        target: the target of `prepare` unless told otherwise.
    """

    target = "c"

    @classmethod
    def supports_device(cls, device: str) -> bool:
        """Whether models run on a device: ``CPU`` alone."""
        return str(device).partition(":")[0].upper() == "CPU"

    @classmethod
    def prepare(cls, model: onnx.ModelProto, device: str = "CPU", **kwargs: Any) -> BackendRep:
        """Compile a model.

        Args:
            model: the model.
            device: ``CPU``.
            kwargs: options of `aino.compile`, among them ``target``.

        Raises:
            UnknownDevice: there is no code for such a device.
            AinoError: what is wrong with the model.
        """
        if not cls.supports_device(device):
            raise UnknownDevice(device=str(device))
        options = dict(kwargs)
        return BackendRep(model, options.pop("target", cls.target), options)

    @classmethod
    def run_model(cls, model: onnx.ModelProto, inputs: Any, device: str = "CPU", **kwargs: Any) -> Any:
        """Compile and run a model once."""
        return cls.prepare(model, device, **kwargs).run(inputs)

    @classmethod
    def run_node(
        cls,
        node: onnx.NodeProto,
        inputs: Any,
        device: str = "CPU",
        outputs_info: Sequence[tuple[Any, tuple[int, ...]]] | None = None,
        **kwargs: Any,
    ) -> Any:
        """Compile and run a model of one node.

        Args:
            node: the node.
            inputs: arrays for its inputs that are not left out.
            device: ``CPU``.
            outputs_info: not needed; types follow from the inputs.
            kwargs: ``opset_version`` of the node's domain, and options as for `prepare`.
        """
        options = dict(kwargs)
        version = options.pop("opset_version", None)
        return cls.run_model(_model_of(node, inputs, version), inputs, device, **options)


class ReferenceBackend(Backend):
    """AINO's interpreter."""

    target = "reference"


def _model_of(node: onnx.NodeProto, inputs: Sequence[Any], version: int | None) -> onnx.ModelProto:
    """A model of one node whose inputs are of the types of some arrays."""
    names = list(dict.fromkeys(name for name in node.input if name))
    ports = []
    for name, value in zip(names, inputs, strict=True):
        ports.append(onnx.ValueInfoProto(name=name))
        ports[-1].type.CopyFrom(_type_of(value))
    results = [onnx.ValueInfoProto(name=name) for name in node.output if name]
    graph = helper.make_graph([node], "node", ports, results)
    newest = defs.onnx_opset_version() if node.domain in ("", "ai.onnx") else 1
    opset = helper.make_opsetid(node.domain, version or newest)
    return helper.make_model(graph, opset_imports=[opset])


def _type_of(value: Any) -> onnx.TypeProto:
    """The type that a value has: of an array, a list, or a dict of Python's scalars (float32 for floats)."""
    if isinstance(value, Mapping):
        key, item = next(iter(value.items()), (0, 0.0))
        scalar = helper.make_tensor_type_proto(_SCALARS[type(item)], [])
        return helper.make_map_type_proto(_SCALARS[type(key)], scalar)
    if isinstance(value, (list, tuple)) and value and isinstance(value[0], (np.ndarray, Mapping)):
        return helper.make_sequence_type_proto(_type_of(value[0]))
    array = np.asarray(value)
    return helper.make_tensor_type_proto(helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)


_SCALARS = {int: onnx.TensorProto.INT64, float: onnx.TensorProto.FLOAT, str: onnx.TensorProto.STRING}
"""What Python's scalars are in ONNX."""

prepare = Backend.prepare
run_model = Backend.run_model
run_node = Backend.run_node
supports_device = Backend.supports_device
