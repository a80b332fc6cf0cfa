"""Building graphs: operands, attributes, names, regions, refusals."""

from __future__ import annotations

import numpy as np
import pytest

from aino_ir.builder import Builder, op_class
from aino_ir.constants import Const
from aino_ir.dims import symbol
from aino_ir.errors.ir import BadAttribute, BadOperand, DTypeMismatch, ShapeMismatch, Undecided
from aino_ir.location import loc
from aino_ir.op import OPS, coerce
from aino_ir.ops.core import Constant, Return
from aino_ir.types import permuted, tensor
from aino_ir.verify import verify


def test_a_module_from_the_ground_up() -> None:
    b = Builder()
    x = b.input("x", tensor("f32", 8, 16))
    w = b.constant(np.ones((16, 4), np.float32), "weights")
    b.output("y", b.relu(b.matmul(x, w)))
    module = b.module
    verify(module)
    assert module.main.input_names == ["x"] and module.main.output_names == ["y"]
    assert module.main.outputs[0].type == tensor("f32", 8, 4)
    assert w.name == "weights" and x.name == "x"


def test_asking_for_the_module_closes_it_once() -> None:
    b = Builder()
    b.output("x", b.input("x", tensor("f32", 2)))
    assert b.module is b.module and b.module.op_count() == 1


def test_ops_are_found_by_full_and_short_names() -> None:
    assert op_class("math.add") is op_class("math_add") is op_class("add") is OPS["math.add"]
    assert op_class("reduce_max") is OPS["reduce.max"]
    assert op_class("max") is OPS["math.max"]  # the elementwise one owns the short name
    with pytest.raises(AttributeError, match="no op is called 'nothing'"):
        op_class("nothing")
    with pytest.raises(AttributeError):
        Builder().nothing(1)
    with pytest.raises(AttributeError):
        Builder().__getattr__("_hidden")


def test_every_op_class_has_a_name_of_its_family_and_a_meaning() -> None:
    op_class("math.add")
    for name, cls in OPS.items():
        family, _, rest = name.partition(".")
        assert family.isidentifier() and rest.isidentifier(), name
        assert cls.__doc__, name


def test_too_few_and_too_many_operands_are_refused() -> None:
    b = Builder(loc=loc("node 'n'"))
    x = b.input("x", tensor("f32", 2))
    with pytest.raises(BadOperand, match=r"operand count must be \(lhs, rhs\), got 1") as raised:
        b.add(x)
    assert str(raised.value.loc) == "node 'n'"
    with pytest.raises(BadOperand, match="got 3"):
        b.add(x, x, x)
    assert not x.users


def test_a_refused_op_leaves_no_trace() -> None:
    b = Builder()
    x, y = b.input("x", tensor("f32", 2)), b.input("y", tensor("f32", 3))
    with pytest.raises(ShapeMismatch):
        b.add(x, y)
    with pytest.raises(DTypeMismatch):
        b.add(x, b.input("z", tensor("i32", 2)))
    assert not x.users and not y.users and len(b.block) == 0


def test_trailing_absent_operands_are_left_out() -> None:
    b = Builder()
    x, w = b.input("x", tensor("f32", 1, 3, 8, 8)), b.input("w", tensor("f32", 4, 3, 3, 3))
    window = {"strides": (1, 1), "pads_before": (0, 0), "pads_after": (0, 0), "dilations": (1, 1)}
    conv = b.conv(x, w, None, **window)
    assert conv.op.operands == (x, w) and conv.op.bias is None
    with_bias = b.conv(x, w, b.input("b", tensor("f32", 4)), **window)
    assert with_bias.op.bias is not None


def test_variadic_operands_take_any_number() -> None:
    b = Builder()
    parts = [b.input(f"x{i}", tensor("f32", i + 1)) for i in range(4)]
    joined = b.concat(*parts, axis=0)
    assert joined.op.inputs == tuple(parts) and joined.shape == (10,)


def test_attributes_have_defaults_kinds_and_names() -> None:
    b = Builder()
    x = b.input("x", tensor("f32", 2, 3))
    assert b.transpose(x, perm=[1, 0]).op.attrs() == {"perm": (1, 0)}
    assert b.leaky_relu(x).op.alpha == 0.01
    with pytest.raises(BadAttribute, match="'perm' must be given"):
        b.transpose(x)
    with pytest.raises(BadAttribute, match="'perm' must be ints, got 'ab'"):
        b.transpose(x, perm="ab")
    with pytest.raises(BadAttribute, match="'permutation' must be one of: perm, got an unknown name"):
        b.transpose(x, perm=[1, 0], permutation=[0, 1])


def test_attributes_are_coerced_by_kind_not_by_value() -> None:
    assert coerce("float", 1) == 1.0 and type(coerce("float", 1)) is float
    assert coerce("bool", 1) is True and coerce("ints", np.array([1, 2])) == (1, 2)
    assert coerce("dims", [symbol("s"), np.int64(3)]) == (symbol("s"), 3)
    assert coerce("dtype", "f16").name == "f16" and coerce("int", None) is None


def test_attribute_keys_tell_zeros_and_find_nan() -> None:
    b = Builder()
    x = b.input("x", tensor("f32", 2))

    def key(alpha: float) -> tuple[object, ...]:
        return b.leaky_relu(x, alpha=alpha).op.attributes_key()

    assert key(0.0) != key(-0.0) and key(float("nan")) == key(float("nan")) and key(1.0) == key(1)


def test_layouts_are_an_argument_of_creation() -> None:
    b = Builder()
    x = b.input("x", tensor("f32", 2, 3))
    y = b.op(op_class("core.relayout"), x, layouts=[permuted(1, 0)]).result
    assert y.type.layout == permuted(1, 0) and y.shape == (2, 3)


def test_ops_go_before_an_anchor() -> None:
    b = Builder()
    x = b.input("x", tensor("f32", 2))
    y = b.relu(x)
    seen = []
    inner = Builder(b.function, before=y.op, on_create=seen.append)
    z = inner.neg(x)
    assert [op.name for op in b.block] == ["math.neg", "math.relu"] and seen == [z.op]


def test_symbols_are_declared_once() -> None:
    b = Builder()
    s = b.symbol("s", 2, 8, 2)
    assert b.symbol("s") is s
    assert b.function.symbols.interval(s) == (2, 8)


def test_vectors_of_extents() -> None:
    b = Builder()
    s = b.symbol("s", 1, 8)
    assert isinstance(b.dims_vector([2, 3]).op, Constant)
    mixed = b.dims_vector([s, 3])
    assert mixed.op.name == "core.dims" and b.known(mixed) == (s, 3)
    assert b.known(b.input("x", tensor("i64", 2))) is None
    assert b.known(b.dims_vector([])) == ()


def test_known_contents_go_through_shape_arithmetic() -> None:
    b = Builder()
    s = b.symbol("s", 1, 64)
    x = b.input("x", tensor("f32", s, 12, 4))
    shape = b.dims_vector(x.shape)
    rows = b.gather(shape, b.constant(np.array([0])), axis=0)
    target = b.concat(rows, b.constant(np.array([3, 16])), axis=0)
    assert b.known(target) == (s, 3, 16)
    assert b.reshape(x, shape=b.known(target)).shape == (s, 3, 16)


def test_speculation_may_not_record_checks() -> None:
    b = Builder()
    s, t = b.symbol("s", 1, 8), b.symbol("t", 1, 8)
    x, y = b.input("x", tensor("f32", s)), b.input("y", tensor("f32", t))
    with pytest.raises(Undecided):
        Builder(b.function, record=False).add(x, y)
    assert not b.function.symbols.checks
    b.add(x, y)
    assert len(b.function.symbols.checks) == 1
    Builder(b.function, record=False).add(x, y)  # known by now


def test_regions_are_isolated_blocks() -> None:
    b = Builder()
    x = b.input("x", tensor("f32", 2))
    region = b.region([x.type, x.type], lambda inner, p, q: [inner.add(p, q), p])
    assert [a.type for a in region.args] == [x.type, x.type]
    assert isinstance(region.terminator, Return) and len(region.terminator.operands) == 2
    first, second = b.fused(x, x, regions=[region])
    assert region.parent is first.op is second.op and region.function is b.function


def test_a_handle_is_kept_and_an_array_wrapped() -> None:
    b = Builder()
    handle = Const.of(np.ones(2))
    assert b.constant(handle).op.value is handle
    assert b.constant(3.0).type == tensor("f64") and b.constant([1, 2]).type == tensor("i64", 2)
