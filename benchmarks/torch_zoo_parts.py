"""What the entries of the zoo share: an entry, small sizes, inputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

WORDS = 99
"""Tokens of every vocabulary."""


@dataclass(frozen=True)
class Entry:
    """One architecture.

    Attributes:
        model: class of transformers.
        config: class of its configuration.
        options: what the configuration is made with.
        inputs: name -> (kind, shape): "tokens", "floats", "ones" (a mask) or "observed" (ones as floats).
    """

    model: str
    config: str
    options: dict[str, Any]
    inputs: dict[str, tuple[str, tuple[int, ...]]]


SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
TEXT = {"vocab_size": WORDS, "max_position_embeddings": 64, **SMALL}
DECODER = {**TEXT, "use_cache": False}
GROUPED = {**DECODER, "num_key_value_heads": 2}
VISION = {"image_size": 32, "patch_size": 8, **SMALL}
STAGES = {"hidden_sizes": [8, 16], "depths": [1, 2]}
WINDOWS = {"image_size": 32, "patch_size": 2, "embed_dim": 16, "depths": [2, 2], "num_heads": [2, 4]}
ENCODER_DECODER = {
    "vocab_size": WORDS,
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
}
WAVES = {
    "conv_dim": [16, 16],
    "conv_stride": [4, 4],
    "conv_kernel": [8, 4],
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 4,
}
TOWERS = {
    "text_config": {"vocab_size": WORDS, "max_position_embeddings": 32, **SMALL},
    "vision_config": VISION,
}

RESIDUAL = {
    "model_type": "resnet",
    "hidden_sizes": [8, 16, 16, 32],
    "depths": [1, 1, 1, 1],
    "embedding_size": 8,
    "out_features": ["stage4"],
}
QUERIES = {
    **{k: v for k, v in ENCODER_DECODER.items() if k != "vocab_size"},
    "encoder_layers": 1,
    "decoder_layers": 1,
    "use_timm_backbone": False,
    "use_pretrained_backbone": False,
    "backbone": None,
    "backbone_config": RESIDUAL,
    "num_queries": 5,
    "num_labels": 3,
}
PYRAMID = {"depths": [1, 1, 1, 1], "hidden_sizes": [8, 8, 16, 16]}

TOKENS = {"input_ids": ("tokens", (2, 9))}
MASKED = {**TOKENS, "attention_mask": ("ones", (2, 9))}
PAIR = {**TOKENS, "decoder_input_ids": ("tokens", (2, 5))}
IMAGE = {"pixel_values": ("floats", (2, 3, 32, 32))}
LARGE_IMAGE = {"pixel_values": ("floats", (2, 3, 64, 64))}
SOUND = {"input_values": ("floats", (2, 400))}


def entry(
    stem: str, options: dict[str, Any], inputs: dict[str, Any], kind: str = "Model", config: str = ""
) -> Entry:
    """An entry of ``StemKind`` and its configuration, `config` being that of another stem."""
    return Entry(f"{stem}{kind}", f"{config or stem}Config", options, inputs)


CAUSAL = "ForCausalLM"

DETECTED = {"pixel_values": ("floats", (1, 3, 64, 64))}
