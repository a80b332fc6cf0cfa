"""PyTorch's own samples of its operators (OpInfo) as graphs of ATen calls, with what eager PyTorch gives.

A case is one sample of one operator and dtype.  It is captured once, without Dynamo, in the form in which a
program reaches the lowering: functional, and with everything taken apart that has no row.
"""

from __future__ import annotations

import contextlib
import functools
import operator
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch._dispatch.python import enable_python_dispatcher
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException
from torch._subclasses.functional_tensor import FunctionalTensorMode, dispatch_functionalize
from torch.export.exported_program import (
    _override_composite_implicit_decomp,
    _split_decomp_table_to_cia_and_python_decomp,
)
from torch.fx import GraphModule, Interpreter, Node
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode
from torch.utils import _pytree as pytree

from aino_ir.driver.dynamo.draws import is_drawing, separate_draws
from aino_ir.frontends.torch.capture import export_decompositions, quiet
from aino_ir.frontends.torch.tensors import array_of

DTYPES = ("float32", "float64", "bfloat16", "int64", "bool")
"""Element types that the table has columns for."""

SEED = 0
"""Of the samples."""
CALL_SEED = 42
"""Of what calls draw; OpInfo's own wrappers of operators that draw set this one."""

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
    ("matrix_exp", "bfloat16"): "computed in f64 and rounded once; eager overflows in bf16",
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


@dataclass(frozen=True)
class Eager:
    """A call and what eager PyTorch gives for it.

    Attributes:
        call: gives a list of tensors for tensors.
    """

    call: Callable[..., list[torch.Tensor]]
    inputs: list[torch.Tensor]
    expected: list[torch.Tensor]
    undefined: bool = False

    @staticmethod
    def of(function: Callable[..., Any], inputs: Sequence[torch.Tensor], undefined: bool = False) -> Eager:
        """A function of tensors, run on copies of its inputs; of its results the tensors count."""

        def call(*tensors: torch.Tensor) -> list[torch.Tensor]:
            results = pytree.tree_leaves(function(*tensors))
            return [t for t in results if isinstance(t, torch.Tensor)]

        torch.manual_seed(CALL_SEED)
        with torch.no_grad():
            expected = [t.clone() for t in call(*[t.clone() for t in inputs])]
        return Eager(call, list(inputs), expected, undefined)

    @staticmethod
    def of_sample(operator: str, sample: Any) -> Eager:
        """A sample of an operator."""
        flat, tree = pytree.tree_flatten((sample.input, sample.args, sample.kwargs))
        places = [i for i, leaf in enumerate(flat) if isinstance(leaf, torch.Tensor)]
        info = operators()[operator]

        def call(*tensors: torch.Tensor) -> Any:
            leaves = list(flat)
            for place, tensor in zip(places, tensors, strict=True):
                leaves[place] = tensor
            first, args, kwargs = pytree.tree_unflatten(leaves, tree)
            results = info(first, *args, **kwargs)
            return sample.output_process_fn_grad(results) if operator in AMBIGUOUS else results

        return Eager.of(call, [flat[i] for i in places], operator in UNDEFINED)


Capture = Callable[[Eager], Captured]
"""Makes graphs of calls."""


def _captured(decompositions: Any, eager: Eager) -> Captured:
    """A call as a graph, with the operators taken apart that have no row."""
    try:
        graph = _traced(decompositions, eager)
    except (DataDependentOutputException, DynamicOutputShapeException, GuardOnDataDependentSymNode):
        graph = _traced(decompositions, eager, with_data=True)
        graph.graph.eliminate_dead_code()  # what only Python looked at
    given = [*eager.inputs, *[torch.empty(0)] * (_placeholders(graph) - len(eager.inputs))]
    return Captured(graph, [*given, *with_draws_given(graph, given)], eager.expected, eager.undefined)


def _traced(decompositions: Any, eager: Eager, with_data: bool = False) -> GraphModule:
    """The calls of a function; with data where Python decides by it, as eager does."""
    return make_fx(  # type: ignore[no-any-return]
        dispatch_functionalize(eager.call, FunctionalTensorMode(_allow_token_discovery=True)),
        decomposition_table=decompositions,
        tracing_mode="real" if with_data else "fake",
        _allow_non_fake_inputs=True,
        _error_on_data_dependent_ops=not with_data,
    )(*eager.inputs)


def _placeholders(graph: GraphModule) -> int:
    return sum(node.op == "placeholder" for node in graph.graph.nodes)


def with_draws_given(module: GraphModule, inputs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Random draws of a graph become inputs of it, as in torch.compile; gives what eager draws for them.

    Draws stay where their parameters are computed, or where nothing is computed with them.
    """
    graph = module.graph
    draws = [n for n in separate_draws(module) if is_drawing(n) and not _reads_inputs(n)]
    others = [n for n in graph.nodes if n.op == "call_function" and n not in draws]
    if not draws or all(n.target is operator.getitem or is_empty(n) for n in others):
        return []
    drawn = _Recorded(module, draws)
    torch.manual_seed(CALL_SEED)
    drawn.run(*inputs)
    last = [n for n in graph.nodes if n.op == "placeholder"][-1:]
    places = [n for n in graph.nodes if n in drawn.values]  # in the order of the graph
    for node in reversed(places):
        with graph.inserting_after(last[0]) if last else graph.inserting_before(next(iter(graph.nodes))):
            placeholder = graph.placeholder(f"drawn_{node.name}")
        placeholder.meta = dict(node.meta)
        node.replace_all_uses_with(placeholder)
        graph.erase_node(node)
    graph.eliminate_dead_code()
    module.recompile()
    return [drawn.values[n] for n in places]


def is_empty(node: Node) -> bool:
    """Whether a call makes a tensor whose contents do not matter."""
    return str(node.target).startswith("aten.empty")


def _reads_inputs(node: Node) -> bool:
    return any(n.op == "placeholder" or _reads_inputs(n) for n in node.all_input_nodes)


class _Recorded(Interpreter):
    """Runs a graph and keeps what some of its calls gave."""

    def __init__(self, module: GraphModule, wanted: Sequence[Node]) -> None:
        super().__init__(module)
        self.wanted = set(wanted)
        self.values: dict[Node, torch.Tensor] = {}

    def run_node(self, n: Node) -> Any:
        result = super().run_node(n)
        if n in self.wanted:
            self.values[n] = result.clone()
        return result


def whole_draws() -> dict[Any, Callable[..., Any]]:
    """What torch takes apart, but for operators that draw: these draw what they draw in eager."""
    seeded = torch.Tag.nondeterministic_seeded
    return {op: rule for op, rule in export_decompositions().items() if seeded not in getattr(op, "tags", ())}


@contextlib.contextmanager
def capturing() -> Iterator[Capture]:
    """Composite operators with rows stay whole meanwhile; entering takes a fifth of a second."""
    composites, decompositions = _split_decomp_table_to_cia_and_python_decomp(whole_draws())
    with (
        torch.no_grad(),
        quiet(),
        _override_composite_implicit_decomp(composites),
        enable_python_dispatcher(),
    ):
        yield functools.partial(_captured, decompositions)


def arrays(tensors: Sequence[torch.Tensor]) -> list[np.ndarray[Any, Any]]:
    """Tensors as contiguous arrays; complex ones as pairs in a last axis."""
    real = [torch.view_as_real(t.resolve_conj()) if t.is_complex() else t for t in tensors]
    return [np.ascontiguousarray(array_of(t)).reshape(tuple(t.shape)) for t in real]
