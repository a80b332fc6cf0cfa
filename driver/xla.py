"""StableHLO modules run by XLA, through jaxlib's PJRT client: the native functions of a host program."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from aino_ir.constants import Const
from aino_ir.errors.run import JaxMissing, KernelStatusUnknown, XlaFailed
from aino_ir.graph import Function, Module, Value
from aino_ir.interp import Evaluation, run_op
from aino_ir.op import Op
from aino_ir.runtime.native import STATUS_ERRORS
from aino_ir.runtime.program_executable import ProgramExecutable
from aino_ir.runtime.report import Report


class Specialized(Protocol):
    """A StableHLO module for one choice of extents; see `codegen.stablehlo.module.StableHloModule`."""

    @property
    def text(self) -> str:
        """MLIR text."""

    @property
    def weights(self) -> Sequence[tuple[str, Const]]:
        """Arguments behind the model's own."""

    @property
    def has_status(self) -> bool:
        """Whether the last result tells of a failed check."""

    @property
    def places(self) -> Sequence[str]:
        """Nodes that may fail."""


class DecidedExtents:
    """Symbols whose values `core.bind` ops read off inputs: found on the host, by the interpreter.

    Args:
        function: whose binds are meant, those of its own block.
    """

    def __init__(self, function: Function) -> None:
        self._function = function
        wanted: set[Value] = set()
        steps: list[Op] = []
        for op in reversed(list(function.block)):
            if op.name == "core.bind" or any(r in wanted for r in op.results):
                wanted.update(op.present_operands())
                steps.append(op)
        self._steps = steps[::-1]
        self._wanted = wanted

    def added(self, bindings: dict[str, int], values: Sequence[Any]) -> dict[str, int]:
        """The bindings, with those that the values of arguments decide.

        Raises:
            ValueOutOfBounds: an input holds an extent that is not possible.
        """
        if not self._steps:
            return bindings
        ev = Evaluation("native", bindings, self._function.symbols)
        arguments = zip(self._function.block.args, values, strict=True)
        env: dict[Value, Any] = {a: v for a, v in arguments if a in self._wanted}
        for op in self._steps:
            run_op(op, env, ev)
        return dict(ev.bindings)


class XlaFunction:
    """A function on a PJRT device; compiled by XLA once per choice of extents, when that is first met.

    With static extents it is compiled at once.

    Args:
        function: what is run.
        specialize: writes its module for values of the symbols.
        device: where it runs.

    Attributes:
        compilations: how often XLA compiled so far.

    Raises:
        XlaFailed: XLA refuses the module.
    """

    def __init__(
        self,
        function: Function,
        specialize: Callable[[Mapping[str, int]], Specialized],
        device: PjrtDevice,
    ) -> None:
        self.compilations = 0
        self._specialize = specialize
        self._device = device
        self._programs: dict[tuple[tuple[str, int], ...], _Program] = {}
        self._decided = DecidedExtents(function)
        if not tuple(function.symbols):
            self._program({})

    def call(
        self, arrays: Sequence[Any], symbols: dict[str, int], times: np.ndarray[Any, Any] | None = None
    ) -> Sequence[Any]:
        """New arrays for values of the symbols, those apart that the arrays themselves tell.

        Raises:
            IndexOutOfRange ...: a check of an op failed, with its node.
            ValueOutOfBounds: an array holds an extent that is not possible.
        """
        return self._program(self._decided.added(symbols, arrays)).run(arrays)

    @property
    def notes_times(self) -> bool:
        """False: XLA decides itself what its kernels are."""
        return False

    def no_times(self) -> np.ndarray[Any, Any]:
        """No steps that have times."""
        return np.zeros((0, 2), np.int64)

    def _program(self, bindings: Mapping[str, int]) -> _Program:
        """The program for values of the symbols, compiled when they are new."""
        key = tuple(sorted(bindings.items()))
        known = self._programs.get(key)
        if known is None:
            module = self._specialize(dict(key))
            weights = [self._device.weight(handle) for _, handle in module.weights]
            self.compilations += 1
            known = self._programs[key] = _Program(module, self._device, weights)
        return known


class XlaExecutable(ProgramExecutable):
    """Runs a module whose native functions are XLA's; see `ProgramExecutable`."""

    no_profile = "target 'stablehlo' leaves the kernels to XLA"

    def __init__(self, module: Module, natives: Mapping[str, XlaFunction], report: Report) -> None:
        super().__init__(module, natives, report)
        self._natives = natives

    @property
    def compilations(self) -> int:
        """How often XLA compiled so far."""
        return sum(f.compilations for f in self._natives.values())


class _Program:
    """One compiled module and its weights."""

    def __init__(self, module: Specialized, device: PjrtDevice, weights: Sequence[Any]) -> None:
        self._places = module.places
        self._has_status = module.has_status
        self._device = device
        self._weights = weights
        self._loaded = device.compile(module.text)

    def run(self, values: Sequence[Any]) -> list[Any]:
        """The results as arrays that own their memory."""
        results = self._device.execute(self._loaded, [*map(self._device.put, values), *self._weights])
        if self._has_status:
            code, _ = (int(v) for v in results.pop())
            if code:
                self._fail(code)
        return results

    def _fail(self, status: int) -> None:
        code, place = status & 0xFF, status >> 8
        error = STATUS_ERRORS.get(code)
        loc = self._places[place]
        if error is None:
            raise KernelStatusUnknown(kernel=loc, status=code)
        raise error(loc=loc or None)


class PjrtDevice:
    """The first device of a PJRT platform of jax (cpu, cuda, tpu), and the weights that are there.

    Raises:
        JaxMissing: jax is not installed, or has no such platform.
    """

    def __init__(self, platform: str) -> None:
        try:
            import jax
            from jax.extend import backend
            from jaxlib import xla_client
        except ImportError as missing:
            raise JaxMissing(reason=f"it is not installed ({missing})") from missing
        try:
            self._client: Any = backend.get_backend(platform)
        except RuntimeError as missing:
            raise JaxMissing(reason=f"it has no platform {platform!r}: {missing}") from missing
        self._jax: Any = jax
        self._weights: dict[Any, Any] = {}
        self._device: Any = self._client.local_devices()[0]
        self._devices = xla_client.DeviceList((self._device,))
        self._options = xla_client.CompileOptions()
        # What a storage type rounds stays rounded: XLA may otherwise keep more bits between operations.
        self._options.env_option_overrides = [("xla_allow_excess_precision", False)]

    def compile(self, text: str) -> Any:
        """A loaded executable.

        Raises:
            XlaFailed: XLA refuses the module.
        """
        try:
            return self._client.compile_and_load(text.encode(), self._devices, self._options)
        except Exception as refusal:
            raise XlaFailed(reason=str(refusal).strip().splitlines()[0]) from refusal

    def put(self, array: Any) -> Any:
        """An array on the device, of its own dtype."""
        with self._jax.enable_x64(True):
            return self._jax.device_put(np.asarray(array), self._device)

    def weight(self, handle: Const) -> Any:
        """A weight on the device; one copy serves every program."""
        if handle.key not in self._weights:
            self._weights[handle.key] = self.put(handle.array())
        return self._weights[handle.key]

    @property
    def weight_bytes(self) -> int:
        """Bytes of the weights on the device so far."""
        return sum(int(w.nbytes) for w in self._weights.values())

    def execute(self, loaded: Any, arguments: Sequence[Any]) -> list[Any]:
        """Results on the host."""
        return [np.array(value) for value in loaded.execute(list(arguments))]
