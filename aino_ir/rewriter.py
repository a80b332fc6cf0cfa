"""All mutation of graphs: def-use kept, locations unioned, every change logged.

A rewrite is: build new ops with `rw.builder(before=op)`, then `rw.replace(op, values, rule=...)`.
If the new values do not have the old ones' types, everything built is rolled back and the reason
is recorded.  The log lets the manager cut out what a rewrite touched, before and after.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from aino_ir.builder import Builder
from aino_ir.graph import Block, Function, Value, comes_before, count_uses
from aino_ir.location import UNKNOWN, Loc
from aino_ir.op import Op, Trait
from aino_ir.types import TensorType


@dataclass(frozen=True)
class Rewrite:
    """One logged change.

    Attributes:
        seq: running number.
        rule: what did it.
        matched: ids of ops whose existence or content the rule used.
        removed, added: ids of ops.
        replaced: (old value id, new value id).
        touched: ids of added ops and of users of replaced values (what to verify next).
        loc: union of the places involved.
    """

    seq: int
    rule: str
    matched: tuple[int, ...]
    removed: tuple[int, ...]
    added: tuple[int, ...]
    replaced: tuple[tuple[int, int], ...]
    touched: tuple[int, ...]
    loc: Loc


@dataclass(frozen=True)
class Refusal:
    """A rewrite that did not happen, and why."""

    rule: str
    op_id: int
    reason: str
    loc: Loc


class Fuel:
    """How many more rewrites may happen; None means any number.  Makes bisection exact."""

    def __init__(self, left: int | None = None) -> None:
        self.left = left

    def take(self) -> bool:
        """Use one unit; False when none is left."""
        if self.left is None:
            return True
        if self.left <= 0:
            return False
        self.left -= 1
        return True


class Rewriter:
    """Changes one function.

    Attributes:
        log: changes so far.
        refusals: rewrites that were turned down, with reasons.
        skip: (rule, op id) pairs that must not fire (sites that failed validation).
        last_touched: ops that the last `replace` added, and readers of what it replaced.
    """

    def __init__(
        self, function: Function, fuel: Fuel | None = None, skip: frozenset[tuple[str, int]] = frozenset()
    ) -> None:
        self.function = function
        self.fuel = fuel or Fuel()
        self.skip = skip
        self.log: list[Rewrite] = []
        self.refusals: list[Refusal] = []
        self.last_touched: list[Op] = []
        self._pending: list[Op] = []

    @property
    def changed(self) -> bool:
        """Whether anything was rewritten."""
        return bool(self.log)

    def builder(self, before: Op, loc: Loc | None = None) -> Builder:
        """A builder whose ops belong to the rewrite that `replace` will finish; it records no checks."""
        return Builder(
            self.function,
            before.block,
            before,
            before.loc if loc is None else loc,
            False,
            self._pending.append,
        )

    def block_builder(self, block: Block, loc: Loc = UNKNOWN) -> Builder:
        """A builder at the end of a new region's block (its ops are not logged one by one)."""
        return Builder(self.function, block, None, loc, False)

    def refuse(self, rule: str, op: Op, reason: str) -> bool:
        """Roll back what was built for this rewrite and note why; returns False."""
        self.rollback()
        self.refusals.append(Refusal(rule, op.id, reason, op.loc))
        return False

    def rollback(self) -> None:
        """Erase the ops built since the last finished rewrite."""
        for op in reversed(self._pending):
            self._unlink(op)
        self._pending.clear()

    def replace(
        self, op: Op, values: Value | Sequence[Value | None], rule: str, matched: Iterable[Op] = ()
    ) -> bool:
        """Let `values` stand for the results of `op` and remove it; ops of `matched` left unused go too.

        A None among `values` demands that the old result has no users.  Returns False (and rolls
        back) when out of fuel, skipped, or when dtype, rank, layout or extents differ.
        """
        new = [values] if isinstance(values, Value) else list(values)
        reason = self._mismatch(op, new) or self._cycle(op, new)
        if reason is not None:
            return self.refuse(rule, op, reason)
        if (rule, op.id) in self.skip or not self.fuel.take():
            self.rollback()
            return False
        matched_ops = list(dict.fromkeys([op, *matched]))
        loc = UNKNOWN.union(*(m.loc for m in matched_ops))
        added = [a for a in self._pending if a.block is not None]
        self._pending.clear()
        for a in added:
            a.loc = a.loc.union(loc)
        touched: dict[Op, None] = dict.fromkeys(added)
        keep = frozenset(added)
        replaced = []
        for old, value in zip(op.results, new, strict=True):
            if value is None or value is old:
                continue
            replaced.append((old.id, value.id))
            touched.update(dict.fromkeys(old.users))
            self._transfer(old, value, keep)
        removed = self._erase_unused(matched_ops)
        self.last_touched = list(touched)
        ids = [t.id for t in touched]
        self._record(rule, matched_ops, removed, [a.id for a in added], replaced, ids, loc)
        return True

    def replace_value(self, old: Value, new: Value, rule: str, matched: Iterable[Op] = ()) -> bool:
        """Let `new` stand for one value (an argument, or one of several results); removes nothing else."""
        reason = type_mismatch(self.function, old, new) or self._reads_transferred(old, new)
        anchor = old.op if old.op is not None else next(iter(old.users), None)
        if anchor is None:
            return False
        if reason is not None:
            return self.refuse(rule, anchor, reason)
        if (rule, anchor.id) in self.skip or not self.fuel.take():
            self.rollback()
            return False
        matched_ops = list(dict.fromkeys([*([old.op] if old.op else []), *matched]))
        added = [a for a in self._pending if a.block is not None]
        self._pending.clear()
        touched = dict.fromkeys([*added, *old.users])
        self._transfer(old, new, frozenset(added))
        loc = UNKNOWN.union(*(m.loc for m in matched_ops))
        ids = [t.id for t in touched]
        self._record(rule, matched_ops, [], [a.id for a in added], [(old.id, new.id)], ids, loc)
        return True

    def erase(self, op: Op, rule: str) -> bool:
        """Remove an op without users."""
        if any(r.users for r in op.results):
            users = [u.id for r in op.results for u in r.users]
            return self.refuse(rule, op, f"results are still used by ops {users}")
        if (rule, op.id) in self.skip or not self.fuel.take():
            return False
        loc = op.loc
        self._unlink(op)
        self._record(rule, [op], [op.id], [], [], [], loc)
        return True

    def set_operand(self, op: Op, index: int, value: Value | None, rule: str) -> None:
        """Change one operand (terminators and state wiring); types must agree, and it must be made before."""
        old = op.operands[index]
        if old is value:
            return
        if old is not None and value is not None:
            reason = type_mismatch(self.function, old, value)
            if reason is not None:
                self.refuse(rule, op, reason)
                return
        if value is not None and value.op is not None and not comes_before(value.op, op):
            self.refuse(rule, op, f"%{value.id} is made later")
            return
        added = [a.id for a in self._pending if a.block is not None]
        self._pending.clear()
        self._swap(op, index, value)
        replaced = [(old.id, value.id)] if old is not None and value is not None else []
        self._record(rule, [op], [], added, replaced, [op.id, *added], op.loc)

    def move_before(self, op: Op, anchor: Op) -> None:
        """Move an op up or down inside its block (order only; not a logged change)."""
        assert op.block is not None and op.block is anchor.block
        block = op.block
        block.remove(op)
        block.insert(op, anchor)

    # -- internals ----------------------------------------------------------------------------------

    def _mismatch(self, op: Op, new: Sequence[Value | None]) -> str | None:
        if len(new) != len(op.results):
            return f"{len(op.results)} results cannot become {len(new)}"
        for old, value in zip(op.results, new, strict=True):
            if value is None:
                if old.users:
                    return f"result {old.index} is still used"
                continue
            reason = type_mismatch(self.function, old, value)
            if reason is not None:
                return reason
        return None

    def _cycle(self, op: Op, new: Sequence[Value | None]) -> str | None:
        pairs = zip(op.results, new, strict=True)
        reasons = (self._reads_transferred(old, v) for old, v in pairs if v is not None and v is not old)
        return next((r for r in reasons if r is not None), None)

    def _reads_transferred(self, old: Value, new: Value) -> str | None:
        """Why `new` would come to depend on itself, or None: it must not be computed from users of `old`.

        The op that makes `new` and the ops built for this rewrite may read `old`: they go on doing so.
        Only ops that stand after `old` are walked; there are none where a replacement is built in place.
        """
        if new.op is None or new.op.block is not old_block(old):
            return None
        keeps = {new.op, *self._pending}
        after = float("-inf") if old.op is None else old.op._position
        seen = {new.op}
        work = [new.op]
        while work:
            op = work.pop()
            if op not in keeps and old in op.operands:
                return f"%{new.id} is computed from %{old.id} by way of %{op.results[0].id}"
            for value in op.present_operands():
                source = value.op
                if source is not None and source._position > after and source not in seen:
                    seen.add(source)
                    work.append(source)
        return None

    def _transfer(self, old: Value, new: Value, keep: frozenset[Op]) -> None:
        """Let every user of `old` read `new`, but for the ops of the replacement itself."""
        if not new.name:
            new.name = old.name
        for user in list(old.users):
            if new.op is user or user in keep:
                continue
            if user.block is old_block(old) and new.op is not None and new.op.block is user.block:
                if not comes_before(new.op, user):
                    self._hoist(new.op, user)
            operands = tuple(new if v is old else v for v in user.operands)
            count_uses(user, user.operands, -1)
            user.operands = operands
            count_uses(user, operands)

    def _hoist(self, op: Op, before: Op) -> None:
        """Move `op`, and what it is computed from, up before another op."""
        needed = {op}
        work = [op]
        while work:
            for value in work.pop().present_operands():
                source = value.op
                if source is None or source.block is not op.block or comes_before(source, before):
                    continue
                if source not in needed:
                    needed.add(source)
                    work.append(source)
        for moved in sorted(needed, key=lambda o: o._position):
            self.move_before(moved, before)

    def _swap(self, op: Op, index: int, value: Value | None) -> None:
        count_uses(op, op.operands, -1)
        op.operands = (*op.operands[:index], value, *op.operands[index + 1 :])
        count_uses(op, op.operands)

    def _erase_unused(self, ops: Sequence[Op]) -> list[int]:
        removed = []
        work = sorted((o for o in ops if o.block is not None), key=lambda o: o._position, reverse=True)
        for op in work:
            if not op.has(Trait.TERMINATOR) and not any(r.users for r in op.results):
                removed.append(op.id)
                self._unlink(op)
        return removed

    def _unlink(self, op: Op) -> None:
        if op.block is not None:
            op.block.remove(op)
            count_uses(op, op.operands, -1)

    def _record(
        self,
        rule: str,
        matched: Sequence[Op],
        removed: Sequence[int],
        added: Sequence[int],
        replaced: Sequence[tuple[int, int]],
        touched: Sequence[int],
        loc: Loc,
    ) -> None:
        self.log.append(
            Rewrite(
                len(self.log),
                rule,
                tuple(m.id for m in matched),
                tuple(removed),
                tuple(added),
                tuple(replaced),
                tuple(touched),
                loc,
            )
        )


def old_block(value: Value) -> Block | None:
    """The block that a value lives in."""
    return value.op.block if value.op is not None else value.block


def type_mismatch(function: Function, old: Value, new: Value) -> str | None:
    """Why `new` cannot stand for `old`: dtype, rank, layout or extents; None when it can."""
    a, b = old.type, new.type
    if a is b or a == b:
        return None
    if not isinstance(a, TensorType) or not isinstance(b, TensorType):
        return f"type {b} cannot stand for {a}"
    if a.dtype is not b.dtype:
        return f"dtype {b.dtype} cannot stand for {a.dtype}"
    if a.rank != b.rank:
        return f"rank {b.rank} cannot stand for {a.rank}"
    if a.layout != b.layout:
        return f"layout {b.layout} cannot stand for {a.layout}"
    for axis, (x, y) in enumerate(zip(a.shape, b.shape, strict=True)):
        if function.symbols.prove_eq(x, y) is not True:
            return f"extent {y} of axis {axis} is not provably {x}"
    return None
