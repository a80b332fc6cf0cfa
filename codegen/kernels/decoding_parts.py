"""What a product with constant weights of few bits is made of: integers, zero points, scales, their runs."""

from __future__ import annotations

from dataclasses import dataclass

from aino_ir.codegen.kernels.contract import plain_use
from aino_ir.codegen.kernels.emit import expressions
from aino_ir.codegen.kernels.roles import Roles, analyse
from aino_ir.codegen.kernels.words import NIBBLES
from aino_ir.compute import Axis
from aino_ir.dim_atoms import FloorDiv
from aino_ir.dims import Dim, DimLike, is_static
from aino_ir.dtypes import f32
from aino_ir.kernels import KernelSpec
from aino_ir.loops.expr import Binary, Cast, Expr, Read
from aino_ir.loops.expr_tree import walk

WEIGHTS = ("i4", "u4", "i8", "u8")
"""What is decoded."""


@dataclass(frozen=True)
class Parts:
    """The factors of a product with weights of few bits.

    Attributes:
        roles: with one reduction loop.
        number: which factor is the weights.
        w: the read of the integers.
        whole: what is multiplied with the activation, a float made of the integers alone (and zero points).
        scale: what it is multiplied with behind the sum of a run, or None.
        run: neighbours along the reduction that share scale and zero; the whole extent, if all do.
    """

    roles: Roles
    number: int
    w: Read
    whole: Expr
    scale: Expr | None
    run: int

    @property
    def axis(self) -> Axis:
        """The reduction."""
        return self.roles.loops[0]

    @property
    def extent(self) -> int:
        """Reduction steps."""
        return int(self.axis.extent)  # type: ignore[arg-type]

    @property
    def narrow(self) -> bool:
        """Whether weights have 4 bits."""
        return self.roles.spec.operands[self.w.operand].dtype.bits == 4

    @property
    def signed(self) -> bool:
        """Whether the integers have a sign."""
        return self.roles.spec.operands[self.w.operand].dtype.is_signed

    @property
    def tops(self) -> bool:
        """Whether weights may be multiplied with as they stand at the top of a word."""
        return self.narrow and self.signed and not any(isinstance(n, Binary) for n in walk(self.whole))

    def parameters(self) -> list[Read]:
        """Reads of scales and zero points, each once."""
        found = [n for e in (self.whole, self.scale) if e is not None for n in walk(e) if isinstance(n, Read)]
        return [n for n in dict.fromkeys(found) if n is not self.w]


def parts_of(spec: KernelSpec) -> Parts | str:
    """The factors of a spec, or why it is no product with weights of few bits."""
    roles = analyse(spec)
    if isinstance(roles, str):
        return roles
    if roles.clamped or roles.unrolled or len(roles.loops) != 1 or not is_static(roles.loops[0].extent):
        return "more than one reduction"
    row = roles.row.name if roles.row is not None else ""
    for number, factor in enumerate(roles.factors):
        split = _whole_and_scale(factor)
        if (
            split is None
            or roles.lane.name in roles.factor_axes[1 - number]
            or row in roles.factor_axes[number]
        ):
            continue
        found = _parts(roles, number, *split)
        if found is not None:
            return found
    return "no factor that is decoded from constants of 4 or 8 bits"


def _whole_and_scale(factor: Expr) -> tuple[Expr, Expr | None] | None:
    """(the float of an integer, what it is multiplied with) of a decoded factor."""
    if isinstance(factor, Binary) and factor.op == "mul":
        for whole, scale in ((factor.a, factor.b), (factor.b, factor.a)):
            if _is_whole(whole) and not _is_whole(scale):
                return whole, scale
    return (factor, None) if _is_whole(factor) else None


def _is_whole(e: Expr) -> bool:
    return isinstance(e, Cast) and e.dtype is f32 and e.x.dtype.is_integer


def _parts(roles: Roles, number: int, whole: Expr, scale: Expr | None) -> Parts | None:
    axis, operands = roles.loops[0], roles.spec.operands
    reads = list(dict.fromkeys(n for n in walk(roles.factors[number]) if isinstance(n, Read)))
    moving = [n for n in reads if any(c is axis.dim for c in n.index)]
    if len(moving) != 1 or not all(operands[n.operand].constant and n.default is None for n in reads):
        return None
    (w,) = moving
    use = plain_use(w, roles)
    if w not in list(walk(whole)) or operands[w.operand].dtype.name not in WEIGHTS or use is None:
        return None
    everywhere = [n for e in expressions(roles.spec) for n in walk(e) if isinstance(n, Read)]
    if roles.lane.name not in use.axes.values() or any(n.operand == w.operand for n in everywhere if n != w):
        return None
    runs = {_run(c, axis) for n in reads if n is not w for c in n.index}
    runs.discard(0)
    if None in runs or len(runs) > 1:
        return None
    extent = int(axis.extent)  # type: ignore[arg-type]
    run = min([extent, *(r for r in runs if r is not None)])
    found = Parts(roles, number, w, whole, scale, run)
    return None if found.narrow and run < extent and run % NIBBLES else found


def _run(coordinate: DimLike | Expr, axis: Axis) -> int | None:
    """How long a coordinate stays the same along the reduction; 0: always; None: it moves some other way."""
    if isinstance(coordinate, Expr):
        return None
    if not isinstance(coordinate, Dim) or axis.name not in coordinate.free_symbols():
        return 0
    for _, atoms in coordinate.terms():
        for atom in atoms:
            if isinstance(atom, FloorDiv) and isinstance(atom.b, int) and coordinate is axis.dim // atom.b:
                return atom.b
    return None
