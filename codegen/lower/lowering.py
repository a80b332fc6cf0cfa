"""Graph to plan: storage, one spec per kernel, the best candidate for each, equal kernels shared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from aino_ir.codegen.lower.carried import same_place
from aino_ir.codegen.lower.compose import LEAST, compose, symbol_bounds
from aino_ir.codegen.lower.control import emit_control
from aino_ir.codegen.lower.decided import DecidedSymbols, entry_symbols
from aino_ir.codegen.lower.group import Group, Storage, definition_of, is_map, scalar_constant
from aino_ir.codegen.lower.links import Links
from aino_ir.codegen.lower.phases import emit_bind, emit_phases, entry_checks
from aino_ir.codegen.lower.pricing import own_buffer, stored
from aino_ir.codegen.lower.storage import StorageAssignment
from aino_ir.compute import Compute, Nest, Phases, axes, coordinates, reads
from aino_ir.constants import Const
from aino_ir.dims import DimLike, free_symbols, is_static, symbol
from aino_ir.errors.codegen import NoLowering
from aino_ir.graph import Block, Function, Value
from aino_ir.kernels import (
    Candidate,
    Catalogue,
    Chain,
    Division,
    Kernel,
    KernelSpec,
    Operand,
    Origin,
    Packing,
    Reject,
    Result,
)
from aino_ir.location import Loc
from aino_ir.loops.expr import Read, VecType
from aino_ir.op import Op, Trait
from aino_ir.ops.control import CONTROL
from aino_ir.plan import BufferKind, Plan, Run, Step, View
from aino_ir.structural import block_hash
from aino_ir.target import Target
from aino_ir.types import TensorType


@dataclass
class LoweringOptions:
    """What lowering may be asked for."""

    numerics: str = "default"
    name: str = "model"


@dataclass
class Lowering:
    """Lowers one function for one target.

    Attributes:
        kernels: spec key -> kernel built so far (shared by equal specs, and by the functions of a program).
        rejects: op id -> reasons of generators that turned its spec down (for explain).
        steps: those of the present block so far.
    """

    function: Function
    catalogue: Catalogue
    target: Target
    options: LoweringOptions = field(default_factory=LoweringOptions)
    kernels: dict[str, Kernel] = field(default_factory=dict)
    rejects: dict[int, list[Reject]] = field(default_factory=dict)
    _groups: dict[tuple[object, ...], tuple[Kernel | tuple[KernelSpec, Division], tuple[int, ...]]] = field(
        default_factory=dict
    )
    _packed: dict[tuple[object, ...], View] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)

    def run(self) -> Plan:
        """The plan, before memory planning and synchronisation."""
        self.plan = Plan(self.options.name)
        self.decided = DecidedSymbols(self.function)
        self._interface()
        self.storage = StorageAssignment(self.function, self.plan, self.decided, self._may_overwrite)
        self.storage.run()
        self.plan.steps = self.block(self.function.block)
        return self.plan

    def block(self, block: Block) -> list[Step]:
        """The steps of a block."""
        around, self.steps = self.steps, []
        for op in block:
            if isinstance(op, CONTROL):
                emit_control(self, op)
            elif not self._needs_no_kernel(op):
                self._emit(op)
            if op.name == "core.bind":
                emit_bind(self, op)
            for value, view in self.storage.copies.get(op, ()):
                self.emit_copy(value, view, op.loc)
        made, self.steps = self.steps, around
        return made

    def _interface(self) -> None:
        f, plan = self.function, self.plan
        plan.inputs = [(n, v.type) for n, v in zip(f.input_names, f.inputs, strict=False)]
        plan.outputs = [(n, v.type) for n, v in zip(f.output_names, f.outputs, strict=False)]
        plan.states = [(s.name, s.type) for s in f.states]
        known = entry_symbols(f)
        decided = self.decided.origins
        others = [n for n in f.symbols if n not in decided]
        entry = sorted(n for n in others if free_symbols(f.symbols.canonical(symbol(n))) <= known)
        plan.decided = list(self.decided.names)
        plan.symbols = [*entry, *plan.decided]
        for name in plan.symbols:
            info = f.symbols.info(name)
            highest = info.hi if isinstance(info.hi, int) else None
            plan.symbol_bounds[name] = _number(info.lo, LEAST if name in decided else 0), highest
        plan.checks = entry_checks(f.symbols, decided)

    def _needs_no_kernel(self, op: Op) -> bool:
        if (
            op.name in ("core.constant", "tensor.concat")
            or op.has(Trait.TERMINATOR)
            or self.storage.is_view(op)
        ):
            return True
        types = tensor_results(op)
        empty = types and all(_is_empty(t.shape) for t in types)
        if empty and not op.has(Trait.DATA_DEPENDENT):  # nothing to compute
            return True
        return self.storage.is_window(op)

    # -- kernels ------------------------------------------------------------------------------------

    def _where(self, value: Value) -> Storage:
        view = self.storage.views[value]
        return stored(value, view.layout, view.allocated)

    def _emit(self, op: Op) -> None:
        if op.has(Trait.DATA_DEPENDENT):
            definition = op.define()
            assert isinstance(definition, Phases), f"{op.name} decides extents without phases"
            emit_phases(self, op, definition)
            return
        group = Group(op)
        made, positions = self._group_kernel(group)
        operands = [group.outer[p] for p in positions]
        kernel = made if isinstance(made, Kernel) else None
        views = [self._operand_view(v, i, kernel) for i, v in enumerate(operands)]
        spec = made.spec if isinstance(made, Kernel) else made[0]
        written = []
        for r, result in zip(op.results, spec.results, strict=True):
            if result.aliases is not None:
                self.storage.views[r] = views[result.aliases]
            written.append(self.storage.views[r])
        flops = sum((o.cost() for o in group.ops), start=0)
        nodes = tuple(dict.fromkeys(e for o in group.ops for e in o.loc.entries))
        if not isinstance(made, Kernel):
            links = Links()
            given = list(zip(views, operands, strict=True))
            self._emit_parts(op, made[1], given, written, (nodes, flops), links)
            origin = Origin(op, tuple(operands))
            self.plan.chains.setdefault(spec.key, Chain(spec, origin, links.temporaries, tuple(links.made)))
            return
        views += [v for v, result in zip(written, spec.results, strict=True) if result.aliases is None]
        for number, packing in made.candidate.companions:
            views.append(self._packed_view(_handle(operands[number]), packing))
        self.steps.append(Run(made.function.name, tuple(views), loc=op.loc, nodes=nodes, flops=flops))

    def _emit_parts(
        self,
        op: Op,
        division: Division,
        operands: Sequence[tuple[View, Value | None]],
        results: Sequence[View],
        account: tuple[tuple[str, ...], DimLike],
        links: Links,
    ) -> None:
        """The kernels of a division, with tensors of their own between them.

        Args:
            op: what they compute together.
            division: the kernels.
            operands: where those of the divided spec lie, and what they are (None: of a division themselves).
            results: where they go.
            account: nodes and operations; these count for the first kernel.
            links: where the kernels are noted.
        """
        nodes, flops = account
        links = links.within(division)
        places: dict[int | str, View] = {}
        for name, type_ in division.temporaries:
            buffer = self.plan.new_buffer(
                BufferKind.ARENA, type_.layout.bound(type_.shape) * type_.dtype.bytes, name=name
            )
            places[name] = View(buffer.id, 0, type_.dtype, type_.shape, type_.layout)
        readable: dict[int | str, tuple[View, Value | None]] = {
            **{name: (view, None) for name, view in places.items()},
            **dict(enumerate(operands)),
        }
        writable: dict[int | str, View] = {**places, **dict(enumerate(results))}
        for part in division.parts:
            read, written = [readable[k] for k in part.reads], [writable[k] for k in part.writes]
            inner = self.catalogue.divide(part.spec)
            if inner is not None:
                self._emit_parts(op, inner, read, written, (nodes, flops), links.of_part(part))
            else:
                kernel = self.kernel(part.spec, op)
                links.note(kernel, part)
                packings = dict(kernel.candidate.packings)
                views = [
                    self._packed_view(_handle(value), packings[n]) if value and n in packings else view
                    for n, (view, value) in enumerate(read)
                ]
                own = zip(written, part.spec.results, strict=True)
                views += [view for view, result in own if result.aliases is None]
                step = Run(kernel.function.name, tuple(views), loc=op.loc, nodes=nodes, flops=flops)
                self.steps.append(step)
            flops = 0

    def _group_kernel(self, group: Group) -> tuple[Kernel | tuple[KernelSpec, Division], tuple[int, ...]]:
        """The kernel of a group, or its spec and the kernels that do it together; and its operands' places.

        Equal groups compose once.
        """
        op = group.op
        inner = dict(zip(group.outputs, op.results, strict=False))
        dying = self._overwritable(group)
        signature = (
            dying,
            op.name,
            op.attributes_key(),
            tuple(block_hash(r) for r in op.regions),
            tuple(group.number.get(v, -1) if v is not None else None for v in op.operands),
            tuple((v.type, self._where(v), scalar_constant(v)) for v in group.outer),
            tuple((r.type, self._where(r)) for r in op.results),
        )
        known = self._groups.get(signature)
        if known is None:

            def where(value: Value) -> Storage:
                outside = inner.get(value)
                return self._where(value if outside is None else outside)

            composed = compose(group, where, self.function.symbols, self.options.numerics)
            positions = tuple(group.outer.index(v) for v in composed.operands)
            spec = composed.spec
            if dying in positions:
                spec = written_in_place(spec, positions.index(dying))
            division = self.catalogue.divide(spec)  # no map is divided; a nest tells where it writes
            made = (spec, division) if division is not None else self.kernel(spec, op, composed.operands)
            known = self._groups[signature] = (made, positions)
        return known

    def _overwritable(self, group: Group) -> int:
        """An operand that dies here and whose buffer the only result could take over, or -1."""
        candidates = replaceable(group)
        if not candidates:
            return -1
        target = self.storage.views[group.op.results[0]]
        for position in candidates:
            if same_place(self.storage.views[group.outer[position]], target):  # as `carried` has decided
                return position
        if not self._sole_owner(target):
            return -1
        for position in candidates:
            v = group.outer[position]
            view = self.storage.views[v]
            same = (view.dtype, view.shape, view.layout) == (target.dtype, target.shape, target.layout)
            if same and v.use_count == 1 and v.op is not None and self._sole_owner(view):
                return position
        return -1

    def _may_overwrite(self, op: Op, value: Value) -> bool:
        """Whether the op's kernel reads of an operand only what it writes at the same time."""
        group = Group(op)
        if all(group.outer[p] is not value for p in replaceable(group)):
            return False
        composed = compose(group, own_buffer, self.function.symbols, self.options.numerics)
        if composed.operands.count(value) != 1 or value.type != op.results[0].type:
            return False
        spec = written_in_place(composed.spec, composed.operands.index(value))
        return spec.results[0].aliases is not None

    def _sole_owner(self, view: View) -> bool:
        """Whether a view is a whole arena buffer that no other value lives in."""
        buffer = self.plan.buffers[view.buffer]
        return (
            buffer.kind is BufferKind.ARENA
            and view.allocated is None
            and self.storage.owners(view.buffer) == 1
        )

    def emit_copy(self, value: Value | View, target: View, loc: Loc) -> None:
        """A copy kernel; equal ones are shared like any other."""
        if _is_empty(target.shape):
            return
        source = value if isinstance(value, View) else self.storage.views[value]
        space = axes("i", target.shape)
        at = coordinates(space)
        element = Read(0, at, VecType(source.dtype.compute))
        program = Compute(space, element)
        operands = (Operand("x", source.dtype, source.shape, source.layout, source.allocated),)
        result = Result(
            "out", target.dtype, target.shape, target.layout, target.allocated, expr=element, index=at
        )
        bounds = symbol_bounds(program, operands, (result,), self.function.symbols)
        spec = KernelSpec("copy", program, operands, (result,), label="copy", symbols=bounds)
        kernel = self.kernel(spec, None)
        self.steps.append(Run(kernel.function.name, (source, target), loc=loc, nodes=loc.entries))

    def kernel(self, spec: KernelSpec, op: Op | None, operands: tuple[Value, ...] | None = None) -> Kernel:
        """The kernel of a spec, built when it is the first of its kind.

        Args:
            spec: what it computes.
            op: what errors name.
            operands: the op's values that the spec's operands stand for, where it computes that op.
        """
        known = self.kernels.get(spec.key)
        if known is None:
            candidate = self._choose(spec, op)
            function = self.catalogue.build(spec, candidate)
            origin = None if op is None or operands is None else Origin(op, operands)
            known = self.kernels[spec.key] = Kernel(spec, candidate, function, origin=origin)
        self.plan.kernels[known.function.name] = known
        return known

    def _choose(self, spec: KernelSpec, op: Op | None) -> Candidate:
        answers = self.catalogue.candidates(spec)
        rejects = [a for a in answers if isinstance(a, Reject)]
        if op is not None:
            self.rejects[op.id] = rejects
        for answer in answers:
            if isinstance(answer, Candidate):
                return answer
        reasons = "; ".join(f"{r.generator}: {r.reason}" for r in rejects) or "no generator knows it"
        error = NoLowering(
            loc=op.loc if op else None, op=spec.label or spec.anchor, target=self.target.name, reason=reasons
        )
        error.op_id = None if op is None else outermost(op).id
        raise error

    def _operand_view(self, value: Value, number: int, kernel: Kernel | None) -> View:
        view = self.storage.views[value]
        packing = None if kernel is None else dict(kernel.candidate.packings).get(number)
        if packing is None:
            return view
        return self._packed_view(_handle(value), packing)

    def _packed_view(self, handle: Const, packing: Packing) -> View:
        key = (handle.key, packing)
        if key not in self._packed:
            shape, dtype = packing.stored_shape(handle.shape), packing.stored_dtype(handle.dtype)
            size: DimLike = packing.layout.bound(shape) * dtype.bytes
            buffer = self.plan.new_buffer(
                BufferKind.CONST, size, const=handle, packing=packing, name=handle.name
            )
            self._packed[key] = View(buffer.id, 0, dtype, shape, packing.layout)
        return self._packed[key]


def outermost(op: Op) -> Op:
    """The op of the function's own block that an op is, or that holds it in its regions."""
    while op.block is not None and op.block.parent is not None:
        op = op.block.parent
    return op


def replaceable(group: Group) -> Sequence[int]:
    """Outer values of a group by position whose memory its only result could have, as far as the ops tell."""
    if len(group.outputs) != 1:
        return ()
    if all(is_map(o) for o in group.ops):
        return range(len(group.outer))
    program = definition_of(group.ops[0]) if len(group.ops) == 1 else None
    if not isinstance(program, Nest) or program.in_place is None:
        return ()
    operand = list(group.ops[0].present_operands())[program.in_place.operand]
    return (group.number[operand],)


def written_in_place(spec: KernelSpec, operand: int) -> KernelSpec:
    """The spec with its result in the operand's buffer, if what it reads of it is what it writes."""
    program, (result,) = spec.program, spec.results
    over = replace(result, aliases=operand)
    if isinstance(program, Nest):
        if program.in_place is None or program.in_place.operand != operand:
            return spec
        return replace(spec, program=program.over_operand(), results=(over,))
    assert isinstance(program, Compute)
    found = [
        r for e in (program.body, result.expr) if e is not None for r in reads(e) if r.operand == operand
    ]
    if not found or any(r.index != result.index for r in found) or program.checks:
        return spec
    return replace(spec, results=(over,))


def _handle(value: Value) -> Const:
    """The handle of a constant."""
    assert value.op is not None
    return value.op.value  # type: ignore[attr-defined, no-any-return]


def _is_empty(shape: tuple[DimLike, ...]) -> bool:
    return any(is_static(d) and d == 0 for d in shape)


def _number(d: object, default: int) -> int:
    return d if isinstance(d, int) else default


def tensor_results(op: Op) -> list[TensorType]:
    """Types of an op's tensor results."""
    return [r.type for r in op.results if isinstance(r.type, TensorType)]
