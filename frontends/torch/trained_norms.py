"""Batch norms that are trained: the batch's statistics in a step, running ones for later."""

from __future__ import annotations

from torch import Tensor, fx, nn
from torch.nn import functional as F

from aino_ir.frontends.torch.export.functions.normalization import batch_norm
from aino_ir.frontends.torch.fake_quantization import given_to, tensor_at

MOMENTUM = 0.1
"""What a step counts in the running statistics, as in `torch.nn.BatchNorm2d`."""


class TrainedNorm(nn.Module):
    """A batch norm in training, as `torch.nn.functional.batch_norm` has it.

    Where a channel has a single value, a batch tells nothing: the statistics are used, and stay as they are.

    Attributes:
        mean, variance: running statistics of each channel.
    """

    mean: Tensor
    variance: Tensor

    def __init__(self, mean: Tensor, variance: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean.clone())
        self.register_buffer("variance", variance.clone())

    def forward(self, x: Tensor, scale: Tensor, bias: Tensor, epsilon: float, axis: int) -> Tensor:
        """Normalised by what the batch has."""
        first = x.movedim(axis, 1)
        training = first.numel() > first.shape[1]
        y = F.batch_norm(first, self.mean, self.variance, scale, bias, training, MOMENTUM, epsilon)
        return y.movedim(1, axis)


def train_norms(network: fx.GraphModule) -> dict[int, TrainedNorm]:
    """Put norms in training where a network has ones with constant statistics.

    Returns:
        Id of the op that a norm was written for -> the norm.
    """
    out: dict[int, TrainedNorm] = {}
    for node in list(network.graph.nodes):
        if node.op != "call_function" or node.target is not batch_norm:
            continue
        given = given_to(node)
        statistics = given.pop("mean"), given.pop("variance")
        if any(v.op != "get_attr" for v in statistics):
            continue
        op = node.meta["op"]
        name = f"trained_norm_{op}"
        if op not in out:  # an op of a function that is called twice is written twice
            out[op] = TrainedNorm(*(tensor_at(network, str(v.target)) for v in statistics))
            network.add_submodule(name, out[op])
        with network.graph.inserting_before(node):
            new = network.graph.call_module(name, (), given)
        node.replace_all_uses_with(new)
        network.graph.erase_node(node)
    network.graph.eliminate_dead_code()
    network.recompile()
    return out
