"""Which passes run, as data: stages by optimization level, and what a target must be for a stage."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from aino_ir.errors.passes import UnknownLevel
from aino_ir.passes.absorb_pads import AbsorbPads
from aino_ir.passes.absorb_transposes import AbsorbTransposes
from aino_ir.passes.assign_layouts import AssignLayouts
from aino_ir.passes.base import Pass
from aino_ir.passes.canonicalize import Canonicalize
from aino_ir.passes.drop_unused_taps import DropUnusedTaps
from aino_ir.passes.eliminate_common_subexpressions import EliminateCommonSubexpressions
from aino_ir.passes.eliminate_dead_code import EliminateDeadCode
from aino_ir.passes.fold_batch_norm import FoldBatchNorm
from aino_ir.passes.fold_constants import FoldConstants
from aino_ir.passes.fuse_attention import FuseAttention
from aino_ir.passes.fuse_groups import FuseGroups
from aino_ir.passes.fuse_patterns import FusePatterns
from aino_ir.passes.merge_matmuls import MergeMatMuls
from aino_ir.passes.simplify_regions import SimplifyRegions
from aino_ir.passes.simplify_shapes import SimplifyShapes
from aino_ir.passes.split_transposed_convolutions import SplitTransposedConvolutions
from aino_ir.target import Target


@dataclass(frozen=True)
class Stage:
    """Passes that belong together.

    Attributes:
        name: for reports.
        passes: in order.
        level: the least optimization level at which the stage runs.
        wanted: whether a target wants it.
    """

    name: str
    passes: tuple[Pass, ...]
    level: int = 1
    wanted: Callable[[Target], bool] = lambda target: True


FOLD = (
    EliminateDeadCode(),
    SimplifyShapes(),
    FoldConstants(),
    SimplifyRegions(),
    FoldConstants(),
    Canonicalize(),
    EliminateCommonSubexpressions(),
)
"""What makes the graph small; run again after every stage that leaves something to tidy."""

TIDY = (FoldConstants(), SimplifyRegions(), Canonicalize(), EliminateCommonSubexpressions())
"""What a stage may leave to do."""

STAGES: tuple[Stage, ...] = (
    Stage("fold", FOLD, 1),
    Stage(
        "absorb",
        (
            DropUnusedTaps(),
            SplitTransposedConvolutions(),
            AbsorbPads(),
            FoldBatchNorm(),
            FusePatterns(),
            FuseAttention(),
            AbsorbTransposes(),
            MergeMatMuls(),
            *TIDY,
        ),
        2,
    ),
    Stage("place", (AssignLayouts(), Canonicalize()), 2, lambda target: target.name in ("c", "tvm")),
    Stage("group", (FuseGroups(),), 2, lambda target: target.name != "stablehlo"),
)
"""Every stage, in order."""

LEVELS = (0, 1, 2, 3)
"""0 lowers only, 1 folds, 2 runs every pass, 3 measures too."""


def stages(level: int, target: Target | None = None) -> list[Stage]:
    """The stages of a level for a target (None: those for any).

    Raises:
        UnknownLevel: there is no such level.
    """
    if level not in LEVELS:
        raise UnknownLevel(level=level, known=", ".join(map(str, LEVELS)))
    return [s for s in STAGES if s.level <= level and (target is None or s.wanted(target))]


def pipeline(level: int, target: Target | None = None) -> list[Pass]:
    """The passes of a level for a target, in order."""
    return [p for stage in stages(level, target) for p in stage.passes]
