"""Architectures of transformers from small configurations, exported in one graph and compared with eager.

    python -m benchmarks.torch_zoo [--target reference|c] [--shard i/n] [--match REGEX] [--jsonl FILE]
        [--fresh] [--write-docs]

Weights are random.  Outcomes are appended to a file, by default build/torch_zoo-TARGET.jsonl, one JSON line a
model; models that it already holds for the present source of AINO are not run again.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import aino_ir as aino
from aino_ir.driver.cache import source_hash

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "torch_zoo.md"

BOUND = 1e-4
"""Largest error, as a share of the largest |eager result|, with which a model passes."""

WORDS = 99
"""Tokens of every vocabulary."""


@dataclass(frozen=True)
class Entry:
    """One architecture.

    Attributes:
        model: class of transformers.
        config: class of its configuration.
        options: what the configuration is made with.
        inputs: name -> (kind, shape): "tokens", "floats" or "ones".
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

TOKENS = {"input_ids": ("tokens", (2, 9))}
MASKED = {**TOKENS, "attention_mask": ("ones", (2, 9))}
PAIR = {**TOKENS, "decoder_input_ids": ("tokens", (2, 5))}
IMAGE = {"pixel_values": ("floats", (2, 3, 32, 32))}
LARGE_IMAGE = {"pixel_values": ("floats", (2, 3, 64, 64))}
SOUND = {"input_values": ("floats", (2, 400))}


def _entry(
    stem: str, options: dict[str, Any], inputs: dict[str, Any], kind: str = "Model", config: str = ""
) -> Entry:
    return Entry(f"{stem}{kind}", f"{config or stem}Config", options, inputs)


CAUSAL = "ForCausalLM"

ZOO: dict[str, Entry] = {
    "albert": _entry("Albert", {"vocab_size": WORDS, "embedding_size": 16, **SMALL}, TOKENS),
    "ast": _entry(
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
    "bart": _entry("Bart", {**ENCODER_DECODER, "max_position_embeddings": 64, "use_cache": False}, PAIR),
    "beit": _entry("Beit", {**VISION, "use_relative_position_bias": True, "out_indices": [1]}, IMAGE),
    "bert": _entry("Bert", TEXT, MASKED),
    "bloom": _entry(
        "Bloom",
        {"vocab_size": WORDS, "hidden_size": 32, "n_layer": 2, "n_head": 4, "use_cache": False},
        TOKENS,
        CAUSAL,
    ),
    "clip": _entry("CLIP", {**TOWERS, "projection_dim": 16}, {**TOKENS, **IMAGE}),
    "convnext": _entry("ConvNext", {**STAGES, "num_stages": 2}, IMAGE),
    "convnextv2": _entry("ConvNextV2", {**STAGES, "num_stages": 2}, IMAGE),
    "deberta_v2": _entry(
        "DebertaV2",
        {"vocab_size": WORDS, "relative_attention": True, "pos_att_type": ["p2c", "c2p"], **SMALL},
        MASKED,
    ),
    "deit": _entry("DeiT", VISION, IMAGE),
    "dinov2": _entry("Dinov2", VISION, IMAGE),
    "distilbert": _entry(
        "DistilBert",
        {"vocab_size": WORDS, "dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64},
        TOKENS,
    ),
    "electra": _entry("Electra", {"vocab_size": WORDS, "embedding_size": 16, **SMALL}, TOKENS),
    "falcon": _entry(
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
    "gemma": _entry("Gemma", {**GROUPED, "head_dim": 8}, TOKENS, CAUSAL),
    "gemma2": _entry("Gemma2", {**GROUPED, "head_dim": 8}, TOKENS, CAUSAL),
    "gpt2": _entry(
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
    "gpt_neox": _entry("GPTNeoX", DECODER, TOKENS, CAUSAL),
    "hubert": _entry("Hubert", {**WAVES, "num_feat_extract_layers": 2, **SMALL}, SOUND),
    "llama": _entry("Llama", GROUPED, TOKENS, CAUSAL),
    "mamba": _entry(
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
    "mistral": _entry("Mistral", {**GROUPED, "sliding_window": 4}, TOKENS, CAUSAL),
    "mixtral": _entry("Mixtral", {**GROUPED, "num_local_experts": 4}, TOKENS, CAUSAL),
    "mobilenet_v2": _entry("MobileNetV2", {"image_size": 32, "depth_multiplier": 0.25}, IMAGE),
    "mpnet": _entry("MPNet", TEXT, TOKENS),
    "opt": _entry(
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
    "patchtst": _entry(
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
    "phi": _entry("Phi", DECODER, TOKENS, CAUSAL),
    "qwen2": _entry("Qwen2", GROUPED, TOKENS, CAUSAL),
    "qwen3": _entry("Qwen3", {**GROUPED, "head_dim": 8}, TOKENS, CAUSAL),
    "regnet": _entry("RegNet", {**STAGES, "embedding_size": 8, "groups_width": 4}, IMAGE),
    "resnet": _entry("ResNet", {**STAGES, "embedding_size": 8}, IMAGE),
    "roberta": _entry("Roberta", TEXT, TOKENS),
    "rwkv": _entry(
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
    "segformer": _entry(
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
    "siglip": _entry("Siglip", TOWERS, {**TOKENS, **IMAGE}),
    "speecht5": _entry(
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
    "swin": _entry("Swin", {**WINDOWS, "window_size": 4}, IMAGE),
    "swinv2": _entry("Swinv2", {**WINDOWS, "window_size": 4}, IMAGE),
    "t5": _entry(
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
    "timesformer": _entry(
        "Timesformer", {**VISION, "num_frames": 2}, {"pixel_values": ("floats", (1, 2, 3, 32, 32))}
    ),
    "vit": _entry("ViT", VISION, IMAGE),
    "wav2vec2": _entry("Wav2Vec2", {**WAVES, "num_feat_extract_layers": 2, **SMALL}, SOUND),
    "whisper": _entry(
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
    "xlnet": _entry(
        "XLNet", {"vocab_size": WORDS, "d_model": 32, "n_layer": 2, "n_head": 4, "d_inner": 64}, TOKENS
    ),
    "yolos": _entry(
        "Yolos",
        {**VISION, "image_size": [32, 48], "num_detection_tokens": 5},
        {"pixel_values": ("floats", (1, 3, 32, 48))},
        "ForObjectDetection",
    ),
}
"""Every architecture by name."""


@dataclass(frozen=True)
class Outcome:
    """How a model went.

    Attributes:
        status: passed, wrong, or failed (with the error in `detail`).
        ops: operations of the graph as loaded.
        error: largest error as a share of the largest |eager result|.
        python_nodes: operations that run in Python, not natively.
    """

    model: str
    target: str
    status: str
    detail: str = ""
    ops: int = 0
    error: float = 0.0
    python_nodes: int = 0
    seconds: float = 0.0


def build(name: str) -> tuple[Any, dict[str, Any]]:
    """A model with random weights in evaluation mode, and inputs for it."""
    import torch
    import transformers

    entry = ZOO[name]
    torch.manual_seed(0)
    config = getattr(transformers, entry.config)(**entry.options)
    model = getattr(transformers, entry.model)(config).eval()
    makers: dict[str, Callable[[tuple[int, ...]], torch.Tensor]] = {
        "tokens": lambda shape: torch.randint(2, WORDS, shape),
        "floats": lambda shape: torch.randn(shape),
        "ones": lambda shape: torch.ones(shape, dtype=torch.int64),
    }
    return model, {key: makers[kind](shape) for key, (kind, shape) in entry.inputs.items()}


def run_model(name: str, target: str) -> Outcome:
    """Export, compile, run and compare one model."""
    start = time.perf_counter()
    try:
        model, inputs = build(name)
        expected = eager(model, inputs)
        module = aino.load(model, inputs)
        executable = aino.compile(module, target)
        results = executable.run(dict(inputs))
        error = largest_error(results, expected)
        ops, nodes = module.op_count(), len(getattr(executable.report, "python_nodes", ()))
    except Exception as problem:  # a model that fails is a row, and the others go on
        detail = " ".join(f"{type(problem).__name__}: {problem}".split())[:300]
        return Outcome(name, target, "failed", detail, seconds=time.perf_counter() - start)
    status = "passed" if error <= BOUND else "wrong"
    return Outcome(name, target, status, "", ops, error, nodes, time.perf_counter() - start)


def eager(model: Any, inputs: dict[str, Any]) -> list[Any]:
    """The tensors that a model gives in PyTorch, flattened in order."""
    import torch
    from torch.utils import _pytree as pytree

    with torch.no_grad():
        return [t for t in pytree.tree_leaves(model(**inputs)) if isinstance(t, torch.Tensor)]


def largest_error(results: Sequence[Any], expected: Sequence[Any]) -> float:
    """The largest difference of any output, as a share of its largest |expected value|."""
    if len(results) != len(expected):
        return float("inf")
    worst = 0.0
    for got, want in zip(results, expected, strict=True):
        if got.shape != want.shape or got.dtype != want.dtype:
            return float("inf")
        if want.numel():
            scale = float(want.double().abs().max()) or 1.0
            worst = max(worst, float((got.double() - want.double()).abs().max()) / scale)
    return worst


def main(arguments: Sequence[str]) -> int:
    """Run the command; the exit status is 1 when a model did not pass."""
    options = parse(arguments)
    path = Path(options.jsonl) if options.jsonl else ROOT / "build" / f"torch_zoo-{options.target}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = list(run(options, path))
    if options.write_docs:
        PAGE.write_text(page(rows), encoding="utf-8")
    return int(any(row["status"] != "passed" for row in rows))


def run(options: argparse.Namespace, path: Path) -> Iterator[dict[str, Any]]:
    """Rows of the models that were asked for, those of the file first."""
    number, _, count = options.shard.partition("/")
    source = source_hash()
    held = {} if options.fresh or not path.exists() else _held(path, source)
    with path.open("w" if options.fresh else "a", encoding="utf-8") as file:
        for name in sorted(ZOO):
            mine = zlib.crc32(name.encode()) % int(count) == int(number)
            if not mine or not re.search(options.match, name):
                continue
            row = held.get(name)
            if row is None:
                row = {**asdict(run_model(name, options.target)), "source": source}
                file.write(json.dumps(row) + "\n")
                file.flush()
            print(
                f"{row['status']:7} {name:14} {row['error']:.1e} {row['ops']:5d} ops  {row['detail']}",
                flush=True,
            )
            yield row


def _held(path: Path, source: str) -> dict[str, dict[str, Any]]:
    rows = (json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line)
    return {row["model"]: row for row in rows if row["source"] == source}


def page(rows: Sequence[dict[str, Any]]) -> str:
    """docs/torch_zoo.md"""
    import torch
    import transformers

    lines = [
        "# Architectures of transformers",
        "",
        "Written by `python -m benchmarks.torch_zoo --write-docs`; do not edit. Each model is built from a",
        "small configuration with random weights, exported by `torch.export` in one graph, compiled, run,",
        "and compared with eager PyTorch: the error is the largest difference of any output, as a share of",
        "its largest absolute value.",
        "",
        f"PyTorch {torch.__version__}, transformers {transformers.__version__}.",
        "",
        "| model | target | result | ops | largest error | ops in Python | seconds |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        cells = (row["model"], row["target"], row["status"], row["ops"], f"{row['error']:.1e}")
        lines.append(
            "| " + " | ".join(map(str, (*cells, row["python_nodes"], f"{row['seconds']:.1f}"))) + " |"
        )
    return "\n".join(lines) + "\n"


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The options of the command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.torch_zoo")
    parser.add_argument("--target", default="c", choices=("reference", "c"))
    parser.add_argument("--shard", default="0/1")
    parser.add_argument("--match", default="")
    parser.add_argument("--jsonl")
    parser.add_argument("--fresh", action="store_true")
    parser.add_argument("--write-docs", action="store_true")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
