"""Training through torch.compile beside eager PyTorch: the same losses, and what a step costs.

``python -m benchmarks.torch_training [--steps 300] [--threads 1] [--only bert,resnet18] [--output FILE]
[--fresh]``

BERT (2 layers, width 128, with dropout) and ResNet-18 at 32x32 from transformers' configurations, with random
weights, learn labels that can be guessed from the inputs, a fifth of them wrong.  Eager and compiled
runs start from the same weights and seeds.  "cpu" is the process's own time, which a busy machine
disturbs less than "wall"; both are medians over the steps behind the first ten.

A network's row is appended to the file, one line of JSON, when both have run; a network whose row the file
has already, for the same sources, versions and options, is not trained again without ``--fresh``.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from aino_ir.driver.cache import source_hash
from benchmarks.torch_compile import held
from benchmarks.torch_zoo import versions

Batch = tuple[torch.Tensor, torch.Tensor]
"""Inputs, labels."""

WARM_UP = 10
"""Steps whose time does not count: the first ones compile."""

WRONG_LABELS = 0.2

RISE = 100
"""Steps in which the rate rises to its full height, with the square of the step.  Training with batch norms
is chaotic: eager itself, started from weights that differ by one rounding, is elsewhere after ten steps at
full rate, and nothing could be compared."""


@dataclass(frozen=True)
class Task:
    """Something to learn.

    Attributes:
        model: makes the network, always with the same weights.
        batch: makes a batch from a generator.
        rate: of the optimizer.
    """

    model: Callable[[], torch.nn.Module]
    batch: Callable[[torch.Generator, int], Batch]
    rate: float


@dataclass(frozen=True)
class Course:
    """One training run.

    Attributes:
        losses: by step.
        wall, cpu: seconds by step.
    """

    losses: list[float]
    wall: list[float]
    cpu: list[float]

    def milliseconds(self, seconds: Sequence[float]) -> float:
        """The median of the steps that count."""
        return 1e3 * statistics.median(seconds[WARM_UP:] or seconds)


def bert() -> torch.nn.Module:
    """BERT with 2 layers of width 128 for 4 classes, with dropout."""
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(0)
    config: Any = BertConfig(
        vocab_size=1000,
        hidden_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=512,
        max_position_embeddings=64,
    )
    config.num_labels = 4
    return BertForSequenceClassification(config)


def sentences(generator: torch.Generator, count: int) -> Batch:
    """Random tokens; the label is the quarter of the vocabulary that the first one is from."""
    tokens = torch.randint(0, 1000, (count, 32), generator=generator)
    return tokens, _some_wrong(tokens[:, 0] // 250, 4, generator)


def resnet18() -> torch.nn.Module:
    """ResNet-18 for 10 classes."""
    from transformers import ResNetConfig, ResNetForImageClassification

    torch.manual_seed(0)
    config: Any = ResNetConfig(
        embedding_size=64,
        hidden_sizes=[64, 128, 256, 512],
        depths=[2, 2, 2, 2],
        layer_type="basic",
    )
    config.num_labels = 10
    return ResNetForImageClassification(config)


def pictures(generator: torch.Generator, count: int) -> Batch:
    """Noise around one of ten patterns."""
    patterns = torch.randn(10, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    labels = torch.randint(0, 10, (count,), generator=generator)
    noise = torch.randn(count, 3, 32, 32, generator=generator)
    return 0.5 * patterns[labels] + noise, _some_wrong(labels, 10, generator)


def _some_wrong(labels: torch.Tensor, classes: int, generator: torch.Generator) -> torch.Tensor:
    wrong = torch.rand(labels.shape, generator=generator) < WRONG_LABELS
    return torch.where(wrong, torch.randint(0, classes, labels.shape, generator=generator), labels)


TASKS = {"bert": Task(bert, sentences, 0.02), "resnet18": Task(resnet18, pictures, 0.0005)}


def train(task: Task, model: torch.nn.Module, call: Callable[..., Any], steps: int, batch: int) -> Course:
    """Train a network in place.

    Args:
        task: what to learn.
        model: whose parameters learn.
        call: the network as it is run: itself, or compiled.
        steps: of gradient descent with momentum.
        batch: examples a step.
    """
    optimizer = torch.optim.SGD(model.parameters(), task.rate, momentum=0.9)
    generator = torch.Generator().manual_seed(2)
    torch.manual_seed(3)
    course = Course([], [], [])
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = task.rate * min(1.0, (step + 1) / RISE) ** 2
        x, y = task.batch(generator, batch)
        wall, cpu = time.perf_counter(), time.process_time()
        loss = F.cross_entropy(call(x).logits, y)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        course.losses.append(loss.item())
        course.wall.append(time.perf_counter() - wall)
        course.cpu.append(time.process_time() - cpu)
    return course


@dataclass(frozen=True)
class Comparison:
    """A compiled course beside an eager one.

    Attributes:
        first: largest relative difference among the first 20 losses.
        last: relative difference of the means of the last 50.
        eager_cpu, aino_cpu, eager_wall, aino_wall: milliseconds a step.
        final: mean of the last 50 losses in eager.
    """

    network: str
    steps: int
    batch: int
    first: float
    last: float
    final: float
    eager_cpu: float
    aino_cpu: float
    eager_wall: float
    aino_wall: float

    def __str__(self) -> str:
        return (
            f"{self.network:10} {self.steps:4} steps of {self.batch}: "
            f"first 20 losses within {self.first:.1e}, "
            f"mean of the last 50 within {self.last:.2%} of {self.final:.3f}; "
            f"cpu {self.aino_cpu:.1f} against {self.eager_cpu:.1f} ms a step "
            f"({self.eager_cpu / self.aino_cpu:.2f}x), "
            f"wall {self.aino_wall:.1f} against {self.eager_wall:.1f} ms"
        )


def compare(name: str, steps: int, batch: int, options: dict[str, Any]) -> Comparison:
    """Train a network in eager and compiled, from the same start."""
    task = TASKS[name]
    model = task.model().train()
    twin = copy.deepcopy(model)
    eager = train(task, twin, twin, steps, batch)
    mine = train(task, model, torch.compile(model, backend="aino", options=options), steps, batch)
    pairs = list(zip(mine.losses, eager.losses, strict=True))
    ends = [statistics.fmean(losses[-50:]) for losses in (mine.losses, eager.losses)]
    return Comparison(
        name,
        steps,
        batch,
        first=max(abs(a - b) / abs(b) for a, b in pairs[:20]),
        last=abs(ends[0] - ends[1]) / ends[1],
        final=ends[1],
        eager_cpu=eager.milliseconds(eager.cpu),
        aino_cpu=mine.milliseconds(mine.cpu),
        eager_wall=eager.milliseconds(eager.wall),
        aino_wall=mine.milliseconds(mine.wall),
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Print a line a network, and write the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", default=",".join(TASKS))
    parser.add_argument("--output", type=Path, default=Path("build/torch_training.jsonl"))
    parser.add_argument("--fresh", action="store_true", help="train everything anew")
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    facts = {"threads": args.threads, "versions": versions(), "source": source_hash()}
    conditions = {**facts, "steps": args.steps, "batch": args.batch}
    known = {} if args.fresh else held(args.output, conditions)
    args.output.parent.mkdir(parents=True, exist_ok=True)
    for name in args.only.split(","):
        if name in known:
            row = {key: known[name][0][key] for key in Comparison.__dataclass_fields__}
            print(Comparison(**row), flush=True)
            continue
        found = compare(name, args.steps, args.batch, {"threads": args.threads})
        with args.output.open("a", encoding="utf-8") as file:
            file.write(json.dumps({**asdict(found), **facts}) + "\n")
        print(found, flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
