"""A trace in TVM's words: calls of ``tvm.s_tir.Schedule``, as a Python function."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from aino_ir.codegen.schedule.trace import Annotate, Bind, Cache, Fuse, Reorder, Schedule, Split
from aino_ir.codegen.tvm.text import PythonNames
from aino_ir.codegen.tvm.tiling import Tile
from aino_ir.compute import Compute
from aino_ir.errors.printing import NoSpelling


@dataclass(frozen=True)
class BlockNames:
    """A function's blocks: the sum ("" for none), what comes of it, copies with a margin, parts of that."""

    total: str
    result: str
    margins: Sequence[MarginLoops] = ()
    parts: Sequence[str] = ()


@dataclass(frozen=True)
class MarginLoops:
    """How the copy of an operand with a margin is made.

    Attributes:
        block: its name.
        rank: how many loops it has.
        lanes: lanes of the innermost one's vectors; 1 where it is tested element by element.
    """

    block: str
    rank: int
    lanes: int


class ScheduleText:
    """Writes the function that transforms one kernel.

    Args:
        schedule: the trace.
        tile: what it makes of the results' axes.
        loops: names of the loops at first, by axis.
        blocks: names of the blocks.
    """

    def __init__(self, schedule: Schedule, tile: Tile, loops: Mapping[str, str], blocks: BlockNames) -> None:
        assert isinstance(schedule.program, Compute)
        self.schedule = schedule
        self.program = schedule.program
        self.tile = tile
        self.blocks = blocks
        self.names = PythonNames(("s",))
        self.loops = {axis: self.names.fresh(loop) for axis, loop in loops.items()}
        self.lines: list[str] = []

    def text(self, kernel: str) -> str:
        """The function for a kernel."""
        for margin in self.blocks.margins:
            self._margin(margin)
        self._steps()
        if self.blocks.total:
            self._around_sum()
        return "\n".join([f"def schedule_{kernel}(s):", *(f"    {line}" for line in self.lines)]) + "\n"

    def _block(self, name: str) -> str:
        variable = self.names.fresh(f"{name}_block")
        self.lines.append(f'{variable} = s.get_sblock("{name}")')
        return variable

    def _margin(self, margin: MarginLoops) -> None:
        """Vectors along the last axis, the others over threads."""
        block = self._block(margin.block)
        loops = [self.names.fresh(f"{margin.block}{n}") for n in range(margin.rank)]
        self.lines.append(f"{', '.join(loops)}{',' if len(loops) == 1 else ''} = s.get_loops({block})")
        outer = loops[:-1]
        if margin.lanes > 1:
            last, lane = self.names.fresh(f"{loops[-1]}_o"), self.names.fresh(f"{loops[-1]}_i")
            self.lines += [
                f"{last}, {lane} = s.split({loops[-1]}, [None, {margin.lanes}])",
                f"s.vectorize({lane})",
            ]
        if outer:
            self.lines.append(f"s.parallel(s.fuse({', '.join(outer)}))")

    def _steps(self) -> None:
        """The trace, on the block that everything is computed in."""
        block = self._block(self.blocks.total or self.blocks.result)
        axes = [self.loops[a.name] for a in (*self.program.axes, *self.program.reduce)]
        if axes:
            self.lines.append(f"{', '.join(axes)}{',' if len(axes) == 1 else ''} = s.get_loops({block})")
        for step in self.schedule.steps:
            match step:
                case Split(axis=axis, factor=factor, outer=outer, inner=inner):
                    made = f"{self._named(outer)}, {self._named(inner)}"
                    self.lines.append(f"{made} = s.split({self.loops[axis]}, [None, {factor}])")
                case Fuse(first=first, second=second, fused=fused):
                    line = f"s.fuse({self.loops[first]}, {self.loops[second]})"
                    self.lines.append(f"{self._named(fused)} = {line}")
                case Reorder(axes=names):
                    self.lines.append(f"s.reorder({', '.join(self.loops[n] for n in names)})")
                case Annotate(axis=axis, mark=mark):
                    self.lines.append(f"s.{mark.value}({self.loops[axis]})")
                case Bind(axis=axis, thread=thread):
                    self.lines.append(f's.bind({self.loops[axis]}, "{thread}")')
                case Cache():
                    raise NoSpelling(operation="a cached operand", type="schedule", target="TVM")

    def _named(self, axis: str) -> str:
        self.loops[axis] = self.names.fresh(axis)
        return self.loops[axis]

    def _around_sum(self) -> None:
        """What is done with the sum follows it tile by tile; the sum starts before its outermost loop."""
        axes = self.schedule.axes
        first = next(i for i, a in enumerate(axes) if a.reduces)
        total = next(line.split(" = ")[0] for line in self.lines if f'"{self.blocks.total}"' in line)
        if first:
            around = self.loops[axes[first - 1].name]
            parts = [self._block(name) for name in self.blocks.parts]
            result = self._block(self.blocks.result)
            self.lines += [f"s.reverse_compute_at({block}, {around})" for block in (*parts, result)]
            self._tile_loops(result, first, parts)
        self.lines.append(f"s.decompose_reduction({total}, {self.loops[axes[first].name]})")

    def _tile_loops(self, result: str, outside: int, parts: Sequence[str]) -> None:
        """The loops that are left inside: rows and vectors, as in the sum, and parts at each vector."""
        tile = self.tile
        inside = [
            a
            for a in self.program.axes
            if (a is tile.row and tile.rows > 1) or (a is tile.lane and tile.width > 1)
        ]
        if not inside:
            return
        loops = [self.names.fresh(f"{a.name.removesuffix('.')}_tile") for a in inside]
        self.lines.append(
            f"{', '.join(loops)}{',' if len(loops) == 1 else ''} = s.get_loops({result})[{outside}:]"
        )
        by_axis = dict(zip((a.name for a in inside), loops, strict=True))
        row = by_axis.get(tile.row.name) if tile.row is not None else None
        lane = by_axis.get(tile.lane.name) if tile.lane is not None else None
        vector = None
        if lane is not None and tile.vectors > 1:
            vector, inner = self.names.fresh("vector"), self.names.fresh("lanes")
            self.lines.append(f"{vector}, {inner} = s.split({lane}, [None, {tile.lanes}])")
            lane = inner
        order = [name for name in (row, vector, lane) if name is not None]
        if row is not None and lane is not None and loops[-1] == row:
            self.lines.append(f"s.reorder({', '.join(order)})")
        place = vector or row
        for part in reversed(parts):  # what a part is needed for moves first
            if place is not None:  # else it is where it is needed already
                self.lines.append(f"s.compute_at({part}, {place})")
            if lane is not None:
                self.lines.append(f"s.vectorize(s.get_loops({part})[-1])")
        for name in (row, vector):
            if name is not None:
                self.lines.append(f"s.unroll({name})")
        if lane is not None:
            self.lines.append(f"s.vectorize({lane})")


def schedule_text(
    kernel: str, schedule: Schedule, tile: Tile, loops: Mapping[str, str], blocks: BlockNames
) -> str:
    """The function that transforms a kernel by a trace."""
    return ScheduleText(schedule, tile, loops, blocks).text(kernel)
