"""Small configurations of transformers' architectures: what `benchmarks.torch_zoo` builds and compares."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from benchmarks.torch_zoo_other import OTHER
from benchmarks.torch_zoo_parts import (
    CAUSAL,
    DECODER,
    DETECTED,
    ENCODER_DECODER,
    GROUPED,
    IMAGE,
    LARGE_IMAGE,
    MASKED,
    PAIR,
    PYRAMID,
    QUERIES,
    SMALL,
    SOUND,
    STAGES,
    TEXT,
    TOKENS,
    TOWERS,
    VISION,
    WAVES,
    WINDOWS,
    WORDS,
    Entry,
    entry,
)
from benchmarks.torch_zoo_text import LANGUAGE
from benchmarks.torch_zoo_vision import PICTURES

GAIN = 1.2
"""Standard deviation of random weights, times the root of the number of a result's terms."""

FIRST: dict[str, Entry] = {
    "albert": entry("Albert", {"vocab_size": WORDS, "embedding_size": 16, **SMALL}, TOKENS),
    "ast": entry(
        "AST",
        {
            "max_length": 48,
            "num_mel_bins": 24,
            "patch_size": 8,
            "frequency_stride": 8,
            "time_stride": 8,
            **SMALL,
        },
        {"input_values": ("floats", (2, 48, 24))},
    ),
    "bart": entry("Bart", {**ENCODER_DECODER, "max_position_embeddings": 64, "use_cache": False}, PAIR),
    "beit": entry("Beit", {**VISION, "use_relative_position_bias": True, "out_indices": [1]}, IMAGE),
    "bert": entry("Bert", TEXT, MASKED),
    "blip": entry(
        "Blip",
        {
            "text_config": {
                "vocab_size": WORDS,
                "encoder_hidden_size": 32,
                "max_position_embeddings": 32,
                "bos_token_id": 1,
                "eos_token_id": 1,
                "sep_token_id": 1,
                "pad_token_id": 0,
                **SMALL,
            },
            "vision_config": VISION,
            "projection_dim": 16,
        },
        {**TOKENS, **IMAGE},
    ),
    "bloom": entry(
        "Bloom",
        {"vocab_size": WORDS, "hidden_size": 32, "n_layer": 2, "n_head": 4, "use_cache": False},
        TOKENS,
        CAUSAL,
    ),
    "clip": entry("CLIP", {**TOWERS, "projection_dim": 16}, {**TOKENS, **IMAGE}),
    "conditional_detr": entry("ConditionalDetr", QUERIES, DETECTED, "ForObjectDetection"),
    "convnext": entry("ConvNext", {**STAGES, "num_stages": 2}, IMAGE),
    "convnextv2": entry("ConvNextV2", {**STAGES, "num_stages": 2}, IMAGE),
    "data2vec_audio": entry(
        "Data2VecAudio", {**WAVES, "num_feat_extract_layers": 2, "conv_pos_kernel_size": 5, **SMALL}, SOUND
    ),
    "deberta_v2": entry(
        "DebertaV2",
        {"vocab_size": WORDS, "relative_attention": True, "pos_att_type": ["p2c", "c2p"], **SMALL},
        MASKED,
    ),
    "deit": entry("DeiT", VISION, IMAGE),
    "detr": entry("Detr", QUERIES, DETECTED, "ForObjectDetection"),
    "dinov2": entry("Dinov2", VISION, IMAGE),
    "distilbert": entry(
        "DistilBert",
        {"vocab_size": WORDS, "dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64},
        TOKENS,
    ),
    "dpt": entry(
        "DPT",
        {
            **VISION,
            "num_hidden_layers": 4,
            "backbone_out_indices": [0, 1, 2, 3],
            "neck_hidden_sizes": [8, 8, 8, 8],
            "fusion_hidden_size": 8,
            "reassemble_factors": [4, 2, 1, 0.5],
            "is_hybrid": False,
        },
        IMAGE,
        "ForDepthEstimation",
    ),
    "electra": entry("Electra", {"vocab_size": WORDS, "embedding_size": 16, **SMALL}, TOKENS),
    "falcon": entry(
        "Falcon",
        {
            "vocab_size": WORDS,
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "use_cache": False,
        },
        TOKENS,
        CAUSAL,
    ),
    "focalnet": entry(
        "FocalNet",
        {
            "image_size": 32,
            "embed_dim": 16,
            "depths": [1, 1],
            "hidden_sizes": [16, 32],
            "focal_levels": [2, 2],
            "focal_windows": [3, 3],
        },
        IMAGE,
    ),
    "gemma": entry("Gemma", {**GROUPED, "head_dim": 8}, TOKENS, CAUSAL),
    "gemma2": entry("Gemma2", {**GROUPED, "head_dim": 8}, TOKENS, CAUSAL),
    "git": entry(
        "Git",
        {
            "vocab_size": WORDS,
            "max_position_embeddings": 32,
            "vision_config": VISION,
            "use_cache": False,
            **SMALL,
        },
        {**TOKENS, **IMAGE},
        CAUSAL,
    ),
    "gpt2": entry(
        "GPT2",
        {
            "vocab_size": WORDS,
            "n_embd": 32,
            "n_layer": 2,
            "n_head": 4,
            "n_positions": 64,
            "bos_token_id": 1,
            "eos_token_id": 1,
            "use_cache": False,
        },
        TOKENS,
        "LMHeadModel",
    ),
    "gpt_neox": entry("GPTNeoX", DECODER, TOKENS, CAUSAL),
    "hubert": entry("Hubert", {**WAVES, "num_feat_extract_layers": 2, **SMALL}, SOUND),
    "levit": entry(
        "Levit",
        {
            "image_size": 64,
            "hidden_sizes": [16, 24, 32],
            "num_attention_heads": [1, 2, 3],
            "depths": [1, 1, 1],
            "key_dim": [8, 8, 8],
        },
        LARGE_IMAGE,
    ),
    "llama": entry("Llama", GROUPED, TOKENS, CAUSAL),
    "mamba": entry(
        "Mamba",
        {
            "vocab_size": WORDS,
            "hidden_size": 32,
            "state_size": 8,
            "num_hidden_layers": 2,
            "use_cache": False,
        },
        TOKENS,
        CAUSAL,
    ),
    "mistral": entry("Mistral", {**GROUPED, "sliding_window": 4}, TOKENS, CAUSAL),
    "mixtral": entry("Mixtral", {**GROUPED, "num_local_experts": 4}, TOKENS, CAUSAL),
    "mobilenet_v2": entry("MobileNetV2", {"image_size": 32, "depth_multiplier": 0.25}, IMAGE),
    "moonshine": entry(
        "Moonshine",
        {
            "vocab_size": WORDS,
            "hidden_size": 32,
            "intermediate_size": 64,
            "encoder_num_hidden_layers": 1,
            "decoder_num_hidden_layers": 1,
            "encoder_num_attention_heads": 4,
            "decoder_num_attention_heads": 4,
            "use_cache": False,
        },
        {"input_values": ("floats", (1, 2000)), "decoder_input_ids": ("tokens", (1, 5))},
    ),
    "mpnet": entry("MPNet", TEXT, TOKENS),
    "opt": entry(
        "OPT",
        {
            "vocab_size": WORDS,
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "ffn_dim": 64,
            "num_attention_heads": 4,
            "max_position_embeddings": 64,
            "word_embed_proj_dim": 32,
            "use_cache": False,
        },
        TOKENS,
        CAUSAL,
    ),
    "owlvit": entry(
        "OwlViT",
        {
            "text_config": {"vocab_size": WORDS, "max_position_embeddings": 16, **SMALL},
            "vision_config": VISION,
            "projection_dim": 16,
        },
        {**TOKENS, **IMAGE},
    ),
    "patchtsmixer": entry(
        "PatchTSMixer",
        {
            "context_length": 32,
            "patch_length": 8,
            "num_input_channels": 3,
            "d_model": 16,
            "num_layers": 2,
            "prediction_length": 4,
        },
        {"past_values": ("floats", (2, 32, 3))},
        "ForPrediction",
    ),
    "patchtst": entry(
        "PatchTST",
        {
            "num_input_channels": 3,
            "context_length": 32,
            "patch_length": 8,
            "patch_stride": 8,
            "prediction_length": 4,
            "d_model": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "ffn_dim": 64,
        },
        {"past_values": ("floats", (2, 32, 3))},
        "ForPrediction",
    ),
    "phi": entry("Phi", DECODER, TOKENS, CAUSAL),
    "poolformer": entry("PoolFormer", PYRAMID, LARGE_IMAGE),
    "pvt": entry(
        "Pvt",
        {
            "image_size": 64,
            "depths": [1, 1, 1, 1],
            "hidden_sizes": [8, 16, 16, 32],
            "num_attention_heads": [1, 2, 2, 4],
        },
        LARGE_IMAGE,
    ),
    "qwen2": entry("Qwen2", GROUPED, TOKENS, CAUSAL),
    "qwen3": entry("Qwen3", {**GROUPED, "head_dim": 8}, TOKENS, CAUSAL),
    "regnet": entry("RegNet", {**STAGES, "embedding_size": 8, "groups_width": 4}, IMAGE),
    "resnet": entry("ResNet", {**STAGES, "embedding_size": 8}, IMAGE),
    "roberta": entry("Roberta", TEXT, TOKENS),
    "rwkv": entry(
        "Rwkv",
        {
            "vocab_size": WORDS,
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "attention_hidden_size": 32,
            "intermediate_size": 64,
            "use_cache": False,
        },
        TOKENS,
    ),
    "segformer": entry(
        "Segformer",
        {
            "depths": [1, 1, 1, 1],
            "hidden_sizes": [8, 8, 16, 16],
            "num_attention_heads": [1, 1, 2, 2],
            "decoder_hidden_size": 16,
        },
        LARGE_IMAGE,
        "ForSemanticSegmentation",
    ),
    "sew": entry("SEW", {**WAVES, "num_feat_extract_layers": 2, "squeeze_factor": 2, **SMALL}, SOUND),
    "siglip": entry("Siglip", TOWERS, {**TOKENS, **IMAGE}),
    "speecht5": entry(
        "SpeechT5",
        {
            **{k: v for k, v in ENCODER_DECODER.items() if k != "d_model"},
            **WAVES,
            "hidden_size": 32,
            "use_cache": False,
        },
        {**SOUND, "decoder_input_ids": ("tokens", (2, 5))},
        "ForSpeechToText",
    ),
    "swin": entry("Swin", {**WINDOWS, "window_size": 4}, IMAGE),
    "swinv2": entry("Swinv2", {**WINDOWS, "window_size": 4}, IMAGE),
    "t5": entry(
        "T5",
        {
            "vocab_size": WORDS,
            "d_model": 32,
            "d_kv": 8,
            "d_ff": 64,
            "num_layers": 2,
            "num_heads": 4,
            "use_cache": False,
        },
        PAIR,
        "ForConditionalGeneration",
    ),
    "timesformer": entry(
        "Timesformer", {**VISION, "num_frames": 2}, {"pixel_values": ("floats", (1, 2, 3, 32, 32))}
    ),
    "vit": entry("ViT", VISION, IMAGE),
    "vit_mae": entry("ViTMAE", {**VISION, "mask_ratio": 0.0}, {**IMAGE, "noise": ("floats", (2, 16))}),
    "wav2vec2": entry("Wav2Vec2", {**WAVES, "num_feat_extract_layers": 2, **SMALL}, SOUND),
    "wavlm": entry("WavLM", {**WAVES, "num_feat_extract_layers": 2, **SMALL}, SOUND),
    "whisper": entry(
        "Whisper",
        {
            **ENCODER_DECODER,
            "max_source_positions": 32,
            "max_target_positions": 32,
            "num_mel_bins": 16,
            "pad_token_id": 0,
            "bos_token_id": 1,
            "eos_token_id": 1,
            "decoder_start_token_id": 1,
            "use_cache": False,
        },
        {"input_features": ("floats", (2, 16, 64)), "decoder_input_ids": ("tokens", (2, 5))},
    ),
    "xlnet": entry(
        "XLNet", {"vocab_size": WORDS, "d_model": 32, "n_layer": 2, "n_head": 4, "d_inner": 64}, TOKENS
    ),
    "yolos": entry(
        "Yolos",
        {**VISION, "image_size": [32, 48], "num_detection_tokens": 5},
        {"pixel_values": ("floats", (1, 3, 32, 48))},
        "ForObjectDetection",
    ),
}
"""The architectures that most people meet first."""

ZOO: dict[str, Entry] = FIRST | LANGUAGE | PICTURES | OTHER
"""Every architecture by name."""


def build(name: str) -> tuple[Any, dict[str, Any]]:
    """A model with random weights in evaluation mode, and inputs for it."""
    import torch
    import transformers

    entry = ZOO[name]
    torch.manual_seed(0)
    config = getattr(transformers, entry.config)(**entry.options)
    model = getattr(transformers, entry.model)(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:  # the library's own are so small that nothing of the input comes through
                parameter.normal_(std=GAIN / math.sqrt(parameter[0].numel()))
    makers: dict[str, Callable[[tuple[int, ...]], torch.Tensor]] = {
        "tokens": lambda shape: torch.randint(2, WORDS, shape),
        "floats": lambda shape: torch.randn(shape),
        "ones": lambda shape: torch.ones(shape, dtype=torch.int64),
        "observed": lambda shape: torch.ones(shape),
    }
    return model, {key: makers[kind](shape) for key, (kind, shape) in entry.inputs.items()}
