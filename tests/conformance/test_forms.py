"""Operators that networks use, on tensors in unusual forms, compiled, against eager PyTorch."""

from __future__ import annotations

import contextlib
import itertools
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
import torch
import torch.nn.functional as F

pytest.importorskip("expecttest", reason="PyTorch's operator samples need expecttest")

from tests.conformance.cases import share
from tests.conformance.opinfo_cases import Eager, capturing
from tests.conformance.opinfo_runs import Ready, run_captured

Tensor = torch.Tensor
Operator = Callable[[Tensor], Any]


def filled(*shape: int) -> Tensor:
    """Numbers on either side of zero, no two alike."""
    count = max(1, int(torch.Size(shape).numel()))
    generator = torch.Generator().manual_seed(count)
    return torch.linspace(-3, 4, count)[torch.randperm(count, generator=generator)][
        : torch.Size(shape).numel()
    ].reshape(shape)


FORMS: Mapping[str, Callable[[], Tensor]] = {
    "plain": lambda: filled(2, 4, 6, 6),
    "channels last": lambda: filled(2, 4, 6, 6).contiguous(memory_format=torch.channels_last),
    "transposed": lambda: filled(4, 2, 6, 6).transpose(0, 1).transpose(2, 3),
    "every other": lambda: filled(2, 8, 6, 12)[:, 1::2, :, ::2],
    "expanded": lambda: filled(1, 4, 1, 6).expand(2, 4, 6, 6),
    "behind an offset": lambda: filled(3, 4, 6, 6)[1:],
    "no items": lambda: filled(0, 4, 6, 6),
    "no channels": lambda: filled(2, 0, 6, 6),
    "one number": lambda: filled(),
    "a row": lambda: filled(4),
    "integers": lambda: filled(2, 4, 6, 6).to(torch.int64),
    "truths": lambda: filled(2, 4, 6, 6) > 0,
    "half": lambda: filled(2, 4, 6, 6).to(torch.bfloat16),
}
"""What operators are called on; those that eager refuses are left out."""


def changed(operator: Callable[[Tensor], Any]) -> Operator:
    """An operator that changes its operand, as a function that gives the operand afterwards."""

    def call(x: Tensor) -> Tensor:
        x = x.clone()
        operator(x)
        return x

    return call


def set_part(x: Tensor) -> None:
    x[:, 1] = x[:, 0] * 2


def set_where(x: Tensor) -> None:
    x[x > 0] = 1


OPERATORS: Mapping[str, Operator] = {
    "hardswish": F.hardswish,
    "hardsigmoid": F.hardsigmoid,
    "silu": F.silu,
    "mish": F.mish,
    "gelu": lambda x: F.gelu(x, approximate="tanh"),
    "softplus": F.softplus,
    "elu": F.elu,
    "celu": F.celu,
    "selu": F.selu,
    "relu6": F.relu6,
    "logsigmoid": F.logsigmoid,
    "glu": lambda x: F.glu(x, 1),
    "softmax": lambda x: x.softmax(0, dtype=torch.float32),
    "log_softmax": lambda x: x.log_softmax(-1),
    "normalize": lambda x: F.normalize(x, dim=1),
    "layer_norm": lambda x: F.layer_norm(x, x.shape[-1:]),
    "rms_norm": lambda x: F.rms_norm(x, x.shape[-2:]),
    "group_norm": lambda x: F.group_norm(x, 2),
    "pixel_shuffle": lambda x: F.pixel_shuffle(x, 2),
    "pixel_unshuffle": lambda x: (
        F.pixel_unshuffle(x, 3) if x.numel() else x
    ),  # eager gives back what is empty
    "channel_shuffle": lambda x: F.channel_shuffle(x, 2),
    "unfold": lambda x: F.unfold(x, 3, padding=1),
    "bilinear": lambda x: F.interpolate(x, scale_factor=1.5, mode="bilinear"),
    "nearest": lambda x: F.interpolate(x, size=(4, 9)),
    "adaptive_avg_pool": lambda x: F.adaptive_avg_pool2d(x, (1, 3)),
    "avg_pool": lambda x: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False),
    "max_pool": lambda x: F.max_pool2d(x, 3, 2, 1, ceil_mode=True),
    "convolution": lambda x: F.conv2d(x, filled(6, 2, 3, 3).to(x.dtype), padding=1, groups=2),
    "transposed convolution": lambda x: F.conv_transpose2d(x, filled(4, 3, 2, 2).to(x.dtype), stride=2),
    "linear": lambda x: F.linear(x, filled(5, x.shape[-1]).to(x.dtype)),
    "product with itself": lambda x: x @ x.transpose(-1, -2),
    "einsum": lambda x: torch.einsum("bchw,bdhw->bcd", x, x),
    "attention": lambda x: F.scaled_dot_product_attention(x, x, x),
    "roll": lambda x: x.roll((1, -2), (0, -1)),
    "flip": lambda x: x.flip(0, -1),
    "rot90": lambda x: x.rot90(1, (-2, -1)),
    "chunk": lambda x: x.chunk(3, -1),
    "unbind": lambda x: x.unbind(1),
    "stack": lambda x: torch.stack([x, x * 2], 1),
    "cat": lambda x: torch.cat([x, torch.ones_like(x, dtype=torch.float32)], -1),
    "cumsum": lambda x: x.cumsum(-1),
    "clamp": lambda x: x.clamp(-1, 1.5),
    "where": lambda x: torch.where(x > 0, x, 2),
    "masked_fill": lambda x: x.masked_fill(x > 1, -1),
    "triu": lambda x: x.triu(1),
    "repeat_interleave": lambda x: x.repeat_interleave(3, 0),
    "tile": lambda x: x.tile(2, 1, 1, 3),
    "amax": lambda x: x.amax((0, -1), keepdim=True),
    "std": lambda x: x.std(-1),
    "var_mean": lambda x: torch.var_mean(x, 1, correction=0),
    "logsumexp": lambda x: x.logsumexp(1),
    "argmax": lambda x: x.argmax(),
    "count": lambda x: (x > 0).sum(-1),
    "mean": lambda x: x.mean(dtype=torch.float32),
    "topk": lambda x: x.topk(2).values,
    "take_along_dim": lambda x: x.take_along_dim(x.argsort(-1), -1),
    "index_select": lambda x: x.index_select(-1, torch.tensor([3, 0, 3])),
    "reflected border": lambda x: F.pad(x, (2, 1, 1, 2), mode="reflect"),
    "circular border": lambda x: F.pad(x, (2, 1, 1, 2), mode="circular"),
    "addcmul": lambda x: torch.addcmul(x, x, x, value=2),
    "lerp": lambda x: x.lerp(x * 2, 0.25),
    "mixed sum": lambda x: x + torch.arange(6, dtype=torch.int32) * torch.tensor(True),
    "mixed quotient": lambda x: 3 / (x.abs() + 1),
    "floor_divide": lambda x: x // 2,
    "remainder": lambda x: x % -2,
    "power": lambda x: x**2,
    "unflatten": lambda x: x.unflatten(-1, (2, -1)),
    "movedim": lambda x: x.movedim(0, -1).flatten(1) + 0,
    "diff": lambda x: x.diff(dim=-1),
    "nan_to_num": lambda x: (x / 0).nan_to_num(1.0, 2.0, 3.0),
    "to and fro": lambda x: x.to(torch.float64).to(torch.uint8).to(torch.float32) if (x >= 0).all() else -x,
    "add_": changed(lambda x: x.add_(1)),
    "mul_ by itself": changed(lambda x: x.mul_(x.clone())),
    "relu_": changed(lambda x: F.relu_(x)),
    "masked_fill_": changed(lambda x: x.masked_fill_(x > 0, 0)),
    "index_add_": changed(lambda x: x.index_add_(0, torch.tensor([1, 0]), x.clone())),
    "transposed copy_": changed(lambda x: x.transpose(-1, -2).copy_(x.clone())),
    "part set": changed(set_part),
    "set by a mask": changed(set_where),
}
"""Name -> operator; each is called on every form that eager takes."""


@contextlib.contextmanager
def unwarned() -> Iterator[None]:
    """torch warns of deviations of single numbers."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def called(one_in: int = 1) -> list[tuple[str, Eager]]:
    """One in so many calls of the operators on all forms, with what eager gives."""
    out = []
    for (name, operator), (form, make) in itertools.product(OPERATORS.items(), FORMS.items()):
        title = f"{name} of {form}"
        if not share(title, one_in):
            continue
        try:
            with unwarned():
                eager = Eager.of(operator, [make()])
        except (RuntimeError, IndexError, ValueError, NotImplementedError):
            continue  # eager does not take it
        out.append((title, eager))
    return out


def failures(calls: list[tuple[str, Eager]], target: str) -> list[str]:
    """What is not native and right."""
    with capturing() as capture, unwarned():
        ready = [Ready(name, 0, capture(eager)) for name, eager in calls]
    judged = run_captured(ready, target)
    return [f"{one.operator}: {status} {detail}" for one, status, detail in judged if status != "native"]


@pytest.mark.slow
def test_forms_on_the_interpreter() -> None:
    calls = called()
    assert len(calls) > 700
    assert not failures(calls, "reference")


@pytest.mark.slow
def test_forms_compiled() -> None:
    calls = called(6)
    assert len(calls) > 100
    assert not failures(calls, "c")
