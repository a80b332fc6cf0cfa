"""Common subexpressions: what counts as equal, and what does not."""

from __future__ import annotations

import numpy as np

from aino_ir.builder import Builder
from aino_ir.passes.eliminate_common_subexpressions import EliminateCommonSubexpressions
from aino_ir.types import tensor
from tests.passes.helpers import assert_fuses, run_pass


def start() -> tuple[Builder, object, object]:
    b = Builder()
    return b, b.input("x", tensor("f32", 3, 4)), b.input("z", tensor("f32", 3, 4))


def test_chains_merge() -> None:
    b, x, z = start()
    b.output("y", b.sub(b.exp(b.add(x, z)), b.exp(b.add(z, x))))
    assert_fuses(b.module, EliminateCommonSubexpressions(), ["math.add", "math.exp", "math.sub"])


def test_order_matters_where_ops_do_not_commute() -> None:
    b, x, z = start()
    b.output("y", b.mul(b.sub(x, z), b.sub(z, x)))
    assert not run_pass(EliminateCommonSubexpressions(), b.module).changed


def test_attributes_and_signed_zero() -> None:
    b, x, _ = start()
    b.output("y", b.sub(b.clip(x, min=0.0), b.clip(x, min=-0.0)))
    b.output("s", b.add(b.transpose(x, perm=(0, 1)), b.transpose(b.transpose(x, perm=(1, 0)), perm=(1, 0))))
    assert not run_pass(EliminateCommonSubexpressions(), b.module).changed


def test_equal_constants_merge_and_types_tell_them_apart() -> None:
    b, x, _ = start()
    one, same = b.constant(np.zeros(4, np.float32)), b.constant(np.zeros(4, np.float32))
    integers = b.cast(b.constant(np.zeros(4, np.int32)), to="f32")
    b.output("y", b.add(b.add(b.add(x, one), same), integers))
    module = b.module
    run_pass(EliminateCommonSubexpressions(), module)
    assert sum(op.name == "core.constant" for op in module.main.block) == 2


def test_sites_are_proved_without_running() -> None:
    b, x, z = start()
    b.output("y", b.sub(b.exp(b.add(x, z)), b.exp(b.add(x, z))))
    sites = run_pass(EliminateCommonSubexpressions(), b.module).sites
    assert sites.total == sites.deduplicated == 2
