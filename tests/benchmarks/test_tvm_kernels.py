"""Kernels of a network on TVM beside those of the target `c`."""

from __future__ import annotations

from aino_ir.runtime.profile import ProfileRow
from benchmarks.tvm_kernels import beside, calls_by_kernel, table


def called(kernel: str, step: int, ms: float, gflops: float, *nodes: str) -> ProfileRow:
    """A call of a kernel."""
    return ProfileRow(step, kernel, "matmul", nodes, 0.0, ms, 0.0, gflops, 1.0)


def test_kernels_stand_beside_those_of_the_same_nodes() -> None:
    ours = calls_by_kernel(
        [
            called("product", 0, 2.0, 10.0, "a", "b"),
            called("product", 1, 4.0, 40.0, "c"),
            called("norm", 2, 1.0, 1.0, "d"),
        ],
        {0: "blocks: tile 4x24", 1: "blocks: tile 4x24"},
    )
    assert ours["product"].count == 2 and ours["product"].ms == 6.0 and ours["product"].gflops == 30.0
    other = calls_by_kernel(
        [
            called("first", 0, 1.0, 20.0, "a"),
            called("second", 1, 2.0, 80.0, "b", "c"),
            called("e", 2, 9, 9, "e"),
        ],
        {0: "contract: x", 1: "contract: y"},
    )
    twins = beside(ours, other)
    assert set(twins) == {"product"} and twins["product"].ms == 3.0 and twins["product"].gflops == 60.0
    assert twins["product"].made == "contract: x; contract: y"
    lines = table(ours, other).splitlines()
    assert lines[2].split()[:8] == ["product", "2", "6.000", "85.7", "30.0", "3.000", "60.0", "2.00"]
    assert lines[3].split() == ["norm", "1", "1.000", "14.3", "1.0"]
    assert lines[-1] == "7.00 ms in kernels, 12.00 on c"
