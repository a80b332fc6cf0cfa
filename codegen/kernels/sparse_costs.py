"""What products with a sparse weight cost, in cycles of one core: what their ways have in common."""

from __future__ import annotations

from aino_ir.codegen.kernels.contract import CLOCK
from aino_ir.codegen.kernels.sparse_roles import SparseProduct
from aino_ir.codegen.kernels.streams import Places, Stream, StreamPositions, StreamValues
from aino_ir.kernels import Candidate, Packing
from aino_ir.target import Target
from aino_ir.types import ROW_MAJOR

TURN_CYCLES = 0.45
"""Cycles an element for turning a block over in registers, loads and stores included."""

COPY_CYCLES = 0.15
"""Cycles an element for copying it in order."""

STREAM_BYTES = 6.0
"""Bytes of a stream that arrive in a cycle when it does not fit the second cache."""

NEAR_BYTES = 20.0
"""Bytes of a block of rows that arrive in a cycle from the second cache, where the first is too small."""

NONZERO_CYCLES, VECTOR_CYCLES = 1.0, 0.7
"""Of a nonzero with lanes along rows, and of each of its vectors: a multiply-add that loads."""

NEAR_SHARE = 1.5
"""Of the first cache, what a chunk of inputs takes; half as many chunks save more than misses cost."""

SPAN_CYCLES = 8.0
"""Cycles of the nonzeros of an output beside themselves: the end of a loop of unforeseen length."""

MARGIN = 1.2
"""By how much streams must beat dense loops in the model, whose costs of dense loops are surer."""

UNITS_WANTED = 8
"""Parallel parts that a kernel should have, where splitting costs little."""


def candidate(
    roles: SparseProduct,
    stream: Stream,
    name: str,
    cycles: float,
    params: dict[str, object],
    places: Places | None = None,
) -> Candidate:
    """One way, of so many cycles; `places` says what stands for an input in the stream, if not its number."""
    return Candidate(
        "sparse",
        name,
        tuple(params.items()),
        ((roles.weight, Packing(ROW_MAJOR, StreamValues(stream))),),
        ((roles.weight, Packing(ROW_MAJOR, StreamPositions(stream, places))),),
        cost=MARGIN * cycles / CLOCK,
    )


def arrival(stream: Stream, element: int, target: Target) -> float:
    """Cycles for reading a stream once, beyond what the second cache gives on the way."""
    size = stream.count * (stream.width * element + 4)
    return size / STREAM_BYTES if size > target.l2_bytes // 2 else 0.0


def parts_for(units: int, most: int) -> int:
    """Into how many parts the outputs are cut, so that there are enough units."""
    return max(1, min(most, -(-UNITS_WANTED // max(1, units))))


def lane_cycles(roles: SparseProduct, stream: Stream, vectors: int, held: int, target: Target) -> float:
    """Cycles of the nonzeros of a block of some vectors, of whose inputs `held` bytes are in turn read.

    Ends of outputs and sums that wait between chunks count, staging and writing do not.
    """
    lanes_bytes = target.vector_bytes
    missed = max(0.0, 1.0 - 0.75 * target.l1_bytes / max(1, held))
    step = max(NONZERO_CYCLES + VECTOR_CYCLES * vectors, missed * vectors * lanes_bytes / NEAR_BYTES)
    far = 2.0 if held > target.l2_bytes // 2 else 1.0
    ends = stream.chunks * stream.outputs * SPAN_CYCLES
    if stream.chunks > 1:
        ends += (stream.chunks + 1) * stream.outputs * 2 * vectors
    return stream.count * step * far + ends + arrival(stream, roles.element, target)
