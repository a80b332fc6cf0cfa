"""The verifier: numbered invariants of modules.

 1. ids are unique in a module and not above its counter
 2. every op stands in the block that lists it, and the list is ordered
 3. an operand is a value of the same block (an argument, or a result of an earlier op)
 4. users of a value are exactly the ops that read it, with counts
 5. an op has the operands that its class declares
 6. an op has the attributes that its class declares, each of its kind
 7. result types are what `infer` says, apart from layouts
 8. a block ends with a terminator and has none elsewhere
 9. a region's parent is the op that holds it, and its function that of the op
10. the entry block has one argument per input and state slot, the terminator one operand per
    output and state slot
11. symbols in types and attributes are declared by the function (or stand for data of one of its ops)
12. static extents are not negative, and layouts name every axis once (or its tile and what is inside)
13. present and new state values have the types of their slots
14. input and output names are unique
15. an op has the regions that its class declares
16. no function calls itself, not even through others
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import NoReturn

from aino_ir.constants import Const
from aino_ir.dims import Dim, DimLike, is_static
from aino_ir.dtypes import DType
from aino_ir.errors.base import AinoError
from aino_ir.errors.ir import InvariantBroken, Undecided
from aino_ir.graph import Block, Function, Module, Value
from aino_ir.infer import InferContext
from aino_ir.op import COERCE, Op, Trait, operand_count_ok
from aino_ir.types import Layout, MapType, OptionalType, SequenceType, StringType, TensorType, Type

INVARIANTS = {
    int(number): title.strip()
    for number, title in re.findall(r"^ *(\d+)\. (.*)$", __doc__ or "", re.MULTILINE)
}
"""Number -> title, as in the module's docstring."""


def verify(module: Module) -> None:
    """Check every invariant of a module.

    Raises:
        InvariantBroken: the first one that does not hold, with the op.
    """
    seen: set[int] = set()
    for function in module.functions.values():
        _check_interface(function)
        _check_block(function.block, module, seen)
    _check_calls(module)


def verify_ops(module: Module, ids: Iterable[int]) -> None:
    """Check the ops with the given ids (what a rewrite touched) and their neighbourhoods."""
    wanted = set(ids)
    if not wanted:
        return
    for function in module.functions.values():
        for op in function.walk():
            if op.id in wanted:
                for check in OP_CHECKS:
                    check(op)
        _check_interface(function)


def _fail(number: int, op: object, detail: str, loc: object = None) -> NoReturn:
    raise InvariantBroken(loc=loc, number=number, title=INVARIANTS[number], op=op, detail=detail)


def _check_interface(function: Function) -> None:
    names = (*function.input_names, *(s.name for s in function.states))
    if len(function.block.args) != len(names):
        _fail(10, f"function {function.name}", f"{len(function.block.args)} arguments for {len(names)} names")
    last = function.block.last
    if last is None or not last.has(Trait.TERMINATOR):
        _fail(8, f"function {function.name}", "the entry block has no terminator")
    assert last is not None
    results = len(function.output_names) + len(function.states)
    if len(last.operands) != results:
        _fail(10, last, f"{len(last.operands)} results for {results} outputs and states")
    for kind, given in (("input", names), ("output", function.output_names)):
        if len(set(given)) != len(given):
            _fail(14, f"function {function.name}", f"{kind} names {given}")
    for state, slot in zip(function.states, function.state_args, strict=True):
        if slot.type != state.type:
            _fail(13, slot, f"state '{state.name}' is {state.type}")
    for state, value in zip(function.states, last.operands[len(function.output_names) :], strict=True):
        if value is None or value.type != state.type:
            _fail(13, last, f"state '{state.name}' is {state.type}, its new value {value}")


def _check_block(block: Block, module: Module, seen: set[int]) -> None:
    for value in block.args:
        _check_id(value.id, value, module, seen)
        _check_type(value, block.function)
    position = float("-inf")
    for op in block:
        _check_id(op.id, op, module, seen)
        for value in op.results:
            _check_id(value.id, value, module, seen)
        if op._position <= position:
            _fail(2, op, "it stands out of order", op.loc)
        position = op._position
        _check_regions(op)
        for region in op.regions:
            if region.parent is not op:
                _fail(9, op, "a region has another parent", op.loc)
            if region.function is not block.function:
                _fail(9, op, "a region belongs to another function", op.loc)
            _check_block(region, module, seen)
        for check in OP_CHECKS:
            check(op)
    if block.last is None or not block.last.has(Trait.TERMINATOR):
        _fail(8, block.parent or "a block", "it has no terminator")


def _check_calls(module: Module) -> None:
    calls = {f.name: [op for op in f.walk() if op.name == "core.call"] for f in module.functions.values()}
    finished: set[str] = set()
    for start in calls:
        path, work = [start], [iter(calls[start])]
        while work:
            op = next(work[-1], None)
            if op is None:
                finished.add(path.pop())
                work.pop()
                continue
            callee: str = op.callee  # type: ignore[attr-defined]
            if callee in path:
                _fail(16, op, f"function {path[-1]} calls {callee}", op.loc)
            if callee not in finished:
                path.append(callee)
                work.append(iter(calls.get(callee, ())))


def _check_id(id: int, what: object, module: Module, seen: set[int]) -> None:
    if id in seen or id > module.last_id:
        _fail(1, what, f"id {id} is taken or above {module.last_id}")
    seen.add(id)


def _check_placement(op: Op) -> None:
    if op.block is None:
        _fail(2, op, "it is in no block", op.loc)
    if op.has(Trait.TERMINATOR) and op.block is not None and op.block.last is not op:
        _fail(8, op, "it stands before the end", op.loc)


def _check_operands(op: Op) -> None:
    if not operand_count_ok(type(op), len(op.operands)):
        _fail(5, op, f"{len(op.operands)} operands", op.loc)
    for (name, kind), (start, stop) in zip(op.declaration.operands, op.segments().values(), strict=True):
        if kind != "optional" and any(v is None for v in op.operands[start:stop]):
            _fail(5, op, f"operand '{name}' is absent", op.loc)
    for value, count in Counter(op.present_operands()).items():
        home = value.op.block if value.op is not None else value.block
        if home is not op.block:
            _fail(3, op, f"%{value.id} belongs to another block", op.loc)
        if value.op is not None and value.op._position >= op._position:
            _fail(3, op, f"%{value.id} is made later", op.loc)
        if value.users.get(op, 0) != count:
            _fail(4, op, f"%{value.id} counts {value.users.get(op, 0)} uses, not {count}", op.loc)


def _check_results(op: Op) -> None:
    for result in op.results:
        if result.op is not op:
            _fail(4, op, f"%{result.id} names another producer", op.loc)
        for user in result.users:  # that the counts are right is checked at the users
            if user.block is None or result not in user.operands:
                _fail(4, op, f"%{result.id} lists a user that does not read it", op.loc)


KINDS: dict[str, type | tuple[type, ...]] = {
    "dtype": DType,
    "const": Const,
    "type": (TensorType, StringType, SequenceType, OptionalType, MapType),
}
"""Attribute kinds whose values are objects: their classes."""


def _check_attributes(op: Op) -> None:
    if len(op.attributes) != len(op.declaration.attrs):
        _fail(6, op, f"{len(op.attributes)} attributes for {len(op.declaration.attrs)}", op.loc)
    for (name, attr), value in zip(op.declaration.attrs, op.attributes, strict=True):
        if value is None:
            if attr.default is not None:
                _fail(6, op, f"'{name}' is absent", op.loc)
        elif not _is_kind(attr.kind, value):
            _fail(6, op, f"'{name}' holds {value!r}, not {attr.kind}", op.loc)


def _is_kind(kind: str, value: object) -> bool:
    if kind in KINDS:
        return isinstance(value, KINDS[kind])
    try:
        held = COERCE[kind](value)
    except (TypeError, ValueError, AinoError):
        return False
    return type(held) is type(value) and (held == value or value != value or kind == "floats")


def _check_regions(op: Op) -> None:
    if len(op.regions) != len(op.region_names):
        _fail(15, op, f"{len(op.regions)} regions for {len(op.region_names)}", op.loc)


def _check_symbols(op: Op) -> None:
    function = op.block.function if op.block is not None else None
    for (name, attr), value in zip(op.declaration.attrs, op.attributes, strict=True):
        if function is not None and attr.kind in ("dim", "dims"):
            for dim in value if isinstance(value, tuple) else (value,):
                _check_declared(dim, f"attribute '{name}' of {op}", function, op.loc)
    for result in op.results:
        _check_type(result, function)


def _check_types(op: Op) -> None:
    function = op.block.function if op.block is not None else None
    if function is None:
        return
    try:
        inferred = op.infer(InferContext(function.symbols, record=False, op=op, module=function.module))
    except Undecided:  # it became an entry check when the op was made
        return
    except AinoError as error:
        _fail(7, op, error.message, op.loc)
    except Exception as error:  # a class that cannot judge its own op: say which, and about what
        _fail(7, op, f"infer raises {type(error).__name__}: {error}", op.loc)
    if len(inferred) != len(op.results):
        _fail(7, op, f"infer gives {len(inferred)} results, the op has {len(op.results)}", op.loc)
    for want, result in zip(inferred, op.results, strict=True):
        if not same_logical_type(want, result.type, function):
            _fail(7, op, f"infer gives {want}, %{result.id} has {result.type}", op.loc)


def same_logical_type(a: Type, b: Type, function: Function) -> bool:
    """Whether two types agree apart from layouts."""
    if not isinstance(a, TensorType) or not isinstance(b, TensorType):
        return a == b
    if a.dtype is not b.dtype or a.rank != b.rank:
        return False
    return all(function.symbols.prove_eq(x, y) is True for x, y in zip(a.shape, b.shape, strict=True))


def _check_type(value: Value, function: Function | None) -> None:
    of: Type = value.type
    while isinstance(of, (SequenceType, OptionalType)):
        of = of.element
    if isinstance(of, MapType):
        return
    loc = value.op.loc if value.op is not None else None
    for dim in of.shape:
        if function is not None:
            _check_declared(dim, f"%{value.id}", function, loc)
        if is_static(dim) and dim < 0:
            _fail(12, value.op or f"%{value.id}", f"%{value.id} is {value.type}", loc)
    if isinstance(of, TensorType) and not layout_fits(of.layout, of.rank):
        _fail(12, value.op or f"%{value.id}", f"layout {of.layout} of rank {of.rank}", loc)


def _check_declared(dim: DimLike | None, what: str, function: Function, loc: object) -> None:
    for name in dim.free_symbols() if isinstance(dim, Dim) else ():
        if name not in function.symbols:
            _fail(11, what, f"symbol '{name}' is not declared", loc)


def layout_fits(layout: Layout, rank: int) -> bool:
    """Whether a layout places every axis of a tensor of `rank` once: whole, or as tile and inside."""
    if layout.is_row_major:
        return True
    tiles, pads = dict(layout.tiles), dict(layout.pad)
    if len(tiles) != len(layout.tiles) or len(pads) != len(layout.pad):
        return False
    if any(n < 1 for n in (*tiles.values(), *pads.values())) or not tiles.keys() | pads.keys() <= set(
        range(rank)
    ):
        return False
    wanted = [(axis, part) for axis in range(rank) for part in (("o", "i") if axis in tiles else (None,))]
    return Counter(layout.parts(rank)) == Counter(wanted)


OP_CHECKS: tuple[Callable[[Op], None], ...] = (
    _check_placement,
    _check_operands,
    _check_results,
    _check_attributes,
    _check_regions,
    _check_symbols,
    _check_types,
)
"""Checks of one op, in order."""


@contextmanager
def verified(module: Module) -> Iterator[Module]:
    """Verify before and after a block of code (for tests)."""
    verify(module)
    yield module
    verify(module)
