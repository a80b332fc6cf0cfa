"""Models of sound and of time series of the zoo beyond the first list."""

from __future__ import annotations

from benchmarks.torch_zoo_parts import Entry, entry

SERIES = {
    "prediction_length": 4,
    "context_length": 12,
    "lags_sequence": [1, 2],
    "num_time_features": 2,
    "d_model": 16,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 16,
    "decoder_ffn_dim": 16,
}
PAST = {
    "past_values": ("floats", (2, 14)),
    "past_time_features": ("floats", (2, 14, 2)),
    "past_observed_mask": ("observed", (2, 14)),
    "future_values": ("floats", (2, 4)),
    "future_time_features": ("floats", (2, 4, 2)),
}

OTHER: dict[str, Entry] = {
    "clap_audio": entry(
        "ClapAudio",
        {
            "window_size": 4,
            "num_mel_bins": 32,
            "spec_size": 64,
            "patch_size": 4,
            "patch_stride": [4, 4],
            "hidden_size": 32,
            "depths": [1, 1],
            "num_attention_heads": [1, 2],
            "patch_embeds_hidden_size": 16,
        },
        {"input_features": ("floats", (1, 1, 64, 32))},
    ),
    "dac": entry(
        "Dac",
        {
            "encoder_hidden_size": 8,
            "downsampling_ratios": [2, 4],
            "decoder_hidden_size": 16,
            "upsampling_ratios": [4, 2],
            "n_codebooks": 2,
            "codebook_size": 16,
            "codebook_dim": 4,
        },
        {"input_values": ("floats", (1, 1, 64))},
    ),
    "decision_transformer": entry(
        "DecisionTransformer",
        {"state_dim": 5, "act_dim": 3, "hidden_size": 32, "n_layer": 2, "n_head": 4, "max_ep_len": 200},
        {
            "states": ("floats", (2, 6, 5)),
            "actions": ("floats", (2, 6, 3)),
            "rewards": ("floats", (2, 6, 1)),
            "returns_to_go": ("floats", (2, 6, 1)),
            "timesteps": ("tokens", (2, 6)),
            "attention_mask": ("ones", (2, 6)),
        },
    ),
}
"""Architectures by name."""
