"""Executables for GPUs: arrays of the host and tensors of the device, in and out."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from aino_ir.errors.cuda import DeviceArchitectureMismatch, MixedDevices
from aino_ir.errors.run import BadOutputBuffer, OutputDecidedByRun
from aino_ir.runtime.artifact import Artifact, Variant
from aino_ir.runtime.cubins import CubinLibrary
from aino_ir.runtime.cuda.device import Device, Event, Memory, open_device
from aino_ir.runtime.cuda.model import CudaModel, LoadedCode
from aino_ir.runtime.cuda.plan import PlanFacts
from aino_ir.runtime.cuda.tensors import (
    ArrayMaker,
    DeviceArray,
    DeviceTensor,
    Maker,
    current_stream,
    device_number,
    device_tensor,
    maker_of,
)
from aino_ir.runtime.executable import Executable, Outputs
from aino_ir.runtime.function import Extents, Model, NativeCode
from aino_ir.runtime.host_executable import HostExecutable


class CudaCode(NativeCode):
    """The cubins of an artifact, loaded on each device when it is first used."""

    def __init__(self, artifact: Artifact) -> None:
        super().__init__(artifact)
        self._loaded: dict[int, LoadedCode] = {}
        self._models: dict[tuple[int, str], CudaModel] = {}
        self._lock = threading.RLock()

    def variant_for(self, device: Device) -> Variant:
        """The most demanding variant that a device runs.

        Raises:
            DeviceArchitectureMismatch: there is none.
        """
        variants = self.artifact.manifest.variants
        fitting = [v for v in variants if device.runs(v.isa)]
        if fitting:
            return fitting[-1]
        found = ", ".join(v.isa for v in variants) or "no device"
        mismatch: DeviceArchitectureMismatch = device.mismatch(self.artifact.path, found)
        raise mismatch

    def model(self, variants: Mapping[str, Any], threads: int) -> Model:
        """One function on the first device."""
        return self.model_on(0, variants)

    def model_on(self, number: int, variants: Mapping[str, Any]) -> CudaModel:
        """One function on a device.

        Raises:
            NoCudaDriver, NoCudaDevice: there is no such device.
            DeviceArchitectureMismatch: the artifact has no code for it.
            DeviceOutOfMemory: it has no room for the weights.
        """
        device = open_device(number)
        variant = self.variant_for(device)
        details = variants[variant.isa]
        key = (id(device), details["symbol_prefix"])
        with self._lock:
            model = self._models.get(key)
            if model is None:
                weights = self.artifact.weights[details["weights_offset"] :]
                plan = PlanFacts.of(details["plan"])
                code = self._code_on(device, variant)
                model = CudaModel(code, plan, weights, details["steps"], details["demands"])
                self._models[key] = model
            return model

    def _code_on(self, device: Device, variant: Variant) -> LoadedCode:
        found = self._loaded.get(id(device))
        if found is None:
            library = CubinLibrary.from_bytes(self.artifact.library(variant), variant.section)
            found = LoadedCode(device, library, variant.isa, self.artifact.path)
            self._loaded[id(device)] = found
        return found


class CudaExecutable(Executable):
    """A compiled model for GPUs; see `Executable`.

    Arrays of the host are copied to the first device and back.  Tensors on a device (torch's, or anything
    with DLPack) are read where they lie, the run happens on their device and stream, and the results are
    new tensors there.
    """

    def _code(self) -> NativeCode:
        self._cuda = CudaCode(self._artifact)
        self._defaults_there: dict[tuple[int, int], DeviceArray] = {}
        return self._cuda

    def run(self, *inputs: Any, out: Outputs | None = None, stream: int | None = None) -> tuple[Any, ...]:
        """Run the model; see `Executable.run`.

        Args:
            inputs: arrays of the host, or tensors of one device.
            out: arrays or tensors to write the outputs to, where the inputs are.
            stream: handle of the stream to use with tensors, which must be ready there; torch's current
                one when the tensors are torch's.  For others, without it, the run is waited for; with it,
                whoever reads new results by DLPack waits, and `out` is there when the stream has come so far.

        Raises:
            MixedDevices: the inputs lie in different places.
            AinoError: as for `Executable.run`.
        """
        given = list(self._arguments(inputs))
        numbers = [device_number(v) for v in given]
        if all(n is None for n in numbers):
            return super().run(*inputs, out=out)
        left_out = self._left_out(inputs)
        number = self._one_place(
            {n: k for (n, _), k in zip(self.inputs, numbers, strict=True) if n not in left_out}
        )
        maker = maker_of(given)
        wanted = stream if stream is not None else current_stream(maker, number)
        handle = 0 if wanted is None else wanted
        for place, (name, _) in enumerate(self.inputs):
            if name in left_out:
                given[place] = self._default_on(number, place, given[place])
        with maker.using(number, handle):
            tensors = [device_tensor(v, p, handle) for v, p in zip(given, self._ports, strict=True)]
            made = self._run_on(number, tensors, maker, handle, out)
        device = open_device(number)
        with device.current():
            if wanted is None:
                device.synchronize(handle)
            elif out is None and isinstance(maker, ArrayMaker):
                ready = Event.now(device, handle, timed=False)
                for array in made:
                    array.ready = ready
        return made

    __call__ = run

    def repeat_on(self, number: int, stream: int) -> Callable[[], None] | None:
        """What puts the last run on a stream of a device there once more, on the same tensors.

        It looks at nothing and takes a few microseconds, for whoever measures the device alone.  None where
        the host decides between launches; another run on that stream makes it useless.
        """
        return self._cuda.model_on(number, self._variants).repeat_on(stream)

    def weights_on(self, number: int) -> tuple[Memory, int]:
        """The constants on a device, copied there now if they were not, and where in the artifact's weights
        they begin: each variant has its own.

        Raises:
            AinoError: as for `run`.
        """
        model = self._cuda.model_on(number, self._variants)
        details = self._variants[self._cuda.variant_for(open_device(number)).isa]
        return model.weights, int(details["weights_offset"])

    def _left_out(self, inputs: tuple[Any, ...]) -> set[str]:
        """The inputs that take their default."""
        names = [name for name, _ in self.inputs]
        if len(inputs) == 1 and isinstance(inputs[0], Mapping):
            return set(names) - set(inputs[0])
        return set(names[len(inputs) :])

    def _default_on(self, number: int, place: int, value: Any) -> DeviceArray:
        """The default of an input on a device, copied there once."""
        key = (number, place)
        found = self._defaults_there.get(key)
        if found is None:
            device, port = open_device(number), self._ports[place]
            with device.current():
                memory = device.alloc(value.nbytes, f"input '{port.name}'")
                device.upload(memory.address, value.ctypes.data, value.nbytes, 0)
                device.synchronize(0)
            found = DeviceArray(memory, value.shape, port.type.dtype.name, number)
            self._defaults_there[key] = found
        return found

    def _one_place(self, numbers: Mapping[str, int | None]) -> int:
        """The device on which all inputs lie.

        Raises:
            MixedDevices: they do not.
        """
        first, number = next((name, k) for name, k in numbers.items() if k is not None)
        for name, other in numbers.items():
            if other != number:
                raise MixedDevices(name=name, got=_shown(other), other=first, expected=_shown(number))
        assert number is not None
        return number

    def _run_on(
        self, number: int, tensors: Sequence[DeviceTensor], maker: Maker, stream: int, out: Outputs | None
    ) -> tuple[Any, ...]:
        extents = self.extents_of(tuple(t.shape for t in tensors))
        model = self._cuda.model_on(number, self._variants)
        results, places = self._places(number, extents, maker, out, stream)
        allocated: dict[int, Any] = {}

        def allocate(slot: int, size: int) -> Any:
            allocated[slot] = maker.raw(size, number)
            return allocated[slot]

        values = model.run_on_device([t.address for t in tensors], places, extents.symbols, stream, allocate)
        for slot, raw in allocated.items():
            port = self._results[slot]
            results[slot] = maker.shaped(raw, port.shape(values), port.type.dtype.name)
        return tuple(results)

    @property
    def _variants(self) -> Mapping[str, Any]:
        variants: Mapping[str, Any] = self._artifact.manifest.details["variants"]
        return variants

    def _places(
        self, number: int, extents: Extents, maker: Maker, out: Outputs | None, stream: int
    ) -> tuple[list[Any], list[int]]:
        """The outputs and their addresses; None and 0 where the run decides the size."""
        if out is not None:
            return self._given(number, extents, out, stream)
        results: list[Any] = []
        places = []
        for port, shape in zip(self._results, extents.shapes, strict=True):
            if shape is None:
                results.append(None)
                places.append(0)
                continue
            value, address = maker.empty(shape, port.type.dtype.name, number)
            results.append(value)
            places.append(address)
        return results, places

    def _given(self, number: int, extents: Extents, out: Outputs, stream: int) -> tuple[list[Any], list[int]]:
        """The caller's own tensors, which must be on the device of the inputs."""
        for slot in self._function.given.slots:
            port = self._results[slot]
            raise OutputDecidedByRun(name=port.name, type=port.type)
        values, places = self._in_order(out), []
        for value, port, shape in zip(values, self._results, extents.shapes, strict=True):
            where = device_number(value)
            if where != number:
                first = self.inputs[0][0]
                raise MixedDevices(name=port.name, got=_shown(where), other=first, expected=_shown(number))
            tensor = device_tensor(value, port, stream, copies=False)
            if tensor.shape != shape:
                got = f"{port.type.dtype}{list(tensor.shape)}"
                raise BadOutputBuffer(name=port.name, expected=port.type, got=got)
            places.append(tensor.address)
        return values, places


class CudaHostExecutable(HostExecutable):
    """A compiled model with ops that run in Python, between which arrays go to the first device and back."""

    def _code(self) -> NativeCode:
        return CudaCode(self._artifact)


def _shown(number: int | None) -> str:
    return "cpu" if number is None else f"cuda:{number}"
