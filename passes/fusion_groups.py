"""How groups for one kernel grow: epilogues behind an anchor, prologues before it, chains of maps.

A group has at most one anchor (an op that reduces) and one value that leaves it.  Behind the anchor
every op must work on the very element that the anchor makes, up to reshapes and transposes; before
it, and in groups without an anchor, maps may read at any coordinates.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from aino_ir.compute import Compute, RowProgram
from aino_ir.elementwise import Elementwise
from aino_ir.graph import Value
from aino_ir.kernels import Attention
from aino_ir.loops.expr import Binary, Call, Expr, Read
from aino_ir.loops.expr_tree import walk
from aino_ir.op import Op, Trait
from aino_ir.ops.core import Constant, Dims, Fused, Relayout
from aino_ir.ops.reduce import Reduction
from aino_ir.ops.tensor import Concat, Reshape, Slice, Transpose

MOVES_BEHIND = (Reshape, Transpose, Relayout)
"""Movements that may stand behind an anchor: they only change where results go."""


@dataclass(frozen=True)
class Limits:
    """How large groups may get.

    Attributes:
        ops: members of a group.
        inputs: tensors that its kernel reads.
        nodes: expression nodes that an element takes, shared ones counted each time.
    """

    ops: int = 48
    inputs: int = 12
    nodes: int = 400


@dataclass(frozen=True)
class Facts:
    """What fusion needs to know about an op.

    Attributes:
        kind: "map", "contract", "reduce", "row", "attention", or "" for what stays alone.
        heavy: whether an element costs a call of a mathematical function.
        indirect: whether data decides where it reads.
        nodes: expression nodes of an element.
    """

    kind: str
    heavy: bool = False
    indirect: bool = False
    nodes: int = 0


class Classifier:
    """Facts about ops, remembered."""

    def __init__(self) -> None:
        self._known: dict[Op, Facts] = {}
        self._elementwise: dict[object, Facts] = {}

    def of(self, op: Op) -> Facts:
        """Facts about an op."""
        known = self._known.get(op)
        if known is None:
            known = self._known[op] = self._classified(op)
        return known

    def _classified(self, op: Op) -> Facts:
        if isinstance(op, Elementwise):
            dtypes = tuple(v.dtype for v in op.present_operands())
            key = (type(op), dtypes, op.attributes_key())
            if key not in self._elementwise:
                self._elementwise[key] = map_facts(op.scalar())
            return self._elementwise[key]
        excluded = isinstance(op, (Constant, Dims, Fused, Concat)) or op.regions or len(op.results) != 1
        if excluded or any(
            op.has(t) for t in (Trait.TERMINATOR, Trait.HOST, Trait.DATA_DEPENDENT, Trait.RANDOM)
        ):
            return Facts("")
        definition = op.define()
        if isinstance(definition, Compute):
            if not definition.reduce:
                return map_facts(definition.result_expr)
            product = isinstance(definition.body, Binary) and definition.body.op == "mul"
            return Facts("contract" if product and definition.combiner == "add" else "reduce")
        if isinstance(definition, RowProgram):
            return Facts("row")
        return Facts("attention" if isinstance(definition, Attention) else "")


def map_facts(expr: Expr) -> Facts:
    """Facts about a map from the expression of an element."""
    nodes = list(walk(expr))
    heavy = any(isinstance(n, Call) for n in nodes)
    indirect = any(isinstance(n, Read) and any(isinstance(c, Expr) for c in n.index) for n in nodes)
    return Facts("map", heavy, indirect, len(nodes))


@dataclass
class Group:
    """Ops that become one kernel.

    Attributes:
        anchor: the op that reduces, or None.
        members: ops in program order, once sorted.
        root: the op whose result leaves the group.
    """

    anchor: Op | None
    members: dict[Op, None] = field(default_factory=dict)
    root: Op | None = None
    nodes: dict[Op, int] = field(default_factory=dict)

    def ordered(self) -> list[Op]:
        """Members in program order."""
        return sorted(self.members, key=lambda o: o._position)

    def inputs(self) -> list[Value]:
        """Values that the members read from outside, in order of first use."""
        return external(self.ordered())


def external(ops: Iterable[Op]) -> list[Value]:
    """Values that ops read and do not make, each once."""
    ops = list(ops)
    made = {r for o in ops for r in o.results}
    return list(dict.fromkeys(v for o in ops for v in o.present_operands() if v not in made))


class Grower:
    """Grows groups over the ops of one block that no other group has."""

    def __init__(self, facts: Classifier, limits: Limits) -> None:
        self.facts = facts
        self.limits = limits
        self.owner: dict[Op, Group] = {}

    def free(self, op: Op | None) -> bool:
        """Whether an op is a map that no group has."""
        return op is not None and op not in self.owner and self.facts.of(op).kind == "map"

    def take(self, group: Group) -> None:
        """Make a group the owner of its members."""
        self.owner.update(dict.fromkeys(group.members, group))

    def fits(self, group: Group) -> bool:
        """Whether a group keeps the limits."""
        return len(group.members) <= self.limits.ops and len(group.inputs()) <= self.limits.inputs

    # -- behind an anchor -----------------------------------------------------------------------------

    def epilogue(self, anchor: Op) -> list[list[Op]]:
        """Ever longer lists of ops behind an anchor after each of which a single value leaves.

        A list ends with an op that computes; behind an attention, whose rows stay contiguous, it may
        end with a transpose.
        """
        last = (Reshape, Relayout) if self.facts.of(anchor).kind == "attention" else MOVES_BEHIND
        places: dict[Value, object] = {anchor.results[0]: ()}
        added: list[Op] = []
        closed: list[list[Op]] = []
        nodes: dict[Value, int] = {anchor.results[0]: 1}
        while len(added) < self.limits.ops:
            following = self._next_user(places, {anchor, *added})
            if following is None or not self._joins(following, places, nodes):
                break
            added.append(following)
            leaving = [v for v in places if any(u is not anchor and u not in added for u in v.users)]
            if leaving == [following.result] and not isinstance(following, last):
                closed.append(list(added))
        return closed

    def _next_user(self, places: dict[Value, object], members: set[Op]) -> Op | None:
        users = [u for v in places for u in v.users if u not in members]
        return min(users, key=lambda o: o._position) if users else None

    def _joins(self, op: Op, places: dict[Value, object], nodes: dict[Value, int]) -> bool:
        """Enter an op behind the anchor if all group values that it reads stand at its own element."""
        if not self.free(op):
            return False
        inner = [v for v in op.present_operands() if v in places]
        if isinstance(op, Elementwise):
            if any(v.shape != op.result.shape or places[v] != places[inner[0]] for v in inner):
                return False
            place = places[inner[0]]
        elif isinstance(op, MOVES_BEHIND):
            place = (*places[inner[0]], (op.name, op.attributes_key()))  # type: ignore[misc]
        else:
            return False
        size = self.facts.of(op).nodes + sum(nodes[v] for v in op.present_operands() if v in nodes)
        if size > self.limits.nodes:
            return False
        places[op.result], nodes[op.result] = place, size
        return True

    # -- before a root ----------------------------------------------------------------------------------

    def absorb(self, group: Group, start: Iterable[Op], light: bool) -> list[Op]:
        """Maps that only members read, from `start` backwards; those that are free views are left out.

        Args:
            light: whether maps with calls of mathematical functions stay outside (they would be
                computed several times).
        """
        added: list[Op] = []
        members = dict(group.members)
        nodes = {o: self.facts.of(o).nodes for o in members}
        work = list(start)
        while work:
            op = work.pop()
            for value in op.present_operands():
                producer = value.op
                if producer is None or producer in members or not self.free(producer):
                    continue
                if any(user not in members for user in value.users) or self._wasteful(producer, op, light):
                    continue
                size = self.facts.of(producer).nodes
                if sum(nodes.values()) + size > self.limits.nodes or len(members) >= self.limits.ops:
                    continue
                members[producer] = None
                if len(external(members)) > self.limits.inputs:
                    del members[producer]
                    continue
                nodes[producer] = size
                added.append(producer)
                work.append(producer)
        return drop_leaf_views(added)

    def _wasteful(self, producer: Op, reader: Op, light: bool) -> bool:
        """Whether computing a producer where it is read costs much more than reading its result."""
        facts = self.facts.of(producer)
        if facts.heavy and (light or not same_size(producer, reader)):
            return True
        if isinstance(producer, Elementwise) and not same_size(producer, reader):
            return facts.nodes > 8
        return False


def same_size(producer: Op, reader: Op) -> bool:
    """Whether a reader reads each element of a producer about once."""
    if isinstance(reader, Reduction):
        return True
    return bool(producer.result.type.size == reader.results[0].type.size)  # type: ignore[union-attr]


def is_free_view(op: Op) -> bool:
    """Whether an op needs no kernel when it stands alone: a reshape, or a window of its operand."""
    return isinstance(op, Reshape) or (isinstance(op, Slice) and all(s == 1 for s in op.steps))


def drop_leaf_views(ops: list[Op]) -> list[Op]:
    """`ops` without views that read from outside: they are free where they stand."""
    kept = dict.fromkeys(ops)
    changed = True
    while changed:
        changed = False
        for op in list(kept):
            if is_free_view(op) and not any(v.op in kept for v in op.present_operands()):
                del kept[op]
                changed = True
    return list(kept)
