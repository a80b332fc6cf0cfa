"""Clones and structural hashes."""

from __future__ import annotations

import numpy as np

from aino_ir.builder import Builder
from aino_ir.clone import copy_block
from aino_ir.constants import Const
from aino_ir.graph import Block, Function, Module
from aino_ir.location import loc
from aino_ir.rewriter import Rewriter
from aino_ir.structural import block_hash, op_key
from aino_ir.text import print_module
from aino_ir.types import tensor
from aino_ir.verify import verify


def sample(scale: float = 2.0, name: str = "y") -> Builder:
    b = Builder(loc=loc("node 'n'"))
    s = b.symbol("s", 1, 64)
    b.function.module.metadata["producer"] = "test"
    x = b.input("x", tensor("f32", s, 4))
    rows = b.dims_vector([s])
    b.function.defaults["x"] = Const.of(np.ones((3, 4), np.float32))
    cell = b.state("cell", tensor("f32", 4), Const.of(np.zeros(4, np.float32)))
    w = b.constant(np.full((4, 4), scale, np.float32), "w")
    y = b.matmul(x, w)
    region = b.region([y.type], lambda inner, v: [inner.relu(inner.leaky_relu(v, alpha=0.5))])
    z = b.fused(y, regions=[region])
    b.output(name, z[0] if isinstance(z, tuple) else z)
    b.output("rows", rows)
    b.finish([b.neg(cell)])
    return b


def test_a_clone_prints_alike_and_is_sound() -> None:
    module = sample().module
    copy = module.clone()
    assert print_module(copy) == print_module(module)
    verify(copy)
    assert copy.last_id == module.last_id and copy.metadata == module.metadata
    assert copy.metadata is not module.metadata


def test_a_clone_shares_constants_and_nothing_else() -> None:
    module = sample().module
    copy = module.clone()
    for old, new in zip(module.walk(), copy.walk(), strict=True):
        assert old is not new and old.id == new.id and type(old) is type(new)
        assert old.attributes is new.attributes
        assert not set(old.results) & set(new.results)
        for value in new.present_operands():
            assert value.users[new] == new.operands.count(value)
            assert all(user.block is new.block for user in value.users)
    assert copy.main.defaults == module.main.defaults and copy.main.defaults is not module.main.defaults
    assert copy.main.symbols is not module.main.symbols


def test_changes_of_the_clone_do_not_reach_the_original() -> None:
    module = sample().module
    text = print_module(module)
    copy = module.clone()
    rw = Rewriter(copy.main)
    neg = next(op for op in copy.walk() if op.name == "math.neg")
    assert rw.replace(neg, rw.builder(neg).abs(neg.operands[0]), "Change")
    copy.main.symbols.assume_ge(copy.main.inputs[0].shape[0], 2, "rows")
    copy.main.states[0].name = "other"
    copy.metadata.clear()
    assert print_module(module) == text
    verify(copy)
    verify(module)


def test_new_ids_of_both_never_meet_old_ones() -> None:
    module = sample().module
    copy = module.clone()
    assert copy.new_id() == module.new_id() == module.last_id


def test_known_contents_are_kept() -> None:
    b = sample()
    rows = next(op for op in b.block if op.name == "core.dims").result
    assert b.known(rows) is not None
    copied = next(op for op in b.module.clone().walk() if op.name == "core.dims").result
    assert copied.known_ready and copied.known is rows.known


def copied(function: Function) -> Block:
    target = Block(Module().add_function())
    copy_block(function.block, target, {})
    return target


def test_hashes_ignore_ids_names_and_places() -> None:
    one = sample().function
    other = sample(name="other")
    other.function.module.reserve_ids(1000)
    for op in other.function.walk():
        op.id += 500
        op.loc = loc("elsewhere")
    assert block_hash(one.block) == block_hash(other.function.block) == block_hash(copied(one))


def test_hashes_tell_constants_attributes_wiring_types_and_regions_apart() -> None:
    base = block_hash(sample().function.block)
    assert block_hash(sample(scale=3.0).function.block) != base

    def small(kind: str, alpha: float, swap: bool) -> str:
        b = Builder()
        x, y = b.input("x", tensor(kind, 4)), b.input("y", tensor(kind, 4))
        region = b.region([x.type], lambda inner, v: [inner.leaky_relu(v, alpha=alpha)])
        b.output("z", b.sub(y, x) if swap else b.sub(x, y))
        b.output("f", b.fused(x, regions=[region]))
        return block_hash(b.module.main.block)

    variants = [("f32", 0.5, False), ("f64", 0.5, False), ("f32", 0.25, False), ("f32", 0.5, True)]
    assert len({small(*v) for v in variants}) == 4
    assert small(*variants[0]) == small(*variants[0])


def test_op_keys_say_which_ops_compute_the_same() -> None:
    b = Builder()
    x, y = b.input("x", tensor("f32", 4)), b.input("y", tensor("f32", 4))
    assert op_key(b.add(x, y).op) == op_key(b.add(x, y).op)
    keys = [
        op_key(v.op)
        for v in (b.add(x, y), b.add(y, x), b.sub(x, y), b.leaky_relu(x), b.leaky_relu(x, alpha=0.0))
    ]
    assert len(set(keys)) == len(keys)
    assert op_key(b.leaky_relu(x, alpha=-0.0).op) != keys[-1]


def test_a_clone_visits_every_op_once(monkeypatch) -> None:
    visits = []
    insert = Block.insert
    monkeypatch.setattr(
        Block, "insert", lambda self, op, before=None: (visits.append(op.id), insert(self, op, before))
    )
    b = Builder()
    x = b.input("x", tensor("f32", 2))
    for _ in range(500):
        x = b.add(x, x)
    b.output("y", x)
    module = b.module
    visits.clear()
    module.clone()
    assert len(visits) == len(set(visits)) == 501
