"""Recognises scaled dot-product attention written out as matmuls, scaling, masking and softmax."""

from __future__ import annotations

from dataclasses import dataclass

from aino_ir.builder import Builder
from aino_ir.dims import DimLike
from aino_ir.graph import Value
from aino_ir.op import Op
from aino_ir.ops.cast import Select
from aino_ir.ops.division import Div
from aino_ir.ops.math import Add, IsNan, Mul
from aino_ir.ops.nn import MatMul
from aino_ir.ops.softmax import Softmax
from aino_ir.ops.tensor import Reshape, Transpose
from aino_ir.passes.rules import Rule, RulePass
from aino_ir.pattern import Match, P, number, scalar_of


@dataclass
class Parts:
    """An attention taken apart."""

    q: Value
    k: Value
    q_moves: list[Op]
    k_moves: list[Op]
    k_is_transposed: bool
    bias: Value | None
    scale: float
    masked_rows_zero: bool
    used: list[Op]


class WrittenOutAttention(Rule):
    """matmul(softmax(c * (a q) (b k)^T + bias), v) ==> attention(q, k, v, bias), scale a b c

    The scale may stand at q, at k, at the product, or be spread over them; the softmax may be followed
    by "0 where it is NaN", which exporters write for queries that see no key (a logit that is NaN then
    stays NaN).
    """

    pattern = (
        P(MatMul, P(Softmax, "logits", op="softmax"), "v", op="outer"),
        P(
            MatMul,
            P(
                Select,
                P(IsNan, P(Softmax, "logits", op="softmax")),
                number(0.0),
                P(Softmax, "logits", op="softmax"),
            ),
            "v",
            op="outer",
        ),
    )
    error_class = "reordered"

    def check(self, m: Match) -> str | None:
        softmax, outer = m.op("softmax"), m.op("outer")
        if m["v"].rank != 4 or m["logits"].rank != 4:
            return f"operands of rank {m['logits'].rank} and {m['v'].rank}, not 4"
        if softmax.axis % softmax.x.rank != softmax.x.rank - 1:
            return f"the softmax runs along axis {softmax.axis}, not along the keys"
        if outer.transpose_lhs or outer.transpose_rhs:
            return "the product with v is transposed"
        parts = self._parts(m)
        if isinstance(parts, str):
            return parts
        q, k, v = moved(parts.q, parts.q_moves), moved(parts.k, parts.k_moves), m["v"].shape
        kv_heads, keys = k[1], k[3] if parts.k_is_transposed else k[2]
        if (q[0], kv_heads, keys) != (k[0], v[1], v[2]) or q[0] != v[0]:
            return f"batches, heads or keys are broadcast: q {q}, k {k}, v {v}"
        if q[1] != kv_heads:
            return f"{q[1]} query heads for {kv_heads} key heads"
        return None

    def _parts(self, m: Match) -> Parts | str:
        used = list(m.ops)
        value, bias, scale = m["logits"], None, 1.0
        value, factor = peel_scale(value, used)
        if factor == 1.0 and isinstance(value.op, Add) and value.use_count == 1:
            used.append(value.op)
            found = self._masked(value.op)
            if found is None:
                return "neither operand of the sum under the softmax is a product of q and k"
            value, bias = found
            value, factor = peel_scale(value, used)
        scale *= factor
        inner = value.op
        if not isinstance(inner, MatMul):
            return "the logits are no matmul"
        if inner.result.use_count != 1:
            return "the logits have other readers"
        used.append(inner)
        q, a, q_moves = peel_moved(inner.lhs, used)
        k, b, k_moves = peel_moved(inner.rhs, used)
        if inner.transpose_lhs or inner.lhs.rank != 4 or inner.rhs.rank != 4:
            return "q is transposed, or q or k is not of rank 4"
        zero = not any(op is m.op("outer").lhs.op and isinstance(op, Softmax) for op in m.ops)
        flipped = not inner.transpose_rhs
        return Parts(q, k, q_moves, k_moves, flipped, bias, scale * a * b, zero, used)

    @staticmethod
    def _masked(add: Add) -> tuple[Value, Value] | None:
        """(product, mask) of a sum."""
        for value, other in ((add.lhs, add.rhs), (add.rhs, add.lhs)):
            if isinstance(peel_scale(value, [])[0].op, MatMul) and value.shape == add.result.shape:
                return value, other
        return None

    def looked_at(self, m: Match) -> list[Op]:
        parts = self._parts(m)
        assert isinstance(parts, Parts)
        return parts.used

    def rewrite(self, m: Match, b: Builder) -> Value:
        parts = self._parts(m)
        assert isinstance(parts, Parts)
        q, k = moved_again(b, parts.q, parts.q_moves), moved_again(b, parts.k, parts.k_moves)
        k = b.transpose(k, perm=(0, 1, 3, 2)) if parts.k_is_transposed else k
        return b.attention(  # type: ignore[no-any-return]
            q, k, m["v"], parts.bias, scale=parts.scale, masked_rows_zero=parts.masked_rows_zero
        )


def peel_scale(value: Value, used: list[Op]) -> tuple[Value, float]:
    """A value without the numbers that it was multiplied with, and their product.

    Ops that are peeled off are added to `used`; a factor whose product has other readers is peeled
    off too (it is computed for them anyway).
    """
    scale = 1.0
    while isinstance(value.op, (Mul, Div)):
        op = value.op
        pairs = [(op.lhs, op.rhs)] if isinstance(op, Div) else [(op.lhs, op.rhs), (op.rhs, op.lhs)]
        found = next(((x, c) for x, c in pairs if scalar_of(c) is not None and x.shape == value.shape), None)
        if found is None:
            break
        x, constant = found
        factor = float(scalar_of(constant) or 0.0)
        if factor == 0.0:
            break
        scale = scale / factor if isinstance(op, Div) else scale * factor
        used.append(op)
        if constant.op is not None:
            used.append(constant.op)
        value = x
    return value, scale


def peel_moved(value: Value, used: list[Op]) -> tuple[Value, float, list[Op]]:
    """Like `peel_scale`, but also below transposes and reshapes, which are given back, outermost first."""
    value, scale = peel_scale(value, used)
    moves: list[Op] = []
    below = value
    while isinstance(below.op, (Transpose, Reshape)):
        moves.append(below.op)
        below = below.op.x
        inner_used: list[Op] = []
        source, factor = peel_scale(below, inner_used)
        if inner_used:
            used += [*moves, *inner_used]
            return source, scale * factor, moves
    return value, scale, []


def moved(value: Value, moves: list[Op]) -> tuple[DimLike, ...]:
    """The shape of a value after the moves."""
    return tuple(moves[0].result.shape) if moves else tuple(value.shape)


def moved_again(b: Builder, value: Value, moves: list[Op]) -> Value:
    """The moves applied to another value."""
    for move in reversed(moves):
        value = b.op(type(move), value, **move.attrs()).result
    return value


@dataclass(frozen=True)
class FuseAttention(RulePass):
    """Written-out attention becomes `nn.attention`."""

    name = "fuse-attention"
    error_class = "reordered"
    rules = (WrittenOutAttention(),)
