"""Rewrite sites: the region that a rewrite touched, cut out of the graph before and after it.

Log entries that share ops form one site.  The old region is what the rules matched, seen from the
values that were replaced; the new one is what was added, seen from their replacements.  Both are
functions of a frontier of values that exist on both sides (values replaced by other sites count as
equal); where the new region reads something else, it grows by the op that makes it.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field

from aino_ir.graph import Function, Module, Value
from aino_ir.op import Op, Trait
from aino_ir.rewriter import Rewrite

GROWTH_LIMIT = 256
"""A region may grow by so many ops before its site counts as not validated."""


@dataclass
class Index:
    """Ops and values of a function by id, regions included."""

    function: Function
    ops: dict[int, Op] = field(default_factory=dict)
    values: dict[int, Value] = field(default_factory=dict)

    @staticmethod
    def of(function: Function) -> Index:
        """Index a function."""
        index = Index(function)
        for argument in function.block.args:
            index.values[argument.id] = argument
        for op in function.walk():
            index.ops[op.id] = op
            for region in op.regions:
                index.values.update((a.id, a) for a in region.args)
            index.values.update((r.id, r) for r in op.results)
        return index


@dataclass
class Site:
    """One place where a pass changed the graph.

    Attributes:
        entries: log entries, in order.
        pairs: (value before, value after) that must be equal.
        old, new: ops of the two regions, in order.
        read: ids of constant ops whose content a rule read.
        problem: why the regions could not be cut out, or "".
        replaced: ids of values that this site replaced.
    """

    entries: list[Rewrite]
    pairs: list[tuple[Value, Value]] = field(default_factory=list)
    old: list[Op] = field(default_factory=list)
    new: list[Op] = field(default_factory=list)
    read: frozenset[int] = frozenset()
    problem: str = ""
    replaced: frozenset[int] = frozenset()

    def identity(self, value: Value, substitution: Substitution) -> Hashable:
        """What tells values that are taken to be the same before and after.

        Values that other sites replaced equal their replacements; those that this site replaced are
        what is to be shown, so they equal nothing but themselves.
        """
        if value.id in self.replaced:
            return ("replaced", value.id)
        return ("value", substitution.final(value.id))

    @property
    def rules(self) -> list[str]:
        """The rules involved, each once."""
        return list(dict.fromkeys(e.rule for e in self.entries))

    @property
    def roots(self) -> frozenset[tuple[str, int]]:
        """(rule, root op) of every rewrite: what to leave out when the site is wrong."""
        return frozenset((e.rule, e.matched[0]) for e in self.entries if e.matched)


class Substitution:
    """Which value of the new module stands for a value of the old one."""

    def __init__(self, log: Iterable[Rewrite]) -> None:
        self._next = {old: new for entry in log for old, new in entry.replaced}

    def final(self, id: int) -> int:
        """The last replacement of a value, itself when it was never replaced."""
        path = []
        while id in self._next:
            path.append(id)
            id = self._next[id]
        for passed in path:
            self._next[passed] = id
        return id


def find_sites(old: Function, new: Function, log: Sequence[Rewrite]) -> tuple[list[Site], Substitution]:
    """The sites of a pass on one function, cut out on both sides, without those that replaced nothing."""
    before, after = Index.of(old), Index.of(new)
    substitution = Substitution(log)
    sites = []
    for entries in _grouped(log, before):
        replaced = frozenset(old_id for e in entries for old_id, _ in e.replaced)
        site = Site(entries, replaced=replaced)
        _pair(site, before, after, substitution)
        if site.pairs:
            _cut(site, before, substitution)
            sites.append(site)
    return sites, substitution


def _grouped(log: Sequence[Rewrite], before: Index) -> list[list[Rewrite]]:
    """Entries that share ops, together; constants that were there before do not connect."""
    parent = list(range(len(log)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    owner: dict[int, int] = {}
    for position, entry in enumerate(log):
        for op in (*entry.matched, *entry.removed, *entry.added):
            known = before.ops.get(op)
            if known is not None and known.name == "core.constant" and op != entry.matched[0]:
                continue
            other = owner.setdefault(op, position)
            if other != position:
                parent[root(position)] = root(other)
    groups: dict[int, list[Rewrite]] = {}
    for position, entry in enumerate(log):
        groups.setdefault(root(position), []).append(entry)
    return list(groups.values())


def _pair(site: Site, before: Index, after: Index, substitution: Substitution) -> None:
    for entry in site.entries:
        for old_id, _ in entry.replaced:
            old, new = before.values.get(old_id), after.values.get(substitution.final(old_id))
            if old is not None and new is not None:
                site.pairs.append((old, new))


def _cut(site: Site, before: Index, substitution: Substitution) -> None:
    matched = {i for e in site.entries for i in (*e.matched, *e.removed) if i in before.ops}
    site.read = frozenset(i for i in matched if before.ops[i].name == "core.constant")
    outputs = [old for old, _ in site.pairs]
    allowed = matched | {old.op.id for old in outputs if old.op is not None}

    def maker(value: Value) -> Op | None:
        """The op behind a value, or behind what another site put in its place."""
        if value.id not in site.replaced and (value.op is None or value.op.id not in allowed):
            value = before.values.get(substitution.final(value.id), value)
        return value.op

    site.old = _region(outputs, allowed, maker)
    values = [v for op in site.old for v in (*op.present_operands(), *op.results)]
    known = {substitution.final(v.id) for v in values if v.id not in site.replaced}
    site.new = _grown(site, known)
    blocks = {op.block for op in site.old}, {op.block for op in site.new}
    if any(len(b) > 1 for b in blocks):
        site.problem = "the region lies in several blocks"


def _region(outputs: Iterable[Value], allowed: set[int], maker: Callable[[Value], Op | None]) -> list[Op]:
    """Ops among `allowed` that the outputs depend on through such ops, in order."""
    seen: dict[Op, None] = {}
    work = [v.op for v in outputs]
    while work:
        op = work.pop()
        if op is None or op in seen or op.id not in allowed or op.name == "core.constant":
            continue
        seen[op] = None
        work.extend(maker(v) for v in op.present_operands())
    return ordered(seen)


def _grown(site: Site, known: set[int]) -> list[Op]:
    """The new region: from the replacements back to values that the old side knows."""
    added = {i for e in site.entries for i in e.added}
    seen: dict[Op, None] = {}
    work = [new.op for _, new in site.pairs if new.op is not None and new.id not in known]
    growth = 0
    while work:
        op = work.pop()
        if op in seen or op.name == "core.constant":
            continue
        growth += op.id not in added
        if growth > GROWTH_LIMIT:
            site.problem = f"the new region reads more than {GROWTH_LIMIT} ops that the old one does not"
            return []
        seen[op] = None
        work.extend(v.op for v in op.present_operands() if v.op is not None and v.id not in known)
    return ordered(seen)


def ordered(ops: Iterable[Op]) -> list[Op]:
    """Ops of one block in program order, without terminators."""
    return sorted((o for o in ops if not o.has(Trait.TERMINATOR)), key=lambda o: o._position)


def sites_of(
    old: Module, new: Module, logs: dict[str, list[Rewrite]]
) -> list[tuple[Site, Function, Substitution]]:
    """Sites of all functions, each with the function before the pass."""
    out: list[tuple[Site, Function, Substitution]] = []
    for name, log in logs.items():
        sites, substitution = find_sites(old.functions[name], new.functions[name], log)
        out.extend((site, old.functions[name], substitution) for site in sites)
    return out
