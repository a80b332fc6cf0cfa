"""Identities on data movement: reshapes, transposes, slices, pads, concatenations."""

from __future__ import annotations

from aino_ir.builder import Builder
from aino_ir.dims import DimLike, is_static
from aino_ir.elementwise import Elementwise
from aino_ir.graph import Value
from aino_ir.op import Op
from aino_ir.ops.core import Relayout
from aino_ir.ops.tensor import Concat, Expand, Gather, Pad, Reshape, Slice, Transpose
from aino_ir.passes.rules import Rule
from aino_ir.pattern import Match, P, constant, constant_of


def _is(d: DimLike, number: int) -> bool:
    return is_static(d) and d == number


class DropIdentityMove(Rule):
    """reshape, transpose, expand, pad, slice, relayout that change nothing ==> x"""

    pattern = P((Reshape, Transpose, Expand, Pad, Slice, Relayout), "x")

    def check(self, m: Match) -> str | None:
        root = m.root
        if m["x"].type != root.result.type:
            return ""
        if isinstance(root, Transpose):
            moved = [p for a, p in enumerate(root.perm) if a != p and not _is(root.x.shape[p], 1)]
            return "" if moved else None
        if isinstance(root, Pad):
            return None if all(_is(d, 0) for d in (*root.before, *root.after)) else ""
        if isinstance(root, Slice):
            return None if all(_is(d, 0) for d in root.starts) and all(s == 1 for s in root.steps) else ""
        return None

    def rewrite(self, m: Match, b: Builder) -> Value:
        return m["x"]


class MergeReshapes(Rule):
    """reshape(reshape(x)) ==> reshape(x)"""

    pattern = P(Reshape, P(Reshape, "x"), op="outer")

    def rewrite(self, m: Match, b: Builder) -> Value:
        return b.reshape(m["x"], shape=m.op("outer").shape)  # type: ignore[no-any-return]


class MergeTransposes(Rule):
    """transpose(transpose(x, p), q) ==> transpose(x, p[q])"""

    pattern = P(Transpose, P(Transpose, "x", op="inner"), op="outer")

    def rewrite(self, m: Match, b: Builder) -> Value:
        inner, outer = m.op("inner").perm, m.op("outer").perm
        return b.transpose(m["x"], perm=tuple(inner[q] for q in outer))  # type: ignore[no-any-return]


class TransposeIsReshape(Rule):
    """transpose(x) ==> reshape(x)   when only axes of extent 1 change their order"""

    pattern = P(Transpose, "x", op="t")

    def check(self, m: Match) -> str | None:
        x, perm = m["x"], m.op("t").perm
        kept = [p for p in perm if not _is(x.shape[p], 1)]
        return None if kept == sorted(kept) else ""

    def rewrite(self, m: Match, b: Builder) -> Value:
        return b.reshape(m["x"], shape=m.root.result.shape)  # type: ignore[no-any-return]


class TransposeBeforeReshape(Rule):
    """transpose(reshape(x)) ==> reshape(transpose(x))   when the reshape only merges neighbouring axes

    Transposes then meet the ops that made x; axes of extent 1 may come and go.
    """

    pattern = P(Transpose, P(Reshape, "x"), op="t")

    def check(self, m: Match) -> str | None:
        return None if self._groups(m) is not None else ""

    @staticmethod
    def _groups(m: Match) -> list[list[int]] | None:
        """Axes of x that each axis of the reshape's result is made of."""
        return merged_axes(m["x"].shape, m.op("t").x.shape)

    def rewrite(self, m: Match, b: Builder) -> Value:
        groups = self._groups(m)
        assert groups is not None
        perm = tuple(axis for p in m.op("t").perm for axis in groups[p])
        return b.reshape(b.transpose(m["x"], perm=perm), shape=m.root.result.shape)  # type: ignore[no-any-return]


def merged_axes(shape: tuple[DimLike, ...], target: tuple[DimLike, ...]) -> list[list[int]] | None:
    """For each axis of `target` the axes of `shape` that it merges, or None when an axis is split."""
    groups: list[list[int]] = []
    axis = 0
    for extent in target:
        group: list[int] = []
        size: DimLike = 1
        if _is(extent, 1) and axis < len(shape) and _is(shape[axis], 1):
            group.append(axis)
            axis += 1
        while size is not extent and size != extent:
            if axis == len(shape) or not (is_static(size) or size is extent):
                return None
            if is_static(extent) and is_static(size) and size > extent:
                return None
            group.append(axis)
            size = size * shape[axis]
            axis += 1
        groups.append(group)
    rest = list(range(axis, len(shape)))
    if any(not _is(shape[a], 1) for a in rest) or not groups:
        return None
    groups[-1] += rest
    return groups


class MergeRelayouts(Rule):
    """relayout(relayout(x)) ==> relayout(x)"""

    pattern = P(Relayout, P(Relayout, "x"))

    def rewrite(self, m: Match, b: Builder) -> Value:
        layout = m.root.result.type.layout  # type: ignore[union-attr]
        return b.op(Relayout, m["x"], layouts=[layout]).result


class ExpandIsReshape(Rule):
    """expand(x) ==> reshape(x)   when it only adds leading axes of extent 1"""

    pattern = P(Expand, "x")

    def check(self, m: Match) -> str | None:
        x, out = m["x"].shape, m.root.result.shape
        added = out[: len(out) - len(x)]
        return None if added and all(_is(d, 1) for d in added) and out[len(added) :] == x else ""

    def rewrite(self, m: Match, b: Builder) -> Value:
        return b.reshape(m["x"], shape=m.root.result.shape)  # type: ignore[no-any-return]


class ConcatOfOne(Rule):
    """concat(x) ==> x"""

    pattern = P(Concat, "x", op="concat")

    def check(self, m: Match) -> str | None:
        return None if len(m.op("concat").operands) == 1 else ""

    def rewrite(self, m: Match, b: Builder) -> Value:
        return m["x"]


class MergeConcats(Rule):
    """concat(a, concat(b, c)) ==> concat(a, b, c)   along one axis, when the inner one has no other reader"""

    pattern = P(Concat, op="concat")

    def check(self, m: Match) -> str | None:
        return None if any(self._inner(v, m.root) for v in m.root.operands) else ""

    @staticmethod
    def _inner(value: Value | None, root: object) -> Concat | None:
        assert isinstance(root, Concat)
        op = None if value is None else value.op
        if isinstance(op, Concat) and op.axis == root.axis and op.result.use_count == 1:
            return op
        return None

    def looked_at(self, m: Match) -> list[Op]:
        return [op for v in m.root.operands if (op := self._inner(v, m.root)) is not None]

    def rewrite(self, m: Match, b: Builder) -> Value:
        parts: list[Value] = []
        for value in m.root.present_operands():
            inner = self._inner(value, m.root)
            parts += inner.inputs if inner is not None else (value,)
        return b.concat(*parts, axis=m.op("concat").axis)  # type: ignore[no-any-return]


class MergeSlices(Rule):
    """slice(slice(x)) ==> slice(x)   when both have steps of 1"""

    pattern = P(Slice, P(Slice, "x", op="inner"), op="outer")

    def check(self, m: Match) -> str | None:
        steps = (*m.op("inner").steps, *m.op("outer").steps)
        return None if all(s == 1 for s in steps) else f"steps {steps}"

    def rewrite(self, m: Match, b: Builder) -> Value:
        inner, outer = m.op("inner"), m.op("outer")
        starts = tuple(p + q for p, q in zip(inner.starts, outer.starts, strict=True))
        return b.slice(m["x"], starts=starts, sizes=outer.sizes, steps=outer.steps)  # type: ignore[no-any-return]


class GatherIsSlice(Rule):
    """gather(x, i) ==> slice(x)   when i is one constant index, or a run of consecutive ones"""

    pattern = P(Gather, "x", constant("i"), op="gather")

    def check(self, m: Match) -> str | None:
        return None if self._run(m) is not None else ""

    @staticmethod
    def _run(m: Match) -> tuple[int, int] | None:
        """(start, count) of the indices."""
        handle, extent = constant_of(m["i"]), m["x"].shape[m.op("gather").axis]
        if handle is None or not 0 < handle.size <= 1 << 16 or not is_static(extent):
            return None
        indices = [int(v) + (extent if v < 0 else 0) for v in handle.array().reshape(-1)]
        consecutive = indices == list(range(indices[0], indices[0] + len(indices)))
        inside = 0 <= indices[0] and indices[-1] < extent
        return (indices[0], len(indices)) if consecutive and inside else None

    def rewrite(self, m: Match, b: Builder) -> Value:
        run, x, axis = self._run(m), m["x"], m.op("gather").axis
        assert run is not None
        starts = tuple(run[0] if a == axis else 0 for a in range(x.rank))
        sizes = tuple(run[1] if a == axis else d for a, d in enumerate(x.shape))
        piece = b.slice(x, starts=starts, sizes=sizes, steps=(1,) * x.rank)
        return b.reshape(piece, shape=m.root.result.shape)  # type: ignore[no-any-return]


class TransposeAfterElementwise(Rule):
    """f(transpose(x)) ==> transpose(f(x)), f(transpose(x), transpose(y)) ==> transpose(f(x, y))

    when every operand that is not a single number is transposed alike, and nobody else reads them.
    A transpose then stands before its like, which cancels it, or before a reader that takes it for free.
    """

    pattern = P(Elementwise)

    def check(self, m: Match) -> str | None:
        return None if self._perm(m) is not None else ""

    @staticmethod
    def _perm(m: Match) -> tuple[int, ...] | None:
        """The common permutation, when a reader of the result is a transpose that undoes it."""
        perms: set[tuple[int, ...]] = set()
        for value in m.root.present_operands():
            if isinstance(value.op, Transpose) and value.use_count == 1:
                perms.add(value.op.perm)
            elif value.type.size != 1:  # type: ignore[union-attr]
                return None
        if len(perms) != 1:
            return None
        (perm,) = perms
        inverse = tuple(perm.index(a) for a in range(len(perm)))
        cancels = any(isinstance(u, Transpose) and u.perm == inverse for u in m.root.result.users)
        return perm if cancels and m.root.result.rank == len(perm) else None

    def looked_at(self, m: Match) -> list[Op]:
        return [v.op for v in m.root.present_operands() if isinstance(v.op, Transpose)]

    def rewrite(self, m: Match, b: Builder) -> Value:
        perm = self._perm(m)
        operands = [v.op.x if v is not None and isinstance(v.op, Transpose) else v for v in m.root.operands]
        moved = b.op(type(m.root), *operands, **m.root.attrs()).result
        return b.transpose(moved, perm=perm)  # type: ignore[no-any-return]


MOVEMENT_RULES: tuple[Rule, ...] = (
    DropIdentityMove(),
    MergeReshapes(),
    MergeTransposes(),
    TransposeIsReshape(),
    TransposeBeforeReshape(),
    MergeRelayouts(),
    ExpandIsReshape(),
    ConcatOfOne(),
    MergeConcats(),
    MergeSlices(),
    GatherIsSlice(),
    TransposeAfterElementwise(),
)
