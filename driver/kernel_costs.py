"""What modules cost once they are compiled: by the generators' own models, or measured in this process.

One object serves all compressions: `ModelledCosts`, and `MeasuredCosts`, which knows bytes in the same way
and takes times from a clock.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from typing import Any

from aino_ir.driver.inputs import made_up
from aino_ir.driver.pipeline import Compilation, CompileOptions
from aino_ir.errors.base import AinoError
from aino_ir.errors.usage import UnknownOption
from aino_ir.graph import Module
from aino_ir.passes.compression.costs import KernelCosts
from aino_ir.passes.plan_memory import used_constants
from aino_ir.plan import Plan, runs
from aino_ir.structural import block_hash
from aino_ir.target import Target, detect_host

GUARDS = ("modelled", "measured")
"""Where a guard may have times from; True means the first."""

TURNS = 15
"""Turns in which both modules run one after the other; a module's time is the median of its turns."""

TURN_SECONDS = 2e-3
"""About how long a module runs in one turn: several runs where one takes less."""

MOST_SECONDS = 4.0
"""After this the turns end, three of them made."""

LEAST_TURNS = 3


@dataclass(frozen=True)
class Known:
    """What the plan of a module tells.

    Attributes:
        seconds: modelled, of one run on one core; None where some of it has no native code.
        stored_bytes: of its constants as the artifact stores them.
        arena_bytes: of what lies between its kernels; 0 where that is symbolic.
        arrival: those seconds in which data comes from beyond a core's caches.
    """

    seconds: float | None
    stored_bytes: int
    arena_bytes: int = 0
    arrival: float = 0.0


class ModelledCosts:
    """Seconds of one run by the cost models of the kernels that a target would get; equal modules once.

    Of a network that fits half of the second cache nothing arrives from beyond it from the second run on.

    Args:
        target: what kernels are for.
    """

    kind = "modelled"

    def __init__(self, target: Target) -> None:
        self.options = CompileOptions(target, verify="off")
        self._known: dict[str, Known] = {}

    def seconds(self, module: Module, beside: int = 0) -> float | None:
        """The sum over the kernels that run, in a network with so many bytes more of constants.

        None where there is no native code.
        """
        known = self._of(module)
        size = known.stored_bytes + known.arena_bytes + beside
        if known.seconds is None or size > self.options.target.l2_bytes // 2:
            return known.seconds
        return known.seconds - known.arrival

    def times(self, before: Module, after: Module, beside: int = 0) -> tuple[float | None, float | None]:
        """The seconds of both."""
        return self.seconds(before, beside), self.seconds(after, beside)

    def stored_bytes(self, module: Module) -> int:
        """Bytes of the constants as the kernels want them stored; as they are where there are none."""
        return self._of(module).stored_bytes

    def _of(self, module: Module) -> Known:
        key = block_hash(module.main.block)
        if key not in self._known:
            self._known[key] = self._found(module)
        return self._known[key]

    def _found(self, module: Module) -> Known:
        try:
            plan = Compilation(self.options).plans(module)[self.options.target.isa]
        except AinoError:
            handles = {op.value.key: op.value for op in module.walk() if op.name == "core.constant"}  # type: ignore[attr-defined]
            return Known(None, sum(h.nbytes for h in handles.values()))
        found = [plan.kernels[step.kernel].candidate for step in runs(plan)]
        arena = plan.arena_bytes if isinstance(plan.arena_bytes, int) else 0
        seconds, arrival = sum(c.cost for c in found), sum(c.arrival for c in found)
        return Known(seconds, plan_bytes(plan), arena, arrival)


class MeasuredCosts(ModelledCosts):
    """Seconds that a clock shows: both modules are compiled and run by turns in this process.

    A module that this machine cannot run has no time.

    Args:
        target: what kernels are for.
        turns: see `TURNS`.
    """

    kind = "measured"

    def __init__(self, target: Target, turns: int = TURNS) -> None:
        super().__init__(target)
        self.turns = turns
        self._pairs: dict[tuple[str, str], tuple[float | None, float | None]] = {}
        self.measured = 0

    def seconds(self, module: Module, beside: int = 0) -> float | None:
        """Those of a module beside itself."""
        return self.times(module, module)[0]

    def times(self, before: Module, after: Module, beside: int = 0) -> tuple[float | None, float | None]:
        """The medians of both over the same turns; equal pairs once."""
        key = block_hash(before.main.block), block_hash(after.main.block)
        if key not in self._pairs:
            self._pairs[key] = self._measured(before, after)
        return self._pairs[key]

    def _measured(self, before: Module, after: Module) -> tuple[float | None, float | None]:
        from aino_ir.driver.api import compile

        if detect_host().obstacle(self.options.target, self.options.target.isa):
            return None, None
        try:
            exes = [compile(m, self.options.target, verify="off") for m in (before, after)]
            inputs = [tuple(made_up(m.main).values()) for m in (before, after)]
        except AinoError:
            return None, None
        self.measured += 1
        return interleaved(exes, inputs, self.turns)


def interleaved(exes: list[Any], inputs: list[tuple[Any, ...]], turns: int = TURNS) -> tuple[float, float]:
    """Median seconds of one run of two executables that take turns."""
    repeats = []
    for exe, given in zip(exes, inputs, strict=True):
        exe.run(*given)
        start = time.perf_counter()
        exe.run(*given)
        repeats.append(max(1, int(TURN_SECONDS / max(1e-7, time.perf_counter() - start))))
    spent: list[list[float]] = [[], []]
    deadline = time.perf_counter() + MOST_SECONDS
    for turn in range(turns):
        for exe, given, count, times in zip(exes, inputs, repeats, spent, strict=True):
            start = time.perf_counter()
            for _ in range(count):
                exe.run(*given)
            times.append((time.perf_counter() - start) / count)
        if turn + 1 >= LEAST_TURNS and time.perf_counter() > deadline:
            break
    return statistics.median(spent[0]), statistics.median(spent[1])


def plan_bytes(plan: Plan) -> int:
    """Bytes of a plan's constants, packed as its kernels want them."""
    total = 0
    for buffer in used_constants(plan):
        assert isinstance(buffer.bytes, int), "constants have static sizes"
        total += buffer.bytes
    return total


def costs_for(guard: bool | str, target: Target) -> KernelCosts | None:
    """What a guard compares times with; None without one.

    Raises:
        UnknownOption: `guard` is neither true, false nor a kind of times.
    """
    if guard is False:
        return None
    if guard is True or guard == "modelled":
        return ModelledCosts(target)
    if guard == "measured":
        return MeasuredCosts(target)
    raise UnknownOption(option="guard", choices=GUARDS, got=guard)
