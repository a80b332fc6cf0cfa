"""Models that generate token by token, as one step: what torch exports of a model with a static cache."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


class Step(nn.Module):
    """Logits behind one token at one position; keys and values of those before are buffers."""

    def __init__(self, model: Any, length: int, batch: int) -> None:
        super().__init__()
        from transformers import StaticCache

        config: Any = model.config
        heads = getattr(config, "num_key_value_heads", config.num_attention_heads)
        self.model = model
        self.cache: Any = StaticCache(max_cache_len=length, config=config)
        width = config.hidden_size // config.num_attention_heads
        self.cache.early_initialization(batch, heads, width, torch.float32, torch.device("cpu"))
        layers: list[Any] = self.cache.layers
        for i, layer in enumerate(layers):
            self.register_buffer(f"keys_{i}", layer.keys)
            self.register_buffer(f"values_{i}", layer.values)
            self.register_buffer(f"length_{i}", layer.cumulative_length)

    def forward(self, token: torch.Tensor, position: torch.Tensor) -> torch.Tensor:
        """Logits [batch, vocabulary] of the next token, from `token` [batch, 1] at `position` [1]."""
        for i, layer in enumerate(self.cache.layers):  # as torch.export sees the buffers
            layer.keys, layer.values = getattr(self, f"keys_{i}"), getattr(self, f"values_{i}")
            layer.cumulative_length = getattr(self, f"length_{i}")
        made = self.model(
            input_ids=token,
            position_ids=position.unsqueeze(0),
            past_key_values=self.cache,
            use_cache=True,
        )
        logits: torch.Tensor = made.logits[:, -1]
        return logits
