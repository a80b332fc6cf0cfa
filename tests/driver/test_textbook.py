"""The examples of textbooks, from plain PyTorch code to compiled programs that agree with eager."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import aino_ir as aino

BOUND = 1e-4
"""Largest difference, as a share of the largest |eager result|."""


def compiled(model: nn.Module, inputs: tuple[Any, ...], **options: Any) -> Any:
    """The program of target c, all of it native."""
    module = aino.load(model.eval(), inputs, **options)
    executable = aino.compile(module, "c", threads=1)
    assert not executable.report.python_nodes
    return executable


def agree(executable: Any, model: nn.Module, inputs: tuple[Any, ...]) -> list[torch.Tensor]:
    """Run both and compare; returns eager's results."""
    with torch.no_grad():
        made = model(*inputs)
    wanted = list(made) if isinstance(made, tuple) else [made]
    for got, want in zip(executable.run(*inputs), wanted, strict=True):
        assert got.shape == want.shape and got.dtype == want.dtype
        if want.numel():
            error = float((got.double() - want.double()).abs().max())
            assert error <= BOUND * float(want.double().abs().max()), error
    return wanted


@pytest.mark.slow
def test_digits_are_read_by_a_trained_perceptron() -> None:
    """784-64-10 on scikit-learn's digits, resized to 28 x 28; half of each class is for testing."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    images, labels = load_digits(return_X_y=True)
    pictures = torch.tensor(images, dtype=torch.float32).reshape(-1, 1, 8, 8) / 16
    data = F.interpolate(pictures, size=(28, 28), mode="bilinear").flatten(1).numpy()
    x, x_test, y, y_test = map(
        torch.as_tensor, train_test_split(data, labels, test_size=0.5, stratify=labels, random_state=0)
    )
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(784, 64), nn.ReLU(), nn.Linear(64, 10), nn.Softmax(dim=1))
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(60):
        optimizer.zero_grad()
        F.nll_loss(torch.log(model(x) + 1e-9), y).backward()
        optimizer.step()
    batch = torch.export.Dim("batch", min=1, max=1024)
    executable = compiled(model, (x_test[:5],), dynamic_shapes=({0: batch},))
    (wanted,) = agree(executable, model, (x_test,))
    (got,) = executable.run(x_test)
    assert torch.equal(got.argmax(1), wanted.argmax(1))
    assert float((got.argmax(1) == y_test).float().mean()) > 0.93
    agree(executable, model, (x_test[:1],))


@pytest.mark.slow
def test_sequence_classifier_on_bert() -> None:
    from transformers import BertConfig, BertModel

    class Classifier(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
            self.body = BertModel(BertConfig(vocab_size=99, intermediate_size=64, **sizes))
            self.head = nn.Linear(32, 3)

        def forward(self, ids, mask):
            return self.head(self.body(input_ids=ids, attention_mask=mask).last_hidden_state[:, 0])

    torch.manual_seed(0)
    model, mask = Classifier(), torch.ones(2, 9, dtype=torch.int64)
    mask[1, 6:] = 0
    inputs = torch.randint(2, 99, (2, 9)), mask
    agree(compiled(model, inputs), model, inputs)


class Inception(nn.Module):
    """Four branches side by side."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.one = nn.Conv2d(inputs, 8, 1)
        self.three = nn.Sequential(nn.Conv2d(inputs, 6, 1), nn.ReLU(), nn.Conv2d(6, 8, 3, padding=1))
        self.five = nn.Sequential(nn.Conv2d(inputs, 4, 1), nn.ReLU(), nn.Conv2d(4, 8, 5, padding=2))
        self.pool = nn.Sequential(nn.MaxPool2d(3, 1, 1), nn.Conv2d(inputs, 8, 1))
        self.norm = nn.BatchNorm2d(32)

    def forward(self, x):
        return F.relu(self.norm(torch.cat([self.one(x), self.three(x), self.five(x), self.pool(x)], 1)))


@pytest.mark.slow
def test_inception_with_a_new_head() -> None:
    torch.manual_seed(0)
    stem = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(3, 2, 1))
    body = nn.Sequential(stem, Inception(16), Inception(32), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    model = nn.Sequential(body, nn.Dropout(0.4), nn.Linear(32, 5))
    inputs = (torch.randn(2, 3, 40, 36),)
    agree(compiled(model, inputs), model, inputs)


class Detector(nn.Module):
    """One shot: scores and boxes of every cell and anchor, then suppression of what overlaps."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 16, 3, 2, 1), nn.LeakyReLU(0.1), nn.Conv2d(16, 24, 3, 2, 1), nn.LeakyReLU(0.1)
        )
        self.head = nn.Conv2d(24, 2 * 5, 1)
        sizes = torch.tensor([0.3, 0.6])
        rows, columns = torch.meshgrid(torch.arange(4) / 4, torch.arange(4) / 4, indexing="ij")
        self.register_buffer("anchors", torch.stack([columns, rows], -1).reshape(1, 16, 2) + 0.125)
        self.register_buffer("sizes", sizes.reshape(2, 1, 1))

    def forward(self, x):
        raw = self.head(self.body(x))[0].reshape(2, 5, 16).permute(0, 2, 1)
        centres = self.anchors + 0.2 * raw[..., :2].tanh()
        halves = self.sizes * raw[..., 2:4].exp() / 2
        boxes = torch.cat([centres - halves, centres + halves], -1).reshape(-1, 4)
        scores, order = raw[..., 4].sigmoid().reshape(-1).sort(descending=True)
        boxes = boxes[order]
        kept = suppressed(boxes, 0.5) & (scores > 0.3)
        return boxes[kept], scores[kept]


def suppressed(boxes: torch.Tensor, overlap: float) -> torch.Tensor:
    """Which of the boxes, best first, overlap no better one that is kept too much."""
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    low = torch.maximum(boxes[:, None, :2], boxes[None, :, :2])
    high = torch.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    common = (high - low).clamp(min=0).prod(-1)
    clash = common / (area[:, None] + area[None, :] - common) > overlap
    kept = torch.ones(len(boxes), dtype=torch.bool)
    later = torch.arange(len(boxes))
    for i in range(len(boxes)):
        kept = kept & ~(clash[i] & kept[i] & (later > i))
    return kept


@pytest.mark.slow
def test_detector_with_suppression_in_plain_pytorch() -> None:
    torch.manual_seed(0)
    model = Detector()
    nn.init.normal_(model.head.weight, std=0.5)
    executable = compiled(model, (torch.randn(1, 3, 16, 16),))
    counts = {len(agree(executable, model, (torch.randn(1, 3, 16, 16) * k,))[0]) for k in (1, 2, 5)}
    assert len(counts) > 1 and all(0 < count < 32 for count in counts)


class Listener(nn.Module):
    """Convolution over a spectrogram, recurrent layers in both directions, the best path of CTC."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(1, 4, (11, 5), (2, 1), (5, 2)), nn.BatchNorm2d(4), nn.Hardtanh(0, 20)
        )
        self.recurrent = nn.LSTM(4 * 10, 16, num_layers=2, bidirectional=True, batch_first=True)
        self.head = nn.Linear(32, 7)

    def forward(self, x):
        y = self.conv(x.unsqueeze(1)).flatten(1, 2).transpose(1, 2)
        logits = self.head(self.recurrent(y)[0]).log_softmax(-1)
        path = logits[0].argmax(-1)
        before = torch.cat([path.new_zeros(1), path[:-1]])
        return logits, path[(path != before) & (path != 0)]


@pytest.mark.slow
def test_speech_with_a_greedy_decoder() -> None:
    torch.manual_seed(0)
    model = Listener().eval()
    nn.init.normal_(model.head.weight, std=3.0)
    for parameter in model.recurrent.parameters():
        nn.init.normal_(parameter, std=0.6)
    inputs = (torch.randn(1, 20, 24),)
    executable = compiled(model, inputs)
    _, text = agree(executable, model, inputs)
    assert 2 < len(text) < 24
    assert torch.equal(executable.run(*inputs)[1], text)
    agree(executable, model, (torch.randn(1, 20, 24) * 3,))


class Recommender(nn.Module):
    """Bags of categories, dense numbers, their products in pairs, a perceptron on top."""

    def __init__(self) -> None:
        super().__init__()
        self.bags = nn.ModuleList([nn.EmbeddingBag(n, 8, mode=m) for n, m in ((20, "sum"), (50, "mean"))])
        self.bottom = nn.Sequential(nn.Linear(5, 16), nn.ReLU(), nn.Linear(16, 8), nn.ReLU())
        self.top = nn.Sequential(nn.Linear(8 + 3, 16), nn.ReLU(), nn.Linear(16, 1))

    def forward(self, dense, items, item_starts, tags, tag_starts):
        bottom = self.bottom(dense)
        parts = [bottom, self.bags[0](items, item_starts), self.bags[1](tags, tag_starts)]
        stacked = torch.stack(parts, 1)
        products = torch.bmm(stacked, stacked.transpose(1, 2))
        rows, columns = torch.tril_indices(3, 3, -1)
        return torch.sigmoid(self.top(torch.cat([bottom, products[:, rows, columns]], 1)))


@pytest.mark.slow
def test_recommender_with_embedding_bags() -> None:
    torch.manual_seed(0)
    model = Recommender()
    inputs = (
        torch.randn(3, 5),
        torch.randint(0, 20, (7,)),
        torch.tensor([0, 2, 2]),
        torch.randint(0, 50, (9,)),
        torch.tensor([0, 1, 5]),
    )
    agree(compiled(model, inputs), model, inputs)


class GraphNetwork(nn.Module):
    """Two rounds of messages along edges, normalised by the degrees of both ends."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(6, 8), nn.Linear(8, 3)])

    def forward(self, x, edges):
        source, target = edges[0], edges[1]
        ones = torch.ones(edges.shape[1])
        degree = torch.zeros(x.shape[0]).index_add(0, target, ones) + 1
        weight = (degree[source] * degree[target]).rsqrt().unsqueeze(1)
        for number, layer in enumerate(self.layers):
            y = layer(x)
            spread = y[target].mul(0).new_zeros(y.shape)
            message = y[source] * weight
            total = spread.scatter_add(0, target.unsqueeze(1).expand_as(message), message)
            x = total + y / degree.unsqueeze(1)
            x = F.relu(x) if number == 0 else x
        return x.log_softmax(1)


@pytest.mark.slow
def test_graph_network_for_any_number_of_edges() -> None:
    torch.manual_seed(0)
    model = GraphNetwork()
    count = torch.export.Dim("edges", min=1, max=500)
    executable = compiled(
        model, (torch.randn(7, 6), torch.randint(0, 7, (2, 12))), dynamic_shapes=(None, {1: count})
    )
    for edges in (1, 12, 40):
        agree(executable, model, (torch.randn(7, 6), torch.randint(0, 7, (2, edges))))


class Towers(nn.Module):
    """An image and a text on one sphere."""

    def __init__(self) -> None:
        super().__init__()
        self.image = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2, 1), nn.SiLU(), nn.Conv2d(8, 16, 3, 2, 1), nn.GroupNorm(4, 16), nn.SiLU()
        )
        self.image_head = nn.Linear(16, 12)
        self.table = nn.Embedding(50, 16)
        self.text = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True)
        self.text_head = nn.Linear(16, 12)
        self.scale = nn.Parameter(torch.tensor(2.0))

    def forward(self, pictures, ids):
        image = F.normalize(self.image_head(self.image(pictures).mean((2, 3))), dim=-1)
        seen = (ids != 0).unsqueeze(-1)
        states = self.text(self.table(ids)) * seen
        text = F.normalize(self.text_head(states.sum(1) / seen.sum(1)), dim=-1)
        return self.scale.exp() * image @ text.T


@pytest.mark.slow
def test_two_towers_meet() -> None:
    torch.manual_seed(0)
    model = Towers()
    ids = torch.randint(1, 50, (3, 6))
    ids[0, 4:] = 0
    inputs = torch.randn(2, 3, 16, 16), ids
    agree(compiled(model, inputs), model, inputs)
