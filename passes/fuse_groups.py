"""Puts ops that can be one kernel into groups: epilogues and prologues of anchors, chains of maps."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass

from aino_ir.builder import Builder
from aino_ir.elementwise import Elementwise
from aino_ir.graph import Block, Function, Value
from aino_ir.kernels import GroupPricer
from aino_ir.op import Op, Trait
from aino_ir.ops.core import Constant, Fused
from aino_ir.passes.base import Pass, PassContext, plain_blocks
from aino_ir.passes.fusion_groups import Classifier, Group, Grower, Limits, external, is_free_view
from aino_ir.rewriter import Rewriter
from aino_ir.structural import block_hash

RULE = "FuseGroup"

TOLERANCE = 1.25
"""A group may cost so many times what its ops cost one by one: models are rough, saved traffic is sure."""


@dataclass(frozen=True)
class FuseGroups(Pass):
    """General fusion of producers and consumers into `core.fused`.

    Every anchor (contraction, reduction, row program, attention) takes the elementwise ops behind it,
    then cheap maps before it; what is left of the maps forms groups of its own.  A group with an anchor
    stays only if the catalogue has a kernel for it that costs no more than its parts; otherwise its
    prologue, then ever more of its epilogue is left out.

    Options:
        max_ops: members of a group.
        max_inputs: tensors that a group reads.
    """

    name = "fuse-groups"
    max_ops: int = 48
    max_inputs: int = 12

    def run_function(self, function: Function, ctx: PassContext) -> None:
        """Group the ops of the function and of its control-flow regions."""
        for block in plain_blocks(function):
            limits = Limits(self.max_ops, self.max_inputs)
            BlockFusion(block, ctx.rewriter(function), ctx.pricer, limits).run()


class BlockFusion:
    """Fusion in one block."""

    def __init__(self, block: Block, rewriter: Rewriter, pricer: GroupPricer | None, limits: Limits) -> None:
        self.block = block
        self.rewriter = rewriter
        self.pricer = pricer
        self.facts = Classifier()
        self.grower = Grower(self.facts, limits)
        self._prices: dict[Hashable, float | str] = {}
        self._judgements: dict[Hashable, str | None] = {}

    def run(self) -> None:
        """Group anchors with what surrounds them, then the maps that are left."""
        ops = [op for op in self.block if not op.has(Trait.TERMINATOR)]
        for op in ops:
            if self.facts.of(op).kind not in ("", "map"):
                self._anchored(op)
        for op in reversed(ops):
            if op.block is not None and self.grower.free(op) and not is_free_view(op):
                self._mapped(op)

    # -- groups with an anchor --------------------------------------------------------------------------

    def _anchored(self, anchor: Op) -> None:
        """The largest group around an anchor that some generator serves well."""
        for group in self._attempts(anchor):
            op = build_fused(self.rewriter, group, self.facts.of(anchor).kind)
            reason = self._too_dear(op, group)
            if reason is not None:
                assert group.root is not None
                self.rewriter.refuse(RULE, group.root, reason)
                continue
            self.grower.take(group)
            self._replace(op, group)
            return

    def _attempts(self, anchor: Op) -> Iterator[Group]:
        """Groups to try, the largest first."""
        behind = self.grower.epilogue(anchor)
        whole = behind[-1] if behind else []
        with_prologue = self._group(anchor, whole)
        before = (
            self.grower.absorb(with_prologue, [anchor], light=self._light(anchor))
            if self._wants_prologue(anchor)
            else self._decoders(anchor)
        )
        if self.facts.of(anchor).kind == "row" and self._reads_indirectly([anchor, *before]):
            before = []
        if before:
            extended = self._group(anchor, [*before, *whole])
            if self.grower.fits(extended):
                yield extended
        for epilogue in reversed(behind):
            group = self._group(anchor, epilogue)
            if self.grower.fits(group):
                yield group

    def _reads_indirectly(self, ops: list[Op]) -> bool:
        """Whether maps that look data up would stand before a row program, which then has no vectors."""
        return any(
            v.op is not None and self.grower.free(v.op) and self.facts.of(v.op).indirect and v.use_count == 1
            for op in ops
            for v in op.present_operands()
        )

    def _group(self, anchor: Op, others: list[Op]) -> Group:
        group = Group(anchor, dict.fromkeys([anchor, *others]))
        group.root = group.ordered()[-1]
        return group

    def _wants_prologue(self, anchor: Op) -> bool:
        """Contractions read each element many times: what comes before them is better computed once."""
        return self.facts.of(anchor).kind in ("reduce", "row")

    def _decoders(self, anchor: Op) -> list[Op]:
        """What expands constants of few bits for a contraction alone: kernels decode weights as they read."""
        makers = (v.op for v in anchor.present_operands() if v.use_count == 1)
        return [
            op
            for op in dict.fromkeys(makers)
            if op is not None
            and op.has(Trait.DECODES)
            and self.grower.free(op)
            and all(v.op is not None and isinstance(v.op, Constant) for v in op.present_operands())
        ]

    def _light(self, anchor: Op) -> bool:
        """Whether elements are read several times, so that only cheap maps may be computed on the way."""
        return not anchor.name.startswith("reduce.")

    # -- groups of maps -----------------------------------------------------------------------------------

    def _mapped(self, root: Op) -> None:
        group = Group(None, {root: None}, root)
        added = self.grower.absorb(group, [root], light=False)
        if not added:
            return
        group.members.update(dict.fromkeys(added))
        op = build_fused(self.rewriter, group, "map")
        self.grower.take(group)
        self._replace(op, group)

    # -- judging and replacing ----------------------------------------------------------------------------

    def _too_dear(self, op: Op, group: Group) -> str | None:
        """Why a group should not be one kernel, or None; groups that look alike are judged once."""
        if self.pricer is None:
            return None
        look = self._look(group)
        if look not in self._judgements:
            self._judgements[look] = self._judged(op, group)
        return self._judgements[look]

    def _look(self, group: Group) -> Hashable:
        """What acceptance depends on: anchor, movements, how maps are broadcast; not what they compute."""
        anchor = group.anchor
        assert anchor is not None
        looks: dict[Hashable, None] = {}
        for op in group.ordered():
            if op is anchor:
                looks[_price_key(op)] = None
                continue
            behind = op._position > anchor._position
            shapes = tuple(v.shape == op.result.shape for v in op.present_operands())
            if isinstance(op, Elementwise):
                facts = self.facts.of(op)
                looks[behind, facts.heavy, shapes, op.result.type] = None
            else:
                looks[behind, op.name, op.attributes_key(), op.result.type] = None
        return frozenset(looks)

    def _judged(self, op: Op, group: Group) -> str | None:
        assert self.pricer is not None
        whole = self._price(op)
        if isinstance(whole, str):
            return whole
        parts = [self._price(o) for o in group.ordered() if not is_free_view(o)]
        apart = sum(p for p in parts if isinstance(p, float))
        if whole > TOLERANCE * apart:
            return f"as one kernel it costs {whole * 1e6:.1f} us, apart {apart * 1e6:.1f} us"
        return None

    def _price(self, op: Op) -> float | str:
        assert self.pricer is not None
        key = _price_key(op)
        if key not in self._prices:
            self._prices[key] = self.pricer.price(op)
        return self._prices[key]

    def _replace(self, fused: Op, group: Group) -> None:
        assert group.root is not None
        self.rewriter.replace(group.root, list(fused.results), RULE, reversed(group.ordered()))


def _price_key(op: Op) -> Hashable:
    regions = tuple(block_hash(r) for r in op.regions)
    operands = tuple(
        (v.type, v.op is not None and v.op.name == "core.constant") for v in op.present_operands()
    )
    return (op.name, op.attributes_key(), regions, operands, tuple(r.type for r in op.results))


def build_fused(rewriter: Rewriter, group: Group, kind: str) -> Op:
    """The `core.fused` op of a group, standing before its root, not yet in anyone's place."""
    ops = group.ordered()
    assert group.root is not None
    inputs = external(ops)
    builder = rewriter.builder(group.root)

    def body(b: Builder, *arguments: Value) -> list[Value]:
        values = dict(zip(inputs, arguments, strict=True))
        for op in ops:
            b.loc = op.loc
            operands = [None if v is None else values[v] for v in op.operands]
            layouts = [r.type.layout for r in op.results]  # type: ignore[union-attr]
            copy = b.op(
                type(op), *operands, layouts=layouts, names=[r.name for r in op.results], **op.attrs()
            )
            values.update(zip(op.results, copy.results, strict=True))
        return [values[r] for r in group.root.results]  # type: ignore[union-attr]

    region = builder.region([v.type for v in inputs], body)
    anchor = ops.index(group.anchor) if group.anchor is not None else 0
    return builder.op(Fused, *inputs, regions=[region], kind=kind, anchor=anchor)
