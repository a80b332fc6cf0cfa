"""Token by token: models of transformers whose StaticCache is exported as state generate what eager generates."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import aino_ir as aino
from benchmarks.generation import Step
from benchmarks.torch_zoo_models import ZOO

TOKENS = 64
"""Tokens that are generated."""

LONGEST_PROMPT = 8

GAP = 1e-4
"""Eager's two best logits lie at least this far apart where a different token counts as wrong."""


def model_of(name: str) -> Any:
    """A small model with random weights that are large enough to make a choice."""
    import transformers

    entry = ZOO[name]
    torch.manual_seed(0)
    options = {**entry.options, "use_cache": True, "initializer_range": 0.4}
    options.update({"n_positions": 128} if name == "gpt2" else {"max_position_embeddings": 128})
    config = getattr(transformers, entry.config)(**options)
    return getattr(transformers, entry.model)(config).eval()


def prompts_of(batch: int) -> torch.Tensor:
    """Prompts [batch, n] of a length that is drawn, as their tokens are."""
    drawn = torch.Generator().manual_seed(batch)
    length = int(torch.randint(2, LONGEST_PROMPT + 1, (), generator=drawn))
    return torch.randint(1, 60, (batch, length), generator=drawn)


def eager_tokens(model: Any, prompts: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Greedy tokens of the whole context at once, without a cache, and the gaps between the two best logits.

    Both are [batch, tokens].
    """
    tokens, gaps = prompts, []
    with torch.no_grad():
        for _ in range(TOKENS):
            logits = model(input_ids=tokens, use_cache=False).logits[:, -1]
            best = logits.topk(2).values
            gaps.append(best[:, 0] - best[:, 1])
            tokens = torch.cat([tokens, logits.argmax(-1, keepdim=True)], 1)
    return tokens[:, prompts.shape[1] :], torch.stack(gaps, 1)


def steps_of(name: str, target: str, batch: int = 1) -> tuple[Any, Any]:
    """A model, and its step compiled."""
    model = model_of(name)
    step = Step(model, LONGEST_PROMPT + TOKENS, batch).eval()
    example = (torch.ones(batch, 1, dtype=torch.int64), torch.tensor([0]))
    return model, aino.compile(aino.load(step, example), target, threads=1)


def generated(executable: Any, prompts: torch.Tensor) -> np.ndarray:
    """Greedy tokens [batch, tokens] of a compiled step."""
    tokens, length = prompts.numpy(), prompts.shape[1]
    for position in range(length + TOKENS - 1):
        token = np.ascontiguousarray(tokens[:, position : position + 1])
        (logits,) = executable.run(token, np.array([position], np.int64))
        if position >= length - 1:
            best = np.asarray(logits).argmax(-1)[:, None].astype(np.int64)
            tokens = np.concatenate([tokens, best], 1)
    return tokens[:, length:]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "target", "batch"), [("gpt2", "c", 1), ("llama", "c", 2), ("llama", "reference", 1)]
)
def test_greedy_tokens_are_those_of_eager(name: str, target: str, batch: int) -> None:
    model, executable = steps_of(name, target, batch)
    prompts = prompts_of(batch)
    wanted, gaps = eager_tokens(model, prompts)
    for row, gap, made in zip(wanted, gaps, generated(executable, prompts), strict=True):
        assert len(set(row.tolist())) > 5
        for place, (got, want) in enumerate(zip(made.tolist(), row.tolist(), strict=True)):
            if got != want:
                assert gap[place] < GAP, f"token {place}: {got} instead of {want}, gap {gap[place]:.1e}"
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
    cache = (LONGEST_PROMPT + TOKENS) * model.config.hidden_size * 4
    copied = [int(k["bytes"]) for k in report.kernels if k["kernel"].startswith("copy")]
    assert not [size for size in copied if size >= cache // 4], "caches are written where they lie"
