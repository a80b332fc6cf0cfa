"""Handwritten digits of scikit-learn, and networks trained on them from scratch.

The 1,797 pictures of 8 x 8 are resized to 28 x 28 and split in halves, each with the same share of every
digit.  Both networks train in well under a minute on two cores.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from aino_ir.driver.api import load
from aino_ir.graph import Module

Array = np.ndarray[Any, Any]

SIDE = 28
BATCH = 128
"""Pictures that exported networks take at a time unless something else is said."""

SEEDS = (0, 1, 2)
NETWORKS = ("mlp", "cnn")
EPOCHS = {"mlp": 30, "cnn": 12}


@dataclass(frozen=True)
class Digits:
    """Pictures [n, 1, 28, 28] as f32 within 0..1, and their digits, in two halves."""

    train: Array
    train_labels: Array
    test: Array
    test_labels: Array


def digits(seed: int) -> Digits:
    """The data, split by a seed."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    found = load_digits()
    small = torch.from_numpy(found.images.astype(np.float32) / 16).unsqueeze(1)
    large = nn.functional.interpolate(small, size=(SIDE, SIDE), mode="bilinear").numpy()
    train, test, train_labels, test_labels = train_test_split(
        large, found.target, test_size=0.5, random_state=seed, stratify=found.target
    )
    return Digits(train, train_labels, test, test_labels)


def network(name: str, seed: int) -> nn.Module:
    """An untrained network: ``mlp`` is 784-64-10, ``cnn`` has two convolutions."""
    torch.manual_seed(seed)
    if name == "mlp":
        return nn.Sequential(nn.Flatten(), nn.Linear(SIDE * SIDE, 64), nn.ReLU(), nn.Linear(64, 10))
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32 * 49, 10),
    )


def trained(name: str, seed: int, data: Digits, epochs: int | None = None) -> nn.Module:
    """A network trained with Adam; the same seed gives the same network."""
    net = network(name, seed)
    optimizer = torch.optim.Adam(net.parameters(), lr=2e-3)
    x, labels = torch.from_numpy(data.train), torch.from_numpy(data.train_labels)
    order = torch.Generator().manual_seed(seed)
    for _ in range(EPOCHS[name] if epochs is None else epochs):
        for rows in torch.randperm(len(x), generator=order).split(64):  # type: ignore[no-untyped-call]
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(x[rows]), labels[rows]).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    return net.eval()


def module_of(net: nn.Module, batch: int = BATCH) -> Module:
    """A network as a module that takes so many pictures at a time."""
    return load(net, (torch.zeros(batch, 1, SIDE, SIDE),))


def batches(pictures: Array, batch: int = BATCH) -> list[Array]:
    """Pictures in batches, the last one filled up with zeros."""
    missing = -len(pictures) % batch
    whole = np.concatenate([pictures, np.zeros((missing, *pictures.shape[1:]), np.float32)])
    return list(whole.reshape(-1, batch, *pictures.shape[1:]))


def accuracy(run: Any, pictures: Array, labels: Array, batch: int = BATCH) -> float:
    """Share of pictures that a callable model gets right, 0..1."""
    scores = np.concatenate([np.asarray(run(x)[0]) for x in batches(pictures, batch)])[: len(labels)]
    return float((scores.argmax(axis=1) == labels).mean())


def measured(
    arguments: Sequence[str] | None,
    description: str,
    kinds: str,
    known: Iterable[str],
    row_of: Callable[[str, int, str, nn.Module, Digits], dict[str, Any]],
    verdicts: Callable[[Sequence[dict[str, Any]]], list[str]],
) -> int:
    """The command of a benchmark: a row for every network, seed and kind of compression, and what they say.

    Args:
        arguments: of the command line.
        description: what it measures.
        kinds: the option that picks kinds, such as ``schemes``.
        known: all of them.
        row_of: measures one: (network, seed, kind, the trained network, data).
        verdicts: a line for each kind; one that holds not ends in DOES NOT HOLD.

    Returns:
        1 when a verdict does not hold.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--seeds", default=",".join(map(str, SEEDS)))
    parser.add_argument("--networks", default=",".join(NETWORKS))
    parser.add_argument(f"--{kinds}", dest="kinds", default=",".join(known))
    parser.add_argument("--jsonl", type=Path, help="where rows are appended")
    options = parser.parse_args(arguments)
    rows = []
    for seed in map(int, options.seeds.split(",")):
        data = digits(seed)
        for name in options.networks.split(","):
            net = trained(name, seed, data)
            for kind in options.kinds.split(","):
                rows.append(row_of(name, seed, kind, net, data))
                print(json.dumps(rows[-1]), flush=True)
                if options.jsonl is not None:
                    with options.jsonl.open("a") as file:
                        file.write(json.dumps(rows[-1]) + "\n")
    lines = verdicts(rows)
    print("\n".join(lines))
    return int(any("DOES NOT HOLD" in line for line in lines))
