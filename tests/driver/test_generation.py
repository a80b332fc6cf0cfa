"""Token by token: models of transformers whose StaticCache is exported as state generate what eager generates."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import aino_ir as aino
from benchmarks.torch_zoo_models import ZOO

TOKENS = 64
"""Tokens that are generated."""

PROMPT = [5, 17, 42]

GAP = 1e-4
"""Eager's two best logits lie at least this far apart where a different token counts as wrong."""


class Step(nn.Module):
    """Logits behind one token at one position; keys and values of those before are buffers."""

    def __init__(self, model: Any, length: int) -> None:
        super().__init__()
        from transformers import StaticCache

        config = model.config
        heads = getattr(config, "num_key_value_heads", config.num_attention_heads)
        self.model = model
        self.cache = StaticCache(max_cache_len=length, config=config)
        width = config.hidden_size // config.num_attention_heads
        self.cache.early_initialization(1, heads, width, torch.float32, torch.device("cpu"))
        for i, layer in enumerate(self.cache.layers):
            self.register_buffer(f"keys_{i}", layer.keys)
            self.register_buffer(f"values_{i}", layer.values)
            self.register_buffer(f"length_{i}", layer.cumulative_length)

    def forward(self, token: torch.Tensor, position: torch.Tensor) -> torch.Tensor:
        for i, layer in enumerate(self.cache.layers):  # as torch.export sees the buffers
            layer.keys, layer.values = getattr(self, f"keys_{i}"), getattr(self, f"values_{i}")
            layer.cumulative_length = getattr(self, f"length_{i}")
        made = self.model(
            input_ids=token,
            position_ids=position.unsqueeze(0),
            past_key_values=self.cache,
            use_cache=True,
        )
        return made.logits[:, -1]


def model_of(name: str) -> Any:
    """A small model with random weights that are large enough to make a choice."""
    import transformers

    entry = ZOO[name]
    torch.manual_seed(0)
    options = {**entry.options, "use_cache": True, "initializer_range": 0.4}
    options.update({"n_positions": 128} if name == "gpt2" else {"max_position_embeddings": 128})
    config = getattr(transformers, entry.config)(**options)
    return getattr(transformers, entry.model)(config).eval()


def eager_tokens(model: Any) -> tuple[list[int], list[float]]:
    """Greedy tokens of the whole context at once, without a cache, and the gaps between the two best logits."""
    tokens, gaps = list(PROMPT), []
    with torch.no_grad():
        for _ in range(TOKENS):
            logits = model(input_ids=torch.tensor([tokens]), use_cache=False).logits[0, -1]
            best = logits.topk(2).values
            gaps.append(float(best[0] - best[1]))
            tokens.append(int(logits.argmax()))
    return tokens[len(PROMPT) :], gaps


def steps_of(name: str, target: str) -> tuple[Any, Any]:
    """A model, and its step compiled."""
    model = model_of(name)
    step = Step(model, len(PROMPT) + TOKENS).eval()
    example = (torch.tensor([[PROMPT[0]]]), torch.tensor([0]))
    return model, aino.compile(aino.load(step, example), target, threads=1)


def generated(executable: Any) -> list[int]:
    """Greedy tokens of a compiled step."""
    tokens = list(PROMPT)
    for position in range(len(PROMPT) + TOKENS - 1):
        token = np.array([[tokens[position]]], np.int64)
        (logits,) = executable.run(token, np.array([position], np.int64))
        if position >= len(PROMPT) - 1:
            tokens.append(int(np.asarray(logits)[0].argmax()))
    return tokens[len(PROMPT) :]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "target"), [("gpt2", "c"), ("llama", "c"), ("llama", "reference")])
def test_greedy_tokens_are_those_of_eager(name: str, target: str) -> None:
    model, executable = steps_of(name, target)
    wanted, gaps = eager_tokens(model)
    assert len(set(wanted)) > 5
    for place, (got, want) in enumerate(zip(generated(executable), wanted, strict=True)):
        if got != want:
            assert gaps[place] < GAP, f"token {place}: {got} instead of {want}, gap {gaps[place]:.1e}"
            break  # the contexts differ from here on


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_each_token_costs_the_same_and_caches_stay_in_place(name: str) -> None:
    model, executable = steps_of(name, "c")
    report = executable.report
    assert not report.python_nodes
    assert isinstance(report.arena_bytes, int) and isinstance(report.flops, int)
    counts = []
    for position in (0, 1, 40):
        token = np.array([[7]], np.int64)
        rows = executable.profile(token, np.array([position], np.int64), runs=1).rows
        counts.append(len(rows))
        executable.run(token, np.array([position], np.int64))
    assert len(set(counts)) == 1
    cache = (len(PROMPT) + TOKENS) * model.config.hidden_size * 4
    copied = [int(k["bytes"]) for k in report.kernels if k["kernel"].startswith("copy")]
    assert not [size for size in copied if size >= cache // 4], "caches are written where they lie"
