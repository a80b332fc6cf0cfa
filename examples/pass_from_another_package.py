"""A package of its own brings a pass: an entry point is enough, and every compilation runs it."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import aino_ir as aino
from examples.models import mlp

CODE = '''
"""Counts the matrix products of every model that is compiled."""

from dataclasses import dataclass

import aino_ir as aino
from aino_ir.passes import Pass, PassResult


@aino.register_pass(before="fuse-groups")
@dataclass(frozen=True)
class CountProducts(Pass):
    """Changes nothing and counts matrix products."""

    name = "other-count-products"

    def run(self, module, ctx):
        count = sum(op.name.startswith("nn.") for op in module.walk())
        return PassResult(changed=False, counters={"products": count})
'''

with tempfile.TemporaryDirectory() as temporary:
    # What `pip install other-package` leaves; its pyproject.toml says:
    #     [project.entry-points."aino.passes"]
    #     other-count-products = "other_package:CountProducts"
    site = Path(temporary)
    (site / "other_package.py").write_text(CODE)
    facts = site / "other_package-1.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: other-package\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text(
        "[aino.passes]\nother-count-products = other_package:CountProducts\n"
    )
    sys.path.insert(0, str(site))

    exe = aino.compile(mlp(site / "mlp.onnx"))
    for row in exe.report.passes:
        print(f"{row['pass']:36} {row['rewrites'] or ''}")
    assert any(row["rewrites"] == {"products": 2} for row in exe.report.passes)

    aino.register_target("small-box", like="c:portable", cores=1, l2_bytes=128 << 10)
    print(aino.compile(mlp(site / "mlp.onnx"), "small-box"))
