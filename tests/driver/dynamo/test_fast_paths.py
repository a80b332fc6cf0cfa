"""PyTorch's fast paths of transformers in evaluation mode are taken apart and run natively."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from tests.driver.dynamo.tools import by_aino, close

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")

PADDED = torch.tensor([[False] * 6, [False] * 4 + [True] * 2])
LATER = torch.ones(6, 6).triu(1).bool()
MASKS: dict[str, dict[str, Any]] = {
    "none": {},
    "padding": {"src_key_padding_mask": PADDED},
    "causal": {"src_mask": LATER},
    "both": {"src_mask": LATER, "src_key_padding_mask": PADDED},
}
REFERENCE = {"options": {"target": "reference"}, "fullgraph": True}


def layer(norm_first: bool, activation: str) -> nn.TransformerEncoderLayer:
    torch.manual_seed(0)
    made = nn.TransformerEncoderLayer(
        16, 4, 32, batch_first=True, norm_first=norm_first, activation=activation
    )
    return made.eval()


@pytest.mark.parametrize("masks", MASKS)
@pytest.mark.parametrize(("norm_first", "activation"), [(False, "relu"), (True, "gelu")])
def test_an_encoder_layer_is_one_native_graph(
    masks: str, norm_first: bool, activation: str, compiled: list[Any]
) -> None:
    model, x = layer(norm_first, activation), torch.randn(2, 6, 16)
    with torch.no_grad():
        got = by_aino(model, **REFERENCE)(x, **MASKS[masks])
        close(got, model(x, **MASKS[masks]))
    assert len(compiled) == 1
    assert [op.name for op in compiled[0].main.walk()].count("normalize.layer_norm") == 2


def test_rows_that_see_no_key_are_nan_as_eagers(compiled: list[Any]) -> None:
    model, x = layer(False, "relu"), torch.randn(2, 6, 16)
    nothing = torch.tensor([[False] * 6, [True] * 6])
    with torch.no_grad():
        got = by_aino(model, **REFERENCE)(x, src_key_padding_mask=nothing)
        want = model(x, src_key_padding_mask=nothing)
    assert want[1].isnan().all() and not want[0].isnan().any()
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5, equal_nan=True)
    assert len(compiled) == 1


@pytest.mark.parametrize(("weights", "average"), [(False, True), (True, True), (True, False)])
@pytest.mark.parametrize("kind", [None, 0, 1, 2])
def test_attention_of_every_kind_of_mask(
    kind: int | None, weights: bool, average: bool, compiled: list[Any]
) -> None:
    torch.manual_seed(0)
    x, attention = torch.randn(2, 6, 16), nn.MultiheadAttention(16, 4, batch_first=True).eval()
    of_heads = torch.rand(2, 4, 6, 6) > 0.7
    of_heads[..., 0] = False
    mask = {None: None, 0: LATER, 1: PADDED, 2: of_heads}[kind]

    def attend(x: torch.Tensor) -> Any:
        return torch._native_multi_head_attention(
            x,
            x,
            x,
            16,
            4,
            attention.in_proj_weight,
            attention.in_proj_bias,
            attention.out_proj.weight,
            attention.out_proj.bias,
            mask,
            weights,
            average,
            kind,
        )

    with torch.no_grad():
        got, shown = by_aino(attend, **REFERENCE)(x)
        want, wanted = attend(x)
    close(got, want)
    assert (shown is not None) is weights
    if weights:
        close(shown, wanted)
    assert len(compiled) == 1


def test_an_encoder_layer_in_c(compiled: list[Any]) -> None:
    model, x = layer(True, "gelu"), torch.randn(2, 6, 16)
    with torch.no_grad():
        close(
            by_aino(model, fullgraph=True)(x, src_key_padding_mask=PADDED),
            model(x, src_key_padding_mask=PADDED),
        )
    assert len(compiled) == 1


def test_an_encoder_is_what_dynamo_makes_of_it() -> None:
    """Eager's nested tensors put zeros where padding is; no backend sees them."""
    model = nn.TransformerEncoder(layer(False, "relu"), 2).eval()
    x = torch.randn(2, 6, 16)
    with torch.no_grad():
        got = by_aino(model, options={"target": "reference"})(x, src_key_padding_mask=PADDED)
        want = model(x, src_key_padding_mask=PADDED)
        traced = torch.compile(model, backend="eager")(x, src_key_padding_mask=PADDED)
    close(got, traced)
    close(got[~PADDED], want[~PADDED])
