"""What lowering notes of the kernels of a division, so that they can be run together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from aino_ir.kernels import Division, Kernel, Link, Part
from aino_ir.types import TensorType


@dataclass
class Links:
    """The kernels so far, and what the keys of the present division stand for.

    Attributes:
        made: the kernels.
        temporaries: of all divisions, under names of their own.
        reads, writes: key of the present division -> key of the outermost one; others stand for themselves.
    """

    made: list[Link] = field(default_factory=list)
    temporaries: dict[str, TensorType] = field(default_factory=dict)
    reads: Mapping[int | str, int | str] = field(default_factory=dict)
    writes: Mapping[int | str, int | str] = field(default_factory=dict)

    def within(self, division: Division) -> Links:
        """The same with the temporaries of a division."""
        own: dict[int | str, int | str] = {}
        for name, type_ in division.temporaries:
            own[name] = str(len(self.temporaries))
            self.temporaries[str(own[name])] = type_
        return Links(self.made, self.temporaries, {**self.reads, **own}, {**self.writes, **own})

    def of_part(self, part: Part) -> Links:
        """The same for the division of a part."""
        reads: dict[int | str, int | str] = {n: self.reads.get(k, k) for n, k in enumerate(part.reads)}
        writes: dict[int | str, int | str] = {n: self.writes.get(k, k) for n, k in enumerate(part.writes)}
        return Links(self.made, self.temporaries, reads, writes)

    def note(self, kernel: Kernel, part: Part) -> None:
        """The kernel of a part."""
        reads = tuple(self.reads.get(k, k) for k in part.reads)
        self.made.append(Link(kernel, reads, tuple(self.writes.get(k, k) for k in part.writes)))
