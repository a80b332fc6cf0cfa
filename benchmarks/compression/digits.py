"""Handwritten digits of scikit-learn, and networks trained on them from scratch.

The 1,797 pictures of 8 x 8 are resized to 28 x 28 and split in halves, each with the same share of every
digit.  Both networks train in well under a minute on two cores.
"""

from __future__ import annotations

from dataclasses import dataclass
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
