"""What a pass is, what it gets and what it gives back.

A pass is a frozen dataclass whose fields are its options, in Python and on the command line::

    @dataclass(frozen=True)
    class EliminateDeadCode(Pass):
        \"\"\"Removes ops whose results nobody reads.\"\"\"
        name = "eliminate-dead-code"
        def run(self, module, ctx): ...

It changes functions through `ctx.rewriter(function)` alone, so that the manager knows every change.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import ClassVar

from aino_ir.graph import Block, Function, Module
from aino_ir.kernels import Catalogue, GroupPricer
from aino_ir.op import Op
from aino_ir.rewriter import Fuel, Refusal, Rewriter
from aino_ir.target import Target

ERROR_CLASSES = ("exact", "reordered", "approximate", "lossy")
"""How far a pass may change results, from not at all to a declared loss."""

ALLOWED_CLASSES = {"strict": ("exact",), "default": ("exact", "reordered"), "fast": ERROR_CLASSES}
"""Numerics setting -> classes of rewrites that may happen."""

DumpWriter = Callable[[str, str], None]
"""Gets a pass's name and the module's text after it."""


@dataclass
class PassContext:
    """What passes may ask, and what the manager records.

    Attributes:
        target: facts about the device, or None for passes that need none.
        level: optimization level.
        numerics: strict, default or fast: which error classes may happen.
        kernels: which kernels exist; None outside a compilation.
        pricer: what a fused group would cost as one kernel; None outside a compilation.
        fuel: how many more rewrites may happen.
        skip: (rule, op id) pairs that must not fire.
        explain: whether refusals are kept.
        rewriters: rewriters of the running pass, by function name.
        refusals: (pass, refusal) pairs so far.
    """

    target: Target | None = None
    level: int = 2
    numerics: str = "default"
    kernels: Catalogue | None = None
    pricer: GroupPricer | None = None
    fuel: Fuel = field(default_factory=Fuel)
    skip: frozenset[tuple[str, int]] = frozenset()
    explain: bool = True
    rewriters: dict[str, Rewriter] = field(default_factory=dict)
    refusals: list[tuple[str, Refusal]] = field(default_factory=list)

    def rewriter(self, function: Function) -> Rewriter:
        """The rewriter through which the running pass changes a function."""
        found = self.rewriters.get(function.name)
        if found is None:
            found = self.rewriters[function.name] = Rewriter(function, self.fuel, self.skip)
        return found

    def allows(self, error_class: str) -> bool:
        """Whether rewrites of an error class may happen under these numerics."""
        return error_class in ALLOWED_CLASSES[self.numerics]


@dataclass(frozen=True)
class PassResult:
    """What a pass did.

    Attributes:
        changed: whether the module differs from what it was.
        counters: what happened how often, by rule.
    """

    changed: bool
    counters: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Pass:
    """The base of all graph passes: valid IR in, valid IR out.

    Class attributes:
        name: verb-noun, the same as the file's stem.
        error_class: how far results may change.
        required: whether compilation cannot go on without it.
    """

    name: ClassVar[str] = ""
    error_class: ClassVar[str] = "exact"
    required: ClassVar[bool] = False

    def run(self, module: Module, ctx: PassContext) -> PassResult:
        """Change every function of a module."""
        for function in list(module.functions.values()):
            self.run_function(function, ctx)
        return result_of(ctx)

    def run_function(self, function: Function, ctx: PassContext) -> None:
        """Change one function; passes that need the whole module override `run` instead."""
        raise TypeError(f"{type(self).__name__} declares neither run nor run_function")

    def __str__(self) -> str:
        from aino_ir.passes.registry import print_pass

        return print_pass(self)


def result_of(ctx: PassContext) -> PassResult:
    """The result of the running pass, read off its rewriters' logs."""
    counters: Counter[str] = Counter()
    for rewriter in ctx.rewriters.values():
        counters.update(entry.rule for entry in rewriter.log)
    return PassResult(bool(counters), dict(counters))


def plain_blocks(function: Function) -> Iterator[Block]:
    """The block of a function and those of its control-flow regions, but not those of fused groups.

    A block may be changed once it is given.
    """
    stack: list[Block] = [function.block]
    while stack:
        block = stack.pop()
        for op in block:
            if op.name != "core.fused":
                stack.extend(op.regions)
        yield block


def plain_ops(function: Function) -> Iterator[Op]:
    """Ops of a function and of its control-flow regions, but not those inside fused groups."""
    stack = [iter(function.block)]
    while stack:
        op = next(stack[-1], None)
        if op is None:
            stack.pop()
            continue
        yield op
        if op.name != "core.fused":
            stack.extend(iter(region) for region in op.regions)
