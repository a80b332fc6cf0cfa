"""What torch calls for ``backend="aino"``: AOTAutograd makes functional graphs, AINO compiles them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from functorch.compile import make_boxed_func, min_cut_rematerialization_partition
from torch._dynamo.backends.common import aot_autograd
from torch._dynamo.eval_frame import innermost_fn
from torch._guards import TracingContext
from torch.fx import GraphModule

from aino_ir.driver.dynamo.options import DynamoOptions
from aino_ir.driver.dynamo.partition import native_parts
from aino_ir.frontends.torch.capture import graph_decompositions


def backend(
    graph: GraphModule, example_inputs: Sequence[Any], options: Mapping[str, Any] | None = None, **_: Any
) -> Callable[..., Any]:
    """The backend ``aino`` of `torch.compile`.

    Graphs for inference hold parameters as packed constants; graphs of training take them as inputs,
    forward and backward.  What AINO has no lowering for stays with torch and is logged once.

    Args:
        graph: what Dynamo captured.
        example_inputs: of the graph.
        options: see `DynamoOptions`.

    Raises:
        UnknownDynamoOption, WrongDynamoOption: an option is none of ours.
    """
    chosen = DynamoOptions.of(options)
    # AOTAutograd keeps Dynamo off what it made, and so does Dynamo itself: once is enough for each call
    compiler = aot_autograd(
        fw_compiler=partial(_compile, options=chosen, static=False),
        bw_compiler=partial(_compile, options=chosen, static=False),
        inference_compiler=partial(_compile, options=chosen, static=True),
        decompositions=_decompositions(),
        partition_fn=min_cut_rematerialization_partition,
    )
    return innermost_fn(compiler(graph, example_inputs))


def _decompositions() -> dict[Any, Callable[..., Any]]:
    """What torch takes apart; random calls stay whole, so that they draw from eager's stream of numbers."""
    seeded = torch.Tag.nondeterministic_seeded
    return {op: rule for op, rule in graph_decompositions().items() if seeded not in getattr(op, "tags", ())}


def _compile(
    graph: GraphModule, example_inputs: Sequence[Any], *, options: DynamoOptions, static: bool
) -> Callable[..., Any]:
    """A functional graph as a callable of its flat inputs."""
    context = TracingContext.try_get()
    meta = context.fw_metadata if context is not None else None
    fixed = list(meta.static_input_indices) if static and meta is not None else []
    tensors = [i for i in fixed if isinstance(example_inputs[i], torch.Tensor)]
    return make_boxed_func(native_parts(graph, tensors, options, aliases=static))  # type: ignore[no-any-return]
