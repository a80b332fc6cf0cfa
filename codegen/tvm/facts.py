"""AINO's facts about a device as a target of TVM's."""

from __future__ import annotations

from typing import Any

from aino_ir.isa import GPU
from aino_ir.target import Target

_CPUS = {"vec128": {"x86_64": "x86-64"}, "avx2": {"x86_64": "x86-64-v3"}, "avx512": {"x86_64": "x86-64-v4"}}
"""ISA variant -> processor family -> LLVM's name of such processors."""


def tvm_target(target: Target) -> dict[str, Any]:
    """What ``tvm.target.Target`` is made of, for one ISA variant."""
    kind, *options = target.device.split()
    given = dict(option.removeprefix("-").partition("=")[::2] for option in options)
    if on_gpu(target):
        if kind == "cuda":
            given.setdefault("arch", target.isa)
        return {"kind": kind, **given, "host": {"kind": "llvm"}}
    cpu = _CPUS.get(target.isa, {}).get(target.arch)
    if cpu is not None:
        given.setdefault("mcpu", cpu)
    return {"kind": kind, "num-cores": target.cores, **given}


def on_gpu(target: Target) -> bool:
    """Whether kernels are for threads of a GPU."""
    return target.arch == GPU
