"""Validates what a pass did, site by site: old and new region are run on the interpreter and compared.

Three answers are cheap: regions with the same structure need no run, regions that were found right
before need no second one, and what cannot be run is counted, never forgotten:
``run + deduplicated + unvalidated == sites``.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field

from aino_ir.constants import Const
from aino_ir.graph import Function, Module, Value
from aino_ir.op import Op, Trait
from aino_ir.passes.sites import Site, SiteFinder, Substitution
from aino_ir.passes.trials import Trial, Unrunnable
from aino_ir.pattern import constant_of, held_constant
from aino_ir.rewriter import Rewrite
from aino_ir.structural import block_hash

SMALL_CONSTANT = 1 << 12
"""Constants up to this many elements are told apart by content, larger ones by type."""

ORDER = ("exact", "reordered", "approximate", "lossy")


@dataclass
class Sites:
    """How rewrite sites were validated."""

    total: int = 0
    run: int = 0
    deduplicated: int = 0
    unvalidated: int = 0

    def add(self, other: Sites) -> None:
        """Count other sites too."""
        self.total += other.total
        self.run += other.run
        self.deduplicated += other.deduplicated
        self.unvalidated += other.unvalidated

    @property
    def complete(self) -> bool:
        """Whether every site is accounted for."""
        return self.run + self.deduplicated + self.unvalidated == self.total


@dataclass(frozen=True)
class Failure:
    """A site that changed what the program means.

    Attributes:
        rule: the rules involved, or the pass's name.
        roots: (rule, op id) pairs that must not fire when the pass is run again.
        reason: what differs.
    """

    rule: str
    roots: frozenset[tuple[str, int]]
    reason: str


@dataclass
class Memory:
    """Structures that were found right before; shared by the passes of a pipeline."""

    right: set[Hashable] = field(default_factory=set)


class Validator:
    """Judges the sites of one pass.

    Args:
        error_class: how far the pass may change results.
        classes: error classes of single rules that differ from the pass's.
        memory: structures known to be right.
    """

    def __init__(
        self, error_class: str, classes: Mapping[str, str] | None = None, memory: Memory | None = None
    ) -> None:
        self.error_class = error_class
        self.classes = dict(classes or {})
        self.memory = memory if memory is not None else Memory()
        self.sites = Sites()
        self.problems: list[str] = []

    def check_module(self, old: Module, new: Module, logs: Mapping[str, list[Rewrite]]) -> list[Failure]:
        """Validate every site; returns those that are wrong."""
        failures = []
        for name, log in logs.items():
            finder = SiteFinder(old.functions[name], new.functions[name], log)
            for site in finder.sites():
                failure = self.check_site(site, finder)
                if failure is not None:
                    failures.append(failure)
        return failures

    def check_site(self, site: Site, finder: SiteFinder) -> Failure | None:
        """What is wrong with a site, or None; one that fails is judged again with those it relied on."""
        self.sites.total += 1
        while True:
            reason = self._judge(site, finder.function, finder.substitution)
            if reason is None:
                return None
            wider = finder.wider(site)
            if wider is None:
                return Failure(", ".join(site.rules), site.roots, reason)
            self.sites.run -= 1
            site = wider

    def _judge(self, site: Site, function: Function, substitution: Substitution) -> str | None:
        """Why a site is wrong, or None; counts how that was found out."""
        if site.problem:
            self._unvalidated(site, site.problem)
            return None
        structure = Structure(lambda value: site.identity(value, substitution))
        if all(
            structure.expression(old) == structure.expression(new)
            for old, new in self._inside(site, structure)
        ):
            self.sites.deduplicated += 1
            return None
        error_class = self._class_of(site)
        try:
            trial = Trial(site, function, substitution, error_class)
            key = trial.key()
            if key in self.memory.right:
                self.sites.deduplicated += 1
                return None
            reason = trial.judge()
        except Unrunnable as error:
            self._unvalidated(site, str(error))
            return None
        self.sites.run += 1
        if reason is None:
            self.memory.right.add(key)
        return reason

    def _inside(self, site: Site, structure: Structure) -> list[tuple[Value, Value]]:
        structure.inside = {*site.old, *site.new}
        structure.equal = {structure.identity(r): r for op in site.old for r in op.results}
        return site.pairs

    def _unvalidated(self, site: Site, why: str) -> None:
        self.sites.unvalidated += 1
        self.problems.append(f"{', '.join(site.rules)}: {why}")

    def _class_of(self, site: Site) -> str:
        """The loosest class among the site's rules."""
        found = {self.classes.get(rule, self.error_class) for rule in site.rules}
        return max(found, key=ORDER.index)


class Structure:
    """Expressions as numbers: equal numbers mean the same computation on the same frontier.

    Fused groups count as their ops, lazy constants as the ops that compute them, layouts as nothing.
    """

    def __init__(self, identity: Callable[[Value], Hashable]) -> None:
        self.identity = identity
        self.inside: set[Op] = set()
        self.equal: dict[Hashable, Value] = {}
        self._numbers: dict[Hashable, int] = {}
        self._values: dict[Value, int] = {}

    def expression(self, value: Value) -> int:
        """The number of a value's expression."""
        if value not in self._values:
            self._fill(value)
        return self._values[value]

    def _fill(self, value: Value) -> None:
        """Number a value and what it depends on, without recursion over long chains."""
        stack = [value]
        while stack:
            top = stack[-1]
            if top in self._values:
                stack.pop()
                continue
            op = top.op
            if op is None or op not in self.inside:
                other = self.equal.get(self.identity(top))
                if other is None or other is top:
                    self._values[stack.pop()] = self._leaf(top)
                elif other in self._values:
                    self._values[stack.pop()] = self._values[other]
                else:
                    stack.append(other)
                continue
            missing = [v for v in op.present_operands() if v not in self._values]
            if missing:
                stack.extend(missing)
                continue
            operands = [None if v is None else self._values[v] for v in op.operands]
            for result, number in zip(op.results, self._results(op, operands), strict=True):
                self._values[result] = number

    def _leaf(self, value: Value) -> int:
        handle = held_constant(value)
        if handle is not None:
            return self._constant(handle)
        return self._number(self.identity(value))

    def _constant(self, handle: Const) -> int:
        if handle.block is not None:
            return self._region(handle.block, [self._constant(c) for c in handle.inputs])[0]
        identity = handle.key if handle.size <= SMALL_CONSTANT else handle.identity
        return self._number(("constant", identity))

    def _results(self, op: Op, operands: list[int | None]) -> list[int]:
        if op.name == "core.fused":
            return self._region(op.regions[0], [o for o in operands if o is not None])
        if op.name == "core.relayout":
            assert operands[0] is not None
            return [operands[0]]
        wired: tuple[int | None, ...] = tuple(operands)
        if op.has(Trait.COMMUTATIVE):
            wired = tuple(sorted(operands, key=lambda o: -1 if o is None else o))
        regions = tuple(block_hash(r) for r in op.regions)
        key = (op.name, op.attributes_key(), wired, regions)
        return [self._number((*key, i)) for i in range(len(op.results))]

    def _region(self, block: object, arguments: list[int]) -> list[int]:
        from aino_ir.graph import Block

        assert isinstance(block, Block)
        numbers: dict[Value, int] = dict(zip(block.args, arguments, strict=True))
        for op in block:
            if op.has(Trait.TERMINATOR):
                return [numbers[v] for v in op.present_operands()]
            handle = constant_of(op.results[0]) if op.results else None
            if handle is not None:
                numbers[op.results[0]] = self._constant(handle)
                continue
            operands = [None if v is None else numbers[v] for v in op.operands]
            numbers.update(zip(op.results, self._results(op, operands), strict=True))
        return []

    def _number(self, key: Hashable) -> int:
        return self._numbers.setdefault(key, len(self._numbers))
