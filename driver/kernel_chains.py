"""Kernels that do an op together, run one after the other on made-up operands of the op."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from aino_ir.driver.kernel_trials import (
    PATTERN,
    WORK_LIMIT,
    Array,
    Buffer,
    Trial,
    number_of,
    places_of,
    spans_of,
    trials,
)
from aino_ir.dtypes import u8
from aino_ir.kernels import Chain, Kernel, Link, Operand
from aino_ir.loops.stmt import Param


@dataclass
class ChainTrial(Trial):
    """Several kernels on one set of operands.

    Attributes:
        runs: each kernel, its place in the library's table, and the numbers of its buffers.
    """

    runs: list[tuple[Kernel, int, list[int]]] = field(default_factory=list)

    @property
    def suspects(self) -> list[str]:
        """All of them: which one is wrong, nobody knows."""
        return [k.function.name for k, _, _ in self.runs]

    @property
    def scratch_bytes(self) -> int:
        """What the kernel that takes most takes for one thread."""
        return max(number_of(k.function.scratch_bytes, self.bindings) for k, _, _ in self.runs)

    def calls(self) -> list[dict[str, Any]]:
        """A call for each kernel."""
        out = []
        for kernel, number, buffers in self.runs:
            fn = kernel.function
            views = [self.buffers[n].offset for n in buffers] + ([self.status] if fn.can_fail else [])
            out.append(
                {
                    "number": number,
                    "views": views,
                    "symbols": [self.bindings[name] for name in fn.symbols],
                    "scratch": self.scratch,
                    "spans": spans_of(number_of(fn.units, self.bindings)),
                }
            )
        return out


def chain_trials(chain: Chain, numbers: Mapping[str, int], work_limit: float = WORK_LIMIT) -> Iterator[Trial]:
    """The trials of a chain, whose kernels have these places in the library's table.

    Raises:
        Unrunnable: none can be made, with the reason.
    """
    whole = _as_one(chain)

    def instead(arrays: Sequence[Array], trial: Trial) -> Trial:
        layout = _Layout(chain, arrays, trial.bindings)
        runs = [(link.kernel, numbers[link.kernel.function.name], layout.views(link)) for link in chain.links]
        params = tuple(Param(name, u8, 0) for name in layout.names)
        named = replace(whole, function=replace(whole.function, params=params))
        fields = {name: getattr(trial, name) for name in ("number", "kind", "bindings", "native", "wide")}
        return ChainTrial(
            kernel=named, buffers=layout.buffers, sure=trial.sure, terms=trial.terms, runs=runs, **fields
        )

    yield from trials(whole, -1, work_limit, instead)


def _as_one(chain: Chain) -> Kernel:
    """A kernel that stands for all: named as the last one, as inexact as the most inexact one."""
    kernels = [link.kernel for link in chain.links]
    candidate = kernels[-1].candidate
    inexact = [k.candidate for k in kernels if k.candidate.error_class == "approximate"]
    precisions = [k.candidate.precision for k in kernels if k.candidate.precision is not None]
    candidate = replace(
        candidate,
        error_class="approximate" if inexact else candidate.error_class,
        precision=min(precisions, key=lambda d: d.bits, default=None),
    )
    symbols = tuple(dict.fromkeys(name for k in kernels for name in k.function.symbols))
    function = replace(kernels[-1].function, symbols=symbols)
    return Kernel(chain.spec, candidate, function, origin=chain.origin)


class _Layout:
    """Buffers of a chain: operands, results that are not among these, temporaries, packed constants.

    The first two are as for a single kernel, so that results are found and judged alike.
    """

    def __init__(self, chain: Chain, arrays: Sequence[Array], bindings: dict[str, int]) -> None:
        self.chain = chain
        self.arrays = arrays
        self.bindings = bindings
        self.buffers: list[Buffer] = []
        self.names: list[str] = []
        self.readable: dict[int | str, int] = {}
        self.writable: dict[int | str, int] = {}
        in_place = {r.aliases for r in chain.spec.results}
        for n, (operand, array) in enumerate(zip(chain.spec.operands, arrays, strict=True)):
            flat = self._empty(operand)
            flat[places_of(operand, bindings)] = array
            self.readable[n] = self._add(operand.name, flat, n in in_place)
        for n, result in enumerate(chain.spec.results):
            at = result.aliases
            self.writable[n] = self._add(result.name, self._empty(result), True) if at is None else at
        for name, type_ in chain.temporaries.items():
            own = Operand(f"temporary {name}", type_.dtype, type_.shape, type_.layout)
            self.readable[name] = self.writable[name] = self._add(own.name, self._empty(own), True)

    def _empty(self, operand: Operand) -> Array:
        size = number_of(operand.bound, self.bindings)
        return np.full(size * operand.dtype.bytes, PATTERN, np.uint8).view(operand.dtype.numpy)

    def _add(self, name: str, flat: Array, written: bool) -> int:
        self.buffers.append(Buffer(flat.view(np.uint8), written))
        self.names.append(name)
        return len(self.buffers) - 1

    def views(self, link: Link) -> list[int]:
        """The buffers of a kernel, in the order of its parameters."""
        spec, candidate = link.kernel.spec, link.kernel.candidate
        packings = dict(candidate.packings)
        out = []
        for n, key in enumerate(link.reads):
            if n in packings and isinstance(key, int):
                out.append(self._packed(spec.operands[n].name, key, packings[n]))
            else:
                out.append(self.readable[key])
        results = zip(link.writes, spec.results, strict=True)
        out += [self.writable[key] for key, result in results if result.aliases is None]
        for n, packing in candidate.companions:
            out.append(self._packed(spec.operands[n].name, link.reads[n], packing))
        return out

    def _packed(self, name: str, key: int | str, packing: Any) -> int:
        assert isinstance(key, int)
        return self._add(f"{name} packed", np.ascontiguousarray(packing.pack(self.arrays[key])), False)
