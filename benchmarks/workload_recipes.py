"""The recipes of the reference networks: architecture, sizes and inputs, as published and small."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Recipe:
    """How to build one network.

    Attributes:
        config: class name of the configuration in `transformers`.
        model: class name of the network in `transformers`.
        inputs: name of the input maker in `INPUTS` and its arguments.
        outputs: fields of the network's result that are exported, in order.
        options: keyword arguments of the configuration.
        part: attribute path of the submodule that is exported; empty for the whole network.
    """

    config: str
    model: str
    inputs: tuple[str, dict[str, Any]]
    outputs: tuple[str, ...]
    options: dict[str, Any] = field(default_factory=dict)
    part: str = ""


def _image(size: int, **options: Any) -> tuple[str, dict[str, Any]]:
    return "image", {"size": size, **options}


_STRONG = {"initializer_range": 0.15}
"""Wide enough that the batch norms' epsilon does not swallow the signal of depthwise layers."""

_EFFICIENTNET_B0 = {
    "width_coefficient": 1.0,
    "depth_coefficient": 1.0,
    "hidden_dim": 1280,
    "image_size": 224,
    **_STRONG,
}
_EFFICIENTNET_SMALL = {
    "width_coefficient": 0.5,
    "depth_coefficient": 0.34,
    "hidden_dim": 640,
    "image_size": 64,
    "num_labels": 10,
    **_STRONG,
}
_GPT2_TOKENS = {"bos_token_id": 0, "eos_token_id": 0}
_NARROW = {"hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 256}

RECIPES: dict[str, Recipe] = {
    "resnet50": Recipe(
        "ResNetConfig", "ResNetForImageClassification", _image(224), ("logits",), {"num_labels": 1000}
    ),
    "mobilenet_v2": Recipe(
        "MobileNetV2Config",
        "MobileNetV2ForImageClassification",
        _image(224),
        ("logits",),
        {"num_labels": 1001, **_STRONG},
    ),
    "efficientnet_b0": Recipe(
        "EfficientNetConfig",
        "EfficientNetForImageClassification",
        _image(224),
        ("logits",),
        {**_EFFICIENTNET_B0, "num_labels": 1000},
    ),
    "convnext_tiny": Recipe(
        "ConvNextConfig",
        "ConvNextForImageClassification",
        _image(224),
        ("logits",),
        {"num_labels": 1000, "layer_scale_init_value": 0.3},
    ),
    "vit_b16": Recipe(
        "ViTConfig",
        "ViTForImageClassification",
        _image(224),
        ("logits",),
        {"num_labels": 1000, "initializer_range": 0.05},
    ),
    "bert_base": Recipe(
        "BertConfig",
        "BertModel",
        ("text", {"length": 128, "vocabulary": 30522, "padding": 16}),
        ("last_hidden_state", "pooler_output"),
        {"initializer_range": 0.05},
    ),
    "gpt2": Recipe(
        "GPT2Config",
        "GPT2LMHeadModel",
        ("tokens", {"length": 128, "vocabulary": 50257}),
        ("logits",),
        {"initializer_range": 0.05, "use_cache": False},
    ),
    "whisper_tiny_encoder": Recipe(
        "WhisperConfig",
        "WhisperModel",
        ("spectrogram", {"bins": 80, "frames": 3000}),
        ("last_hidden_state",),
        {"init_std": 0.05, "num_mel_bins": 80},
        part="encoder",
    ),
}
"""The eight networks of the benchmark, at the size their authors published."""

SMALL_RECIPES: dict[str, Recipe] = {
    "resnet50_small": Recipe(
        "ResNetConfig",
        "ResNetForImageClassification",
        _image(64),
        ("logits",),
        {"embedding_size": 16, "hidden_sizes": [32, 64, 96, 128], "depths": [1, 1, 2, 1], "num_labels": 10},
    ),
    "mobilenet_v2_small": Recipe(
        "MobileNetV2Config",
        "MobileNetV2ForImageClassification",
        _image(64),
        ("logits",),
        {"depth_multiplier": 0.5, "image_size": 64, "num_labels": 10, **_STRONG},
    ),
    "efficientnet_b0_small": Recipe(
        "EfficientNetConfig",
        "EfficientNetForImageClassification",
        _image(64),
        ("logits",),
        _EFFICIENTNET_SMALL,
    ),
    "convnext_tiny_small": Recipe(
        "ConvNextConfig",
        "ConvNextForImageClassification",
        _image(64),
        ("logits",),
        {
            "depths": [1, 1, 2, 1],
            "hidden_sizes": [24, 48, 96, 192],
            "num_labels": 10,
            "layer_scale_init_value": 0.3,
        },
    ),
    "vit_b16_small": Recipe(
        "ViTConfig",
        "ViTForImageClassification",
        _image(64),
        ("logits",),
        {**_NARROW, "image_size": 64, "num_labels": 10, "initializer_range": 0.1},
    ),
    "bert_base_small": Recipe(
        "BertConfig",
        "BertModel",
        ("text", {"length": 32, "vocabulary": 1000, "padding": 5}),
        ("last_hidden_state", "pooler_output"),
        {**_NARROW, "vocab_size": 1000, "initializer_range": 0.1},
    ),
    "gpt2_small": Recipe(
        "GPT2Config",
        "GPT2LMHeadModel",
        ("tokens", {"length": 32, "vocabulary": 1000}),
        ("logits",),
        {
            "n_embd": 128,
            "n_layer": 2,
            "n_head": 2,
            "vocab_size": 1000,
            **_GPT2_TOKENS,
            "initializer_range": 0.1,
            "use_cache": False,
        },
    ),
    "whisper_tiny_encoder_small": Recipe(
        "WhisperConfig",
        "WhisperModel",
        ("spectrogram", {"bins": 80, "frames": 200}),
        ("last_hidden_state",),
        {
            "d_model": 64,
            "encoder_layers": 2,
            "encoder_attention_heads": 2,
            "encoder_ffn_dim": 128,
            "max_source_positions": 100,
            "decoder_layers": 1,
            "decoder_attention_heads": 2,
            "vocab_size": 1000,
            "pad_token_id": 0,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "decoder_start_token_id": 1,
            "init_std": 0.1,
        },
        part="encoder",
    ),
}
"""The same architectures, small enough for tests that run in seconds."""
