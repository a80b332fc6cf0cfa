"""Random draws apart from what is computed with them, so that they do not cut a graph into pieces.

torch draws its own numbers, from its own generator, in its own order: `torch.manual_seed` gives what it
gives in eager.  Most draws need no more of a graph than the extents of their result.  Taken apart from
the arithmetic around them they can all be made before native code starts, in the order of the graph;
they are then inputs of it.  Draws whose parameters are computed stay where these are there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch._guards import detect_fake_mode
from torch.fx import GraphModule, Node, map_arg

from aino_ir.driver.dynamo.numbers import NumberNodes
from aino_ir.frontends.torch.subgraph import is_draw

aten = torch.ops.aten

PATTERNED = frozenset(
    {
        "aten.bernoulli.p",
        "aten.cauchy.default",
        "aten.exponential.default",
        "aten.geometric.default",
        "aten.log_normal.default",
        "aten.normal_functional.default",
        "aten.rand_like.default",
        "aten.randint_like.default",
        "aten.randint_like.low_dtype",
        "aten.randn_like.default",
        "aten.random.default",
        "aten.random.from",
        "aten.random.to",
        "aten.uniform.default",
    }
)
"""Draws that look at nothing of their first operand but its dtype and how it lies in memory."""


def is_drawing(node: Node) -> bool:
    """Whether a call takes numbers from a generator, or may do so inside."""
    if isinstance(node.target, torch._ops.HigherOrderOperator):
        return "rng" in str(node.target)
    return node.target is bernoulli_mask or is_draw(node)


def separate_draws(module: GraphModule) -> set[Node]:
    """Rewrite a graph so that draws depend on extents alone where they can.

    Returns:
        the draws and the empty tensors that they fill.
    """
    graph = module.graph
    draws = [n for n in graph.nodes if is_draw(n)]
    if not draws:
        return set()
    maker = _Maker(module)
    found: set[Node] = set()
    for node in draws:
        if node.target is aten.native_dropout.default:
            found.update(maker.dropout(node))
        elif node.target is aten.scaled_dot_product_attention.default:
            found.update(maker.attention(node))
        elif str(node.target) in PATTERNED:
            found.update(maker.patterned(node))
        else:
            found.add(node)
    graph.lint()
    return found


def bernoulli_mask(size: Sequence[int], stride: Sequence[int], p: float) -> torch.Tensor:
    """Truth values, true with probability p, drawn in the order of memory as eager's dropout does."""
    return torch.empty_strided(size, stride, dtype=torch.bool).bernoulli_(p)


class _Maker:
    """Puts nodes into a graph, with what torch knows about them."""

    def __init__(self, module: GraphModule) -> None:
        self.graph = module.graph
        self.numbers = NumberNodes(module.graph)
        values = [n.meta["val"] for n in module.graph.nodes if isinstance(n.meta.get("val"), torch.Tensor)]
        mode = detect_fake_mode(values)
        self.mode = mode if mode is not None else nullcontext()

    def patterned(self, node: Node) -> list[Node]:
        """A draw that fills an empty tensor instead of one that is like a computed one."""
        source = node.args[0]
        assert isinstance(source, Node)
        pattern = self.pattern(node, source.meta["val"])
        if pattern is None:
            return [node]
        node.args = (pattern, *node.args[1:])
        return [pattern, node]

    def dropout(self, node: Node) -> list[Node]:
        """x * mask / (1 - p) with a mask that is drawn apart."""
        x, p, train = (*node.args, None)[:3]
        assert isinstance(x, Node) and isinstance(p, (int, float))
        lies = None if train is False else self.lies(node, x.meta["val"])
        if lies is None:
            return [node]
        kept = 1.0 - p
        if kept == 0:  # eager draws nothing then
            drawn, mask = [], self.call(node, aten.zeros_like.default, x, dtype=torch.bool)
        else:
            mask = self.call(node, bernoulli_mask, *lies, kept)
            drawn = [mask]
        some = self.call(node, aten.mul.Tensor, x, mask)
        made = self.call(node, aten.mul.Tensor, some, 0.0 if kept == 0 else 1.0 / kept)
        for user in list(node.users):
            user.replace_all_uses_with((made, mask)[user.args[1]])  # type: ignore[index]
            self.graph.erase_node(user)
        self.graph.erase_node(node)
        return drawn

    def attention(self, node: Node) -> list[Node]:
        """Attention with dropout as eager takes it apart on the CPU, the mask being drawn apart."""
        names = [a.name for a in node.target._schema.arguments]  # type: ignore[union-attr]
        given: dict[str, Any] = {"attn_mask": None, "is_causal": False, "scale": None, "enable_gqa": False}
        given |= {**dict(zip(names, node.args, strict=False)), **node.kwargs}
        query, key, value = (given[n] for n in ("query", "key", "value"))
        width = query.meta["val"].shape[-1]
        if not isinstance(width, int):
            return [node]
        scale = 1 / math.sqrt(max(width, 1)) if given["scale"] is None else given["scale"]
        if given["enable_gqa"]:
            repeats = query.meta["val"].shape[-3] // key.meta["val"].shape[-3]
            several = aten.repeat_interleave.self_int
            key, value = (self.call(node, several, v, repeats, -3) for v in (key, value))
        turned = self.call(node, aten.transpose.int, key, -2, -1)
        scores = self.call(node, aten.matmul.default, self.call(node, aten.mul.Tensor, query, scale), turned)
        hidden = given["attn_mask"]
        if given["is_causal"]:
            ones = self.call(node, aten.ones_like.default, scores, dtype=torch.bool)
            hidden = self.call(node, aten.tril.default, ones)
        if hidden is not None and hidden.meta["val"].dtype is torch.bool:
            never = self.call(node, aten.full_like.default, scores, -math.inf)
            scores = self.call(node, aten.where.self, hidden, scores, never)
        elif hidden is not None:
            scores = self.call(node, aten.add.Tensor, scores, hidden)
        softmax = aten._softmax.default if hidden is None else aten._safe_softmax.default
        shares = self.call(node, softmax, scores, -1, *((False,) if hidden is None else ()))
        lies = self.lies(node, shares.meta["val"])
        if lies is None:
            return [node]
        kept = 1.0 - given["dropout_p"]
        mask = self.call(node, bernoulli_mask, *lies, kept)
        some = self.call(node, aten.mul.Tensor, shares, mask)
        some = self.call(node, aten.mul.Tensor, some, 0.0 if kept == 0 else 1.0 / kept)
        node.replace_all_uses_with(self.call(node, aten.matmul.default, some, value))
        self.graph.erase_node(node)
        return [mask]

    def pattern(self, before: Node, like: torch.Tensor) -> Node | None:
        """An empty tensor that lies in memory as a computed one; None where nothing tells its extents."""
        lies = self.lies(before, like)
        if lies is None:
            return None
        return self.call(
            before, aten.empty_strided.default, *lies, dtype=like.dtype, device=torch.device("cpu")
        )

    def lies(self, before: Node, like: torch.Tensor) -> tuple[list[Any], list[Any]] | None:
        """Extents and strides of `empty_like` in eager."""
        with self.mode:
            fake = torch.empty_like(like)
        try:
            sizes = [self.numbers.number(e, before) for e in fake.shape]
            return sizes, [self.numbers.number(e, before) for e in fake.stride()]
        except KeyError:
            return None

    def call(self, before: Node, target: Callable[..., Any], *args: Any, **kwargs: Any) -> Node:
        """A call in front of a node."""
        with self.graph.inserting_before(before):
            made = self.graph.call_function(target, args, kwargs)
        with self.mode:
            made.meta["val"] = target(*map_arg(args, lambda n: n.meta["val"]), **kwargs)
        for key in ("stack_trace", "nn_module_stack", "source_fn_stack"):
            if key in before.meta:
                made.meta[key] = before.meta[key]
        return made
