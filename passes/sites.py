"""Rewrite sites: the region that a rewrite touched, cut out of the graph before and after it.

Log entries that share ops form one site.  The old region is what the rules matched, seen from the
values that were replaced; the new one is what was added, seen from their replacements.  Both are
functions of a frontier of values that exist on both sides (values replaced by other sites count as
equal); where the new region reads something else, it grows by the op that makes it.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from aino_ir.constants import Const
from aino_ir.graph import Function, Value
from aino_ir.op import Op, Trait
from aino_ir.pattern import constant_of, held_constant
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
        constants: values that the old region reads, and that other sites replaced by a constant -> it; rules
            may have read its content.
    """

    entries: list[Rewrite]
    pairs: list[tuple[Value, Value]] = field(default_factory=list)
    old: list[Op] = field(default_factory=list)
    new: list[Op] = field(default_factory=list)
    read: frozenset[int] = frozenset()
    problem: str = ""
    replaced: frozenset[int] = frozenset()
    constants: dict[Value, Value] = field(default_factory=dict)

    def held(self, value: Value) -> Const | None:
        """The handle behind a value that is a constant, or has become one."""
        return held_constant(self.constants.get(value, value))

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
        self._next: dict[int, int] = {}
        for entry in log:
            for old, new in entry.replaced:
                self._next[old] = new
                self._next.pop(new, None)  # who replaces is alive, whatever became of it before

    def final(self, id: int) -> int:
        """The last replacement of a value, itself when it was never replaced."""
        path = []
        while id in self._next:
            path.append(id)
            id = self._next[id]
        for passed in path:
            self._next[passed] = id
        return id


class SiteFinder:
    """Cuts the sites of a pass on one function out of it, before and after.

    Attributes:
        substitution: which value stands for which.
    """

    def __init__(self, old: Function, new: Function, log: Sequence[Rewrite]) -> None:
        self.before, self.after = Index.of(old), Index.of(new)
        self.substitution = Substitution(log)
        self._groups = _Groups(log, self.before)

    @property
    def function(self) -> Function:
        """The function before the pass."""
        return self.before.function

    def sites(self) -> Iterator[Site]:
        """All sites but those that replaced nothing, and those that `wider` has meanwhile put to others."""
        for group in self._groups.roots():
            site = self._cut_out(group) if self._groups.root(group) == group else None
            if site is not None and site.pairs:
                yield site

    def wider(self, site: Site) -> Site | None:
        """The site together with those that it should not have relied on, or None when there are none.

        Where it reads a value that another site turned into one that it made itself, that new value
        counted as known, though it is what the site has to show.
        """
        made = {self.substitution.final(v) for v in site.replaced} - self.before.values.keys()
        read = {v.id for op in site.old for v in op.present_operands()} - site.replaced
        others = {self._groups.replacing(v) for v in read if self.substitution.final(v) in made}
        return self._cut_out(self._groups.merge(site.entries[0], others)) if others else None

    def _cut_out(self, group: int) -> Site:
        entries = self._groups.entries(group)
        site = Site(entries, replaced=frozenset(old for e in entries for old, _ in e.replaced))
        _pair(site, self.before, self.after, self.substitution)
        if site.pairs:
            _cut(site, self.before, self.substitution)
        return site


class _Groups:
    """Log entries that belong together, by the number of the first: at first those that share ops.

    Constants that were there before do not connect.
    """

    def __init__(self, log: Sequence[Rewrite], before: Index) -> None:
        self._log = log
        self._parent = list(range(len(log)))
        self._replacing = {old: i for i, entry in enumerate(log) for old, _ in entry.replaced}
        owner: dict[int, int] = {}
        for position, entry in enumerate(log):
            for op in (*entry.matched, *entry.removed, *entry.added):
                known = before.ops.get(op)
                if known is not None and known.name == "core.constant" and op != entry.matched[0]:
                    continue
                self._join(owner.setdefault(op, position), position)
        self._members: dict[int, list[int]] = {}
        for position in range(len(log)):
            self._members.setdefault(self.root(position), []).append(position)

    def root(self, i: int) -> int:
        """The group that an entry, or a group before it was merged, belongs to."""
        while self._parent[i] != i:
            self._parent[i] = self._parent[self._parent[i]]
            i = self._parent[i]
        return i

    def roots(self) -> list[int]:
        """Every group."""
        return list(self._members)

    def entries(self, group: int) -> list[Rewrite]:
        """The entries of a group, in order."""
        return [self._log[i] for i in self._members[group]]

    def replacing(self, value: int) -> int:
        """The group that replaced a value."""
        return self.root(self._replacing[value])

    def merge(self, entry: Rewrite, others: set[int]) -> int:
        """Make one group of an entry's and others; returns it."""
        group = self.root(entry.seq)
        members = sorted(i for g in {group, *others} for i in self._members.pop(g))
        for other in others:
            self._join(group, other)
        self._members[members[0]] = members
        return members[0]

    def _join(self, a: int, b: int) -> None:
        first, second = sorted((self.root(a), self.root(b)))
        self._parent[second] = first


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
    for value in values:
        final = before.values.get(substitution.final(value.id))
        if value.id not in site.replaced and final is not None and final is not value and constant_of(final):
            site.constants[value] = final
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
