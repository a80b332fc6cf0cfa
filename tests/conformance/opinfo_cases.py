"""PyTorch's own samples of its operators (OpInfo) as graphs of ATen calls, with what eager PyTorch gives.

A case is one sample of one operator and dtype.  It is captured once, without Dynamo, in the form in which a
program reaches the lowering: functional, and with everything taken apart that has no row.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch._dispatch.python import enable_python_dispatcher
from torch._subclasses.functional_tensor import FunctionalTensorMode, dispatch_functionalize
from torch.export.exported_program import (
    _override_composite_implicit_decomp,
    _split_decomp_table_to_cia_and_python_decomp,
)
from torch.fx import GraphModule
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils import _pytree as pytree

from aino_ir.frontends.torch.capture import export_decompositions, quiet
from aino_ir.frontends.torch.tensors import array_of

DTYPES = ("float32", "float64", "bfloat16", "int64", "bool")
"""Element types that the table has columns for."""

SEED = 0

UNDEFINED = frozenset(
    {"empty", "empty_like", "empty_permuted", "empty_strided", "new_empty", "new_empty_strided"}
)
"""Operators that give memory as it is."""

AMBIGUOUS = frozenset({"linalg.eigh", "linalg.svd", "pca_lowrank", "svd", "svd_lowrank"})
"""Operators whose results are determined but for signs or rotations: a sample says what of them is."""

TIES = "of equal elements the first comes first (docs/ir.md); eager leaves their order open"
BY_RULE: dict[tuple[str, str], str] = {
    **{(name, dtype): TIES for name in ("argsort", "msort", "sort", "topk") for dtype in DTYPES},
    **{
        (name, "bfloat16"): "rows of one element have no deviation; eager leaves a rounding error of bf16"
        for name in ("native_layer_norm", "nn.functional.layer_norm")
    },
    **{
        ("histogramdd", dtype): "edges that do not increase are outside the operator's contract"
        for dtype in ("float32", "float64")
    },
    ("grid_sampler_2d", "bfloat16"): "positions are computed in f32; eager rounds them to bf16",
    ("nn.functional.grid_sample", "bfloat16"): "positions are computed in f32; eager rounds them to bf16",
}
"""(operator, dtype) -> the rule by which results may differ from eager's."""


@dataclass(frozen=True)
class Captured:
    """A sample as a graph.

    Attributes:
        graph: the calls; placeholders are the tensors among the sample's arguments.
        inputs: those tensors.
        expected: what eager PyTorch gives, the tensors in order.
        undefined: whether the contents are whatever the memory held.
    """

    graph: GraphModule
    inputs: list[torch.Tensor]
    expected: list[torch.Tensor]
    undefined: bool = False


@functools.lru_cache(maxsize=1)
def operators() -> dict[str, Any]:
    """Every OpInfo by its full name (variants have one of their own)."""
    from torch.testing._internal.common_methods_invocations import op_db

    out: dict[str, Any] = {}
    for info in op_db:
        name = f"{info.name}.{info.variant_test_name}" if info.variant_test_name else info.name
        out.setdefault(name, info)
    return out


@functools.lru_cache(maxsize=1)
def core_operators() -> set[str]:
    """Names of the operators of core ATen, without their overloads: ``add``, ``native_layer_norm``."""
    found = set()
    for name in dir(torch.ops.aten):
        packet = getattr(torch.ops.aten, name)
        if isinstance(packet, torch._ops.OpOverloadPacket):
            overloads = [getattr(packet, o) for o in packet.overloads()]
            if any(torch.Tag.core in o.tags for o in overloads):
                found.add(name)
    return found


SAMPLED_AS = {
    "_cdist_forward": ("cdist",),
    "_fft_c2r": ("fft.irfft", "fft.irfft2", "fft.irfftn"),
    "_fft_r2c": ("fft.rfft", "fft.rfft2", "fft.rfftn"),
    "_log_softmax": ("log_softmax",),
    "_pdist_forward": ("nn.functional.pdist",),
    "_softmax": ("softmax",),
    "_to_copy": ("to",),
    "constant_pad_nd": ("nn.functional.pad.constant",),
    "convolution": tuple(f"nn.functional.conv{kind}{n}d" for kind in ("", "_transpose") for n in (1, 2, 3)),
    "native_dropout": ("nn.functional.dropout",),
    "reflection_pad1d": ("nn.functional.pad.reflect",),
    "replication_pad2d": ("nn.functional.pad.replicate",),
    "upsample_bilinear2d": ("nn.functional.interpolate.bilinear", "nn.functional.upsample_bilinear"),
    "upsample_nearest2d": ("nn.functional.interpolate.nearest", "nn.functional.upsample_nearest"),
}
"""Operators of core ATen whose samples go by other names."""


def base_name(operator: str) -> str:
    """The ATen name of an OpInfo, as far as it has one."""
    return operator.partition(".")[0] if not operator.startswith("nn.functional.") else operator.split(".")[2]


@functools.lru_cache(maxsize=1)
def _core_samples() -> frozenset[str]:
    return frozenset(name for names in SAMPLED_AS.values() for name in names)


def is_core(operator: str) -> bool:
    """Whether the samples are those of an operator of core ATen."""
    return operator in _core_samples() or base_name(operator) in core_operators()


def samples(operator: str, dtype: str) -> list[Any]:
    """The samples of an operator, none where it does not take the dtype."""
    info, kind = operators()[operator], getattr(torch, dtype)
    if kind not in info.supported_dtypes("cpu"):
        return []
    torch.manual_seed(SEED)
    return list(info.sample_inputs("cpu", kind, requires_grad=False))


@contextlib.contextmanager
def capturing() -> Iterator[Callable[[str, Any], Captured]]:
    """A function that captures a sample of an operator; composite operators with rows stay whole meanwhile."""
    composites, decompositions = _split_decomp_table_to_cia_and_python_decomp(dict(export_decompositions()))
    with (
        torch.no_grad(),
        quiet(),
        _override_composite_implicit_decomp(composites),
        enable_python_dispatcher(),
    ):
        yield functools.partial(_capture, decompositions)


def _capture(decompositions: Any, operator: str, sample: Any) -> Captured:
    flat, tree = pytree.tree_flatten((sample.input, sample.args, sample.kwargs))
    places = [i for i, leaf in enumerate(flat) if isinstance(leaf, torch.Tensor)]
    info = operators()[operator]

    def call(*tensors: torch.Tensor) -> list[torch.Tensor]:
        leaves = list(flat)
        for place, tensor in zip(places, tensors, strict=True):
            leaves[place] = tensor
        first, args, kwargs = pytree.tree_unflatten(leaves, tree)
        results = info(first, *args, **kwargs)
        if operator in AMBIGUOUS:
            results = sample.output_process_fn_grad(results)
        return [t for t in pytree.tree_leaves(results) if isinstance(t, torch.Tensor)]

    inputs = [flat[i] for i in places]
    torch.manual_seed(SEED)
    expected = [t.clone() for t in call(*[t.clone() for t in inputs])]
    graph = make_fx(
        dispatch_functionalize(call, FunctionalTensorMode(_allow_token_discovery=True)),
        decomposition_table=decompositions,
        tracing_mode="fake",
        _allow_non_fake_inputs=True,
    )(*inputs)
    tokens = sum(node.op == "placeholder" for node in graph.graph.nodes) - len(inputs)
    return Captured(graph, [*inputs, *[torch.empty(0)] * tokens], expected, operator in UNDEFINED)


def arrays(tensors: Sequence[torch.Tensor]) -> list[np.ndarray[Any, Any]]:
    """Tensors as contiguous arrays; complex ones as pairs in a last axis."""
    real = [torch.view_as_real(t.resolve_conj()) if t.is_complex() else t for t in tensors]
    return [np.ascontiguousarray(array_of(t)).reshape(tuple(t.shape)) for t in real]
