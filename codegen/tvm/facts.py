"""AINO's facts about a device as a target of TVM's."""

from __future__ import annotations

from typing import Any

from aino_ir.target import Target

_CPUS = {"vec128": {"x86_64": "x86-64"}, "avx2": {"x86_64": "x86-64-v3"}, "avx512": {"x86_64": "x86-64-v4"}}
"""ISA variant -> processor family -> LLVM's name of such processors."""


def tvm_target(target: Target) -> dict[str, Any]:
    """What ``tvm.target.Target`` is made of, for one ISA variant."""
    found: dict[str, Any] = {"kind": target.device, "num-cores": target.cores}
    cpu = _CPUS.get(target.isa, {}).get(target.arch)
    if cpu is not None:
        found["mcpu"] = cpu
    return found
