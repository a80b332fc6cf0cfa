"""Recurrent layers are captured as one operator each: any length, no walk through the steps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch._decomp import decomposition_table

import aino_ir as aino
from aino_ir.frontends.torch.capture import decomposed, export_module
from aino_ir.frontends.torch.recurrence_shapes import SHAPES, untouched_recurrences
from aino_ir.interp import run_function


class Sequence(nn.Module):
    """A recurrent layer, of which the output and the last states are results."""

    def __init__(self, kind: type[nn.Module], **options: Any) -> None:
        super().__init__()
        self.layer = kind(5, 7, **options)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        output, last = self.layer(x)
        return output, *(last if isinstance(last, tuple) else (last,))


LAYERS = {
    "lstm": (nn.LSTM, {}),
    "lstm of two layers in both directions": (nn.LSTM, {"num_layers": 2, "bidirectional": True}),
    "gru, batch first": (nn.GRU, {"batch_first": True}),
    "tanh": (nn.RNN, {"bidirectional": True}),
    "relu": (nn.RNN, {"nonlinearity": "relu", "bias": False}),
}


@pytest.mark.parametrize("name", LAYERS)
def test_a_dynamic_length_agrees_with_eager_for_every_length(name: str) -> None:
    kind, options = LAYERS[name]
    torch.manual_seed(0)
    model = Sequence(kind, **options).eval()
    axis = 1 if options.get("batch_first") else 0
    length = torch.export.Dim("length", min=2, max=64)
    example = torch.randn(4, 4, 5)
    module = aino.load(model, example_inputs=(example,), dynamic_shapes={"x": {axis: length}})
    for steps in (2, 9, 31):
        x = torch.randn(*((4, steps) if axis else (steps, 4)), 5)
        got = run_function(module.main, [x.numpy()])
        with torch.no_grad():
            wanted = model(x)
        for ours, eager in zip(got, wanted, strict=True):
            np.testing.assert_allclose(np.asarray(ours), eager.numpy(), atol=2e-6)


def test_the_number_of_operators_does_not_grow_with_the_length() -> None:
    def operators(steps: int) -> int:
        program = decomposed(export_module(Sequence(nn.LSTM).eval(), (torch.randn(steps, 2, 5),), None))
        return sum(node.op == "call_function" for node in program.graph.nodes)

    assert operators(50) == operators(3)


def test_the_rules_of_torch_are_put_back() -> None:
    def rules() -> list[Any]:
        return [dict(op.py_kernels) for op in SHAPES] + [decomposition_table.get(op) for op in SHAPES]

    before = rules()
    with pytest.raises(RuntimeError, match="inside"), untouched_recurrences():
        assert rules() != before
        raise RuntimeError("inside")
    assert rules() == before
