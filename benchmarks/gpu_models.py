"""The networks of `benchmarks.gpu`, in plain PyTorch, so that a machine without `transformers` has them too.

ResNet-50 (He et al. 2015), BERT-base (Devlin et al. 2018) and GPT-2 (Radford et al. 2019), at the size of
their authors or small; weights are random, from a seed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.gpu_draw import drawn

SEED = 20


@dataclass(frozen=True)
class Sizes:
    """Extents of a network of blocks.

    Attributes:
        width, heads, layers: of a transformer.
        vocabulary: how many tokens there are.
        length: tokens of an input; of a cache, for decoding.
        stages: residual blocks of each stage of a ResNet.
        base, image, classes: its first channels, its picture, its outputs.
    """

    width: int = 768
    heads: int = 12
    layers: int = 12
    vocabulary: int = 50257
    length: int = 512
    stages: tuple[int, ...] = (3, 4, 6, 3)
    base: int = 64
    image: int = 224
    classes: int = 1000


FULL = Sizes()
SMALL = Sizes(32, 2, 1, 64, 16, (1, 1), 16, 32, 10)


def through(x: Tensor, *modules: nn.Module) -> Tensor:
    """What modules make of a tensor, one after the other."""
    for module in modules:
        x = module(x)
    return x


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions beside a shortcut."""

    def __init__(self, inputs: int, middle: int, stride: int) -> None:
        super().__init__()
        outputs = 4 * middle
        self.body = nn.Sequential(
            *_convolution(inputs, middle, 1, 1),
            nn.ReLU(),
            *_convolution(middle, middle, 3, stride),
            nn.ReLU(),
            *_convolution(middle, outputs, 1, 1),
        )
        same = inputs == outputs and stride == 1
        self.shortcut = nn.Identity() if same else nn.Sequential(*_convolution(inputs, outputs, 1, stride))

    def forward(self, x: Tensor) -> Tensor:
        """[batch, channels, height, width]"""
        return F.relu(self.body(x) + self.shortcut(x))


def _convolution(inputs: int, outputs: int, size: int, stride: int) -> tuple[nn.Module, nn.Module]:
    return nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False), nn.BatchNorm2d(outputs)


class ResNet(nn.Module):
    """A residual network of bottlenecks."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        blocks: list[nn.Module] = []
        channels = sizes.base
        for number, count in enumerate(sizes.stages):
            middle = sizes.base << number
            for block in range(count):
                blocks.append(Bottleneck(channels, middle, 2 if number and not block else 1))
                channels = 4 * middle
        self.stem = nn.Sequential(*_convolution(3, sizes.base, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1))
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(channels, sizes.classes)

    def forward(self, image: Tensor) -> Tensor:
        """[batch, 3, image, image] -> [batch, classes]"""
        return through(through(image, self.stem, self.blocks).mean((2, 3)), self.head)


class Block(nn.Module):
    """Attention and two products behind each other; norms before (GPT-2) or behind (BERT) them."""

    def __init__(self, sizes: Sizes, first: bool) -> None:
        super().__init__()
        self.heads, self.first = sizes.heads, first
        self.joint = nn.Linear(sizes.width, 3 * sizes.width)
        self.out = nn.Linear(sizes.width, sizes.width)
        self.wide = nn.Linear(sizes.width, 4 * sizes.width)
        self.narrow = nn.Linear(4 * sizes.width, sizes.width)
        self.norms = nn.ModuleList(nn.LayerNorm(sizes.width) for _ in range(2))

    def heads_of(self, x: Tensor) -> tuple[Tensor, ...]:
        """Queries, keys and values, [batch, heads, tokens, width of a head] each."""
        parts = self.joint(x).chunk(3, -1)
        return tuple(p.unflatten(-1, (self.heads, -1)).transpose(1, 2) for p in parts)

    def attend(self, x: Tensor) -> Tensor:
        """Attention over the tokens of x; of GPT-2 over earlier ones."""
        q, k, v = self.heads_of(x)
        return self.joined(F.scaled_dot_product_attention(q, k, v, is_causal=self.first))

    def joined(self, heads: Tensor) -> Tensor:
        """The heads side by side, and the product behind them."""
        return through(heads.transpose(1, 2).flatten(2), self.out)

    def feed(self, x: Tensor) -> Tensor:
        """The two products."""
        wide = F.gelu(self.wide(x), approximate="tanh" if self.first else "none")
        return through(wide, self.narrow)

    def forward(self, x: Tensor) -> Tensor:
        """[batch, tokens, width]"""
        if self.first:
            x = x + self.attend(self.norms[0](x))
            return x + self.feed(self.norms[1](x))
        x = through(x + self.attend(x), self.norms[0])
        return through(x + self.feed(x), self.norms[1])


class Transformer(nn.Module):
    """Tokens and places, then blocks: an encoder like BERT's, or GPT-2 with the product to all tokens."""

    def __init__(self, sizes: Sizes, causal: bool) -> None:
        super().__init__()
        self.causal = causal
        self.tokens = nn.Embedding(sizes.vocabulary, sizes.width)
        self.places = nn.Embedding(sizes.length, sizes.width)
        self.blocks = nn.ModuleList(Block(sizes, causal) for _ in range(sizes.layers))
        self.norm = nn.LayerNorm(sizes.width)

    def embedded(self, tokens: Tensor, places: Tensor) -> Tensor:
        """What the first block reads."""
        x = through(tokens, self.tokens) + self.places(places)
        return x if self.causal else through(x, self.norm)

    def forward(self, tokens: Tensor) -> Tensor:
        """[batch, tokens] -> the last token's logits (GPT-2), or all of the last block's results"""
        x = self.embedded(tokens, torch.arange(tokens.shape[1], device=tokens.device))
        for block in self.blocks:
            x = block(x)
        return self.logits(x[:, -1:]) if self.causal else x

    def logits(self, x: Tensor) -> Tensor:
        """[batch, tokens, vocabulary]"""
        return F.linear(self.norm(x), self.tokens.weight)


class Decoder(nn.Module):
    """One step of GPT-2: keys and values of earlier tokens are buffers, written in place."""

    def __init__(self, sizes: Sizes, batch: int) -> None:
        super().__init__()
        self.network = Transformer(sizes, causal=True)
        shape = (sizes.layers, batch, sizes.heads, sizes.length, sizes.width // sizes.heads)
        self.keys: Tensor
        self.values: Tensor
        self.register_buffer("keys", torch.zeros(shape))
        self.register_buffer("values", torch.zeros(shape))

    def forward(self, token: Tensor, place: Tensor) -> Tensor:
        """[batch, 1] tokens at [1] place -> [batch, 1, vocabulary]"""
        network = self.network
        x = network.embedded(token, place)
        seen = torch.arange(self.keys.shape[3], device=place.device) <= place
        for number, block in enumerate(network.blocks):
            assert isinstance(block, Block)
            q, k, v = block.heads_of(block.norms[0](x))
            self.keys[number].index_copy_(2, place, k)
            self.values[number].index_copy_(2, place, v)
            keys, values = self.keys[number], self.values[number]
            x = x + block.joined(
                F.scaled_dot_product_attention(q, keys, values, attn_mask=seen[None, None, None])
            )
            x = x + block.feed(block.norms[1](x))
        return network.logits(x)


NETWORKS: dict[str, Callable[[Sizes, int], nn.Module]] = {
    "resnet50": lambda sizes, batch: ResNet(sizes),
    "bert": lambda sizes, batch: Transformer(sizes, causal=False),
    "gpt2": lambda sizes, batch: Transformer(sizes, causal=True),
    "gpt2 decode": Decoder,
}
"""Name -> the network for a batch."""


def network(name: str, batch: int, small: bool = False) -> nn.Module:
    """A network of bf16 in evaluation mode, its weights random but the same each time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        return NETWORKS[name](SMALL if small else FULL, batch).eval().to(torch.bfloat16)


def network_inputs(name: str, batch: int, small: bool = False) -> tuple[tuple[Any, ...], ...]:
    """(dtype, shape) of each input, or (dtype, shape, bound); see `benchmarks.gpu_draw`."""
    sizes = SMALL if small else FULL
    if name == "resnet50":
        return (("bf16", (batch, 3, sizes.image, sizes.image)),)
    if name == "gpt2 decode":
        return ("i64", (batch, 1), sizes.vocabulary), ("i64", (1,), sizes.length)
    return (("i64", (batch, sizes.length // 4), sizes.vocabulary),)


def example_tensors(name: str, batch: int, small: bool = False, device: str = "cpu") -> tuple[Tensor, ...]:
    """Inputs of a network."""
    rows = network_inputs(name, batch, small)
    return tuple(tensor_of(v, str(r[0]), device) for v, r in zip(drawn(name, rows), rows, strict=True))


def tensor_of(value: np.ndarray[Any, Any], dtype: str, device: str) -> Tensor:
    """An array as a tensor on a device."""
    if dtype == "bf16":
        return torch.from_numpy(value.view(np.int16)).view(torch.bfloat16).to(device)
    return torch.from_numpy(value).to(device)
