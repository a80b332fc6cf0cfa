"""Schedules for threads of a GPU: what a block of threads does, and what it shares.

A product gets tiles: a block of threads has `SIDE` along the rows and along the lanes, and each thread does
`PER_THREAD` of both in registers; what the block reads is copied to shared memory for `DEPTH` terms at a
time, all threads helping.  Anything else gets a thread for each result.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from aino_ir.codegen.kernels.roles import Roles
from aino_ir.codegen.schedule.trace import Schedule
from aino_ir.codegen.tvm.schedule_text import BlockNames
from aino_ir.codegen.tvm.text import PythonNames
from aino_ir.codegen.tvm.tiling import Tile
from aino_ir.compute import Compute
from aino_ir.loops.expr import Read

THREADS = 256
"""Threads of a block where each does a result of its own."""

SIDE, PER_THREAD, DEPTH = 16, 4, 8
"""Threads along each side of a tile, results of a thread along each, and terms that are shared at a time."""


def gpu_schedule_text(
    kernel: str,
    schedule: Schedule,
    tile: Tile,
    loops: Mapping[str, str],
    blocks: BlockNames,
    roles: Roles | None = None,
) -> str:
    """The function that binds a kernel's loops to threads.

    Args:
        kernel: its name.
        schedule: of its program, without steps.
        tile: unused: tiles are the same for all.
        loops, blocks: names of loops by axis, and of blocks.
        roles: of the axes of a sum of products, where it is one.
    """
    program = schedule.program
    assert isinstance(program, Compute)
    return _Writer(kernel, program, loops, blocks).text(roles)


class _Writer:
    """Writes one function; `lines` is the result so far."""

    def __init__(self, kernel: str, program: Compute, loops: Mapping[str, str], blocks: BlockNames) -> None:
        self.kernel = kernel
        self.program = program
        self.blocks = blocks
        self.names = PythonNames(("s",))
        self.loops = {axis: self.names.fresh(loop) for axis, loop in loops.items()}
        self.lines: list[str] = []

    def text(self, roles: Roles | None) -> str:
        """All of it."""
        for margin in self.blocks.margins:  # threads test edges as they read
            self.lines.append(f's.compute_inline(s.get_sblock("{margin.block}"))')
        if roles is not None and roles.row is not None and self.blocks.total:
            self._tiles(roles)
        else:
            self._one_each()
        return "\n".join([f"def schedule_{self.kernel}(s):", *(f"    {line}" for line in self.lines)]) + "\n"

    def _get_loops(self, block: str) -> None:
        summed = self.program.reduce if self.blocks.total else ()
        names = [self.loops[a.name] for a in (*self.program.axes, *summed)]
        self.lines.append(f"{', '.join(names)}{',' if len(names) == 1 else ''} = s.get_loops({block})")

    def _block(self, name: str) -> str:
        variable = self.names.fresh(f"{name}_block")
        self.lines.append(f'{variable} = s.get_sblock("{name}")')
        return variable

    def _fused(self, wish: str, loops: Sequence[str]) -> str:
        if len(loops) == 1:
            return loops[0]
        name = self.names.fresh(wish)
        self.lines.append(f"{name} = s.fuse({', '.join(loops)})")
        return name

    def _split(self, loop: str, *factors: int) -> list[str]:
        parts = [self.names.fresh(f"{loop}_{n}") for n in range(len(factors) + 1)]
        sizes = ", ".join(map(str, factors))
        self.lines.append(f"{', '.join(parts)} = s.split({loop}, [None, {sizes}])")
        return parts

    def _bind(self, loop: str, thread: str) -> None:
        self.lines.append(f's.bind({loop}, "{thread}")')

    def _one_each(self) -> None:
        """A thread for each result, which adds up its terms in a register."""
        block = self._block(self.blocks.total or self.blocks.result)
        if self.blocks.total:
            self.lines.append(f's.set_scope({block}, 0, "local")')
        self._get_loops(block)
        each = self._fused("each", [self.loops[a.name] for a in self.program.axes])
        around, thread = self._split(each, THREADS)
        self._bind(around, "blockIdx.x")
        self._bind(thread, "threadIdx.x")
        if self.blocks.total:
            self._result_at(thread)
            first = self.loops[self.program.reduce[0].name]
            self.lines.append(f"s.decompose_reduction({block}, {first})")

    def _result_at(self, loop: str) -> None:
        """What comes of a sum, and the parts of that, where the sum is."""
        for name in (*self.blocks.parts, self.blocks.result):
            block = self._block(name)
            self.lines.append(f"s.reverse_compute_at({block}, {loop})")
            if name in self.blocks.parts:
                self.lines.append(f's.set_scope({block}, 0, "local")')

    def _tiles(self, roles: Roles) -> None:
        """Tiles of rows and lanes: a block of threads each, its operands in shared memory."""
        assert roles.row is not None
        block = self._block(self.blocks.total)
        self.lines.append(f's.set_scope({block}, 0, "local")')
        self._get_loops(block)
        outer = [self.loops[a.name] for a in self.program.axes if a not in (roles.row, roles.lane)]
        whole = [self._fused("outer", outer)] if outer else []
        rows, row_thread, row = self._split(self.loops[roles.row.name], SIDE, PER_THREAD)
        lanes, lane_thread, lane = self._split(self.loops[roles.lane.name], SIDE, PER_THREAD)
        *slow, last = [self.loops[a.name] for a in roles.reduction]
        terms, term = self._split(last, DEPTH)
        order = [*whole, rows, lanes, row_thread, lane_thread, *slow, terms, term, row, lane]
        self.lines.append(f"s.reorder({', '.join(order)})")
        threads = ["blockIdx.y", "blockIdx.x", "threadIdx.y", "threadIdx.x"]
        for loop, thread in zip((rows, lanes, row_thread, lane_thread), threads, strict=True):
            self._bind(loop, thread)
        for loop in whole:
            self._bind(loop, "blockIdx.z")
        self._result_at(lane_thread)
        depth = len(whole) + 4 + len(slow) + 1
        for number in self._shared(roles):
            self._share(block, number, terms, depth)
        for loop in (row, lane):
            self.lines.append(f"s.unroll({loop})")
        self.lines.append(f"s.decompose_reduction({block}, {[*slow, terms][0]})")

    @staticmethod
    def _shared(roles: Roles) -> range:
        """Which of the buffers that the sum reads go through shared memory: two operands, each read once."""
        reads = [f for f in roles.factors if isinstance(f, Read)]
        return range(2) if len({r.operand for r in reads}) == 2 else range(0)

    def _share(self, block: str, number: int, terms: str, depth: int) -> None:
        """Copy what a step of the block needs of a buffer, each thread a part of it."""
        copy, loops = self.names.fresh("shared"), self.names.fresh("copied")
        self.lines += [
            f'{copy} = s.cache_read({block}, {number}, "shared")',
            f"s.compute_at({copy}, {terms})",
            f"{loops} = s.fuse(*s.get_loops({copy})[{depth}:])",
        ]
        _, row, lane = self._split(loops, SIDE, SIDE)
        self._bind(row, "threadIdx.y")
        self._bind(lane, "threadIdx.x")
