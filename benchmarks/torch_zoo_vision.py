"""Vision models of the zoo beyond the first list, those with texts beside pictures included."""

from __future__ import annotations

from benchmarks.torch_zoo_parts import (
    IMAGE,
    LARGE_IMAGE,
    PYRAMID,
    RESIDUAL,
    SMALL,
    TEXT,
    TOKENS,
    VISION,
    WORDS,
    Entry,
    entry,
)

VIDEO = {"pixel_values": ("floats", (1, 4, 3, 32, 32))}
FEATURES = {**RESIDUAL, "out_features": ["stage2", "stage3", "stage4"]}
BACKBONE = {"use_timm_backbone": False, "use_pretrained_backbone": False, "backbone": None}

PICTURES: dict[str, Entry] = {
    "chinese_clip": entry(
        "ChineseCLIP",
        {"text_config": TEXT, "vision_config": VISION, "projection_dim": 16},
        {**TOKENS, **IMAGE},
    ),
    "clipseg": entry(
        "CLIPSeg",
        {
            "text_config": {"vocab_size": WORDS, "max_position_embeddings": 32, **SMALL},
            "vision_config": {**VISION, "num_hidden_layers": 3},
            "projection_dim": 16,
            "extract_layers": [0, 1, 2],
            "reduce_dim": 8,
            "decoder_num_attention_heads": 2,
            "decoder_intermediate_size": 16,
        },
        {**TOKENS, **IMAGE},
        "ForImageSegmentation",
    ),
    "data2vec_vision": entry("Data2VecVision", {**VISION, "use_relative_position_bias": True}, IMAGE),
    "depth_anything": entry(
        "DepthAnything",
        {
            "backbone_config": {
                "model_type": "dinov2",
                **VISION,
                "num_hidden_layers": 4,
                "out_indices": [1, 2, 3, 4],
                "reshape_hidden_states": False,
                "apply_layernorm": True,
            },
            "backbone": None,
            "reassemble_hidden_size": 32,
            "patch_size": 8,
            "neck_hidden_sizes": [8, 8, 8, 8],
            "fusion_hidden_size": 8,
            "head_hidden_size": 8,
        },
        IMAGE,
        "ForDepthEstimation",
    ),
    "flava": entry(
        "FlavaImage",
        VISION,
        IMAGE,
    ),
    "glpn": entry(
        "GLPN",
        {**PYRAMID, "num_attention_heads": [1, 1, 2, 2], "decoder_hidden_size": 8},
        LARGE_IMAGE,
        "ForDepthEstimation",
    ),
    "groupvit": entry(
        "GroupViT",
        {
            "text_config": {"vocab_size": WORDS, "max_position_embeddings": 32, **SMALL},
            "vision_config": {
                "image_size": 32,
                "patch_size": 8,
                "hidden_size": 32,
                "intermediate_size": 64,
                "num_attention_heads": 4,
                "depths": [1, 1, 1],
                "num_group_tokens": [8, 4, 0],
                "num_output_groups": [8, 4, 4],
            },
            "projection_dim": 16,
            "projection_intermediate_dim": 32,
        },
        {**TOKENS, **IMAGE},
    ),
    "hgnet_v2": entry(
        "HGNetV2",
        {
            "stem_channels": [3, 8, 8],
            "stage_in_channels": [8, 16],
            "stage_mid_channels": [8, 8],
            "stage_out_channels": [16, 32],
            "stage_num_blocks": [1, 1],
            "stage_downsample": [False, True],
            "stage_light_block": [False, True],
            "stage_kernel_size": [3, 5],
            "stage_numb_of_layers": [2, 2],
            "hidden_sizes": [16, 32],
            "depths": [1, 1],
            "embedding_size": 8,
        },
        IMAGE,
        "Backbone",
    ),
    "hiera": entry(
        "Hiera",
        {
            "image_size": [32, 32],
            "embed_dim": 16,
            "depths": [1, 1],
            "num_heads": [1, 2],
            "num_query_pool": 1,
            "query_stride": [2, 2],
            "masked_unit_size": [4, 4],
            "masked_unit_attention": [True, False],
        },
        IMAGE,
    ),
    "layoutlmv3": entry(
        "LayoutLMv3",
        {
            **TEXT,
            "input_size": 32,
            "patch_size": 8,
            "coordinate_size": 6,
            "shape_size": 4,
            "max_2d_position_embeddings": 128,
            "pad_token_id": 0,
        },
        {**TOKENS, "bbox": ("tokens", (2, 9, 4)), **IMAGE},
    ),
    "mgp_str": entry(
        "MgpstrModel".removesuffix("Model"),
        {
            "image_size": [32, 64],
            "patch_size": 8,
            "max_token_length": 6,
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
        },
        {"pixel_values": ("floats", (2, 3, 32, 64))},
    ),
}
"""Architectures by name."""
