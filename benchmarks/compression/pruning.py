"""Pruning of networks for digits: accuracy, what is left, bytes and time.

    python -m benchmarks.compression.pruning [--seeds 0,1,2] [--networks mlp,cnn] [--jsonl FILE]

For each network, seed and recipe one row: accuracy of the trained model and of the pruned one after a short
fine-tuning against it (both compiled for target c), sparsity and share of multiply-adds of the layers that
were pruned (layers that the guard refused count as not), bytes, and the time of a batch, both models by
turns.  A recipe holds when the mean over the seeds loses no more than its limit.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Sequence
from typing import Any

import torch

import aino_ir as aino
from aino_ir.graph import Module
from benchmarks.compression.digits import (
    BATCH,
    Digits,
    accuracy,
    measured,
    module_of,
)
from benchmarks.compression.quantization import artifact_bytes, by_turns

RECIPES: dict[str, dict[str, Any]] = {
    "unstructured": {"sparsity": 0.8, "structure": "unstructured", "scope": "local"},
    "channel": {"sparsity": 0.5, "structure": "channel", "scope": "local"},
}
"""Name -> options of `aino.prune`; accuracy is judged after fine-tuning."""

LIMITS = {"unstructured": 1.0, "channel": 1.5}
"""Points of accuracy that a recipe may lose on average."""

EPOCHS, LEARNING_RATE = 30, 3e-3
"""Of fine-tuning: about half as many steps as the training of the MLP had."""


def pruned_row(name: str, seed: int, recipe: str, net: Any, data: Digits) -> dict[str, Any]:
    """One recipe on one trained network."""
    module = module_of(net)
    pruned = aino.prune(module, **RECIPES[recipe])
    tuned = fine_tuned(pruned, module, data)
    before, raw, after = (aino.compile(m) for m in (module, pruned, tuned))
    first, cut, second = (accuracy(e.run, data.test, data.test_labels) for e in (before, raw, after))
    seconds = by_turns(before, after, data.test[:BATCH])
    report = pruned.compression
    return {
        "network": name,
        "seed": seed,
        "recipe": recipe,
        "accuracy_before": first,
        "accuracy_untuned": cut,
        "accuracy": second,
        "sparsity": {r.name: round(r.sparsity, 4) for r in report.applied},
        "share_of_macs": report.share_of_macs,
        "refused": {r.name: r.reason for r in report.refused},
        "artifact_bytes_before": artifact_bytes(before),
        "artifact_bytes": artifact_bytes(after),
        "weight_bytes_before": before.report.weight_bytes,
        "weight_bytes": after.report.weight_bytes,
        "seconds_before": seconds[0],
        "seconds": seconds[1],
        "kernels": [k["candidate"] for k in after.report.kernels],
    }


def fine_tuned(pruned: Module, teacher: Module, data: Digits) -> Module:
    """The pruned model after a short training on labels and on what the whole model says."""
    whole = len(data.train) // BATCH * BATCH
    items = [(data.train[i : i + BATCH], data.train_labels[i : i + BATCH]) for i in range(0, whole, BATCH)]
    losses = {"logits": 1.0, "labels": 1.0}
    tuned: Module = aino.distill(pruned, teacher, items, losses=losses, epochs=EPOCHS, optimizer=adam)
    return tuned


def adam(parameters: list[Any]) -> torch.optim.Optimizer:
    """The optimizer of the fine-tuning."""
    return torch.optim.Adam(parameters, lr=LEARNING_RATE)


def verdicts(rows: Sequence[dict[str, Any]]) -> list[str]:
    """One line for each network and recipe: the mean loss of accuracy against its limit."""
    lines = []
    for name, recipe in dict.fromkeys((r["network"], r["recipe"]) for r in rows):
        chosen = [r for r in rows if (r["network"], r["recipe"]) == (name, recipe)]
        loss = 100 * statistics.mean(r["accuracy_before"] - r["accuracy"] for r in chosen)
        share = statistics.mean(r["share_of_macs"] for r in chosen)
        smaller = statistics.mean(r["weight_bytes_before"] / r["weight_bytes"] for r in chosen)
        faster = statistics.mean(r["seconds_before"] / r["seconds"] for r in chosen)
        verdict = "holds" if loss <= LIMITS[recipe] else "DOES NOT HOLD"
        lines.append(
            f"{name} {recipe}: loses {loss:.2f} points (limit {LIMITS[recipe]}), {share:.0%} of MACs, "
            f"weights {smaller:.1f} times smaller, {faster:.2f} times as fast: {verdict}"
        )
    return lines


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what was asked for, print the verdicts; 1 when one does not hold."""
    return measured(arguments, "Pruning of networks for digits.", "recipes", RECIPES, pruned_row, verdicts)


if __name__ == "__main__":
    sys.exit(main())
