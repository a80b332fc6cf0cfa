"""Some architectures of transformers through torch.export; `python -m benchmarks.torch_zoo` does all."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmarks import torch_zoo
from tests.conformance.cases import share


def test_the_zoo_is_large_and_well_formed() -> None:
    import transformers

    assert len(torch_zoo.ZOO) >= 40
    for entry in torch_zoo.ZOO.values():
        assert hasattr(transformers, entry.model) and hasattr(transformers, entry.config)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet", *(n for n in torch_zoo.ZOO if share(n, 24, 5))])
def test_architectures_agree_with_eager(name: str) -> None:
    outcome = torch_zoo.run_model(name, "c")
    assert outcome.status == "passed", outcome.detail
    assert outcome.python_nodes == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mixtral", "t5", "whisper"])
def test_architectures_agree_on_the_interpreter(name: str) -> None:
    outcome = torch_zoo.run_model(name, "reference")
    assert outcome.status == "passed", outcome.detail


def test_rows_are_kept_and_failures_are_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def failing(name: str):
        calls.append(name)
        raise ValueError("no such model")

    monkeypatch.setattr(torch_zoo, "build", failing)
    path = tmp_path / "zoo.jsonl"
    for _ in range(2):
        assert torch_zoo.main(["--match", "^bert$", "--jsonl", str(path)]) == 1
    assert calls == ["bert"]
    monkeypatch.setattr(torch_zoo, "source_hash", lambda: "another")
    assert torch_zoo.main(["--match", "^bert$", "--keep", "--jsonl", str(path)]) == 1
    assert calls == ["bert"]
    assert torch_zoo.main(["--match", "^bert$", "--jsonl", str(path)]) == 1
    assert calls == ["bert", "bert"]
    assert '"failed"' in path.read_text()


def test_errors_are_shares_of_the_largest_result() -> None:
    want = torch.tensor([1.0, -10.0])
    assert torch_zoo.largest_error([want], [want]) == 0
    assert torch_zoo.largest_error([want + 1], [want]) == pytest.approx(0.1)
    assert torch_zoo.largest_error([], [want]) == float("inf")
    assert torch_zoo.largest_error([want.double()], [want]) == float("inf")


def test_masks_are_compared_exactly_and_nan_is_an_error() -> None:
    lowest = torch.finfo(torch.float32).min
    want = torch.tensor([1.0, lowest, float("inf")])
    assert torch_zoo.largest_error([want], [want]) == 0
    assert torch_zoo.largest_error([torch.tensor([2.0, lowest, float("inf")])], [want]) == 1
    assert torch_zoo.largest_error([torch.tensor([1.0, 0.0, float("inf")])], [want]) == float("inf")
    assert torch_zoo.largest_error([torch.full((3,), float("nan"))], [want]) == float("inf")
    nothing = torch.tensor([float("nan"), 1.0])
    assert torch_zoo.largest_error([nothing], [nothing]) == 0


def test_the_page_has_a_row_a_model() -> None:
    row = {"model": "bert", "target": "c", "status": "passed", "ops": 9, "kernels": 4, "error": 1e-7}
    rest = {"python_nodes": 0, "seconds": 1.5, "detail": "", "versions": "torch 2", "source": "c0ffee"}
    text = torch_zoo.page([{**row, **rest}, {**row, **rest, "status": "failed", "detail": "no kernel"}])
    assert "| bert | BertModel | c | passed | 9 | 4 | 0 | 1.0e-07 | 1.5 |" in text
    assert "1 of 2 pass. torch 2." in text and "- bert: no kernel" in text
    assert "Sources of AINO: c0ffee (2 rows)." in text and "Not run: albert, " in text


def test_a_model_that_gives_nothing_does_not_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    class Silent(torch.nn.Module):
        def forward(self, x):
            return x * 0

    monkeypatch.setattr(torch_zoo, "build", lambda name: (Silent(), {"x": torch.ones(3)}))
    assert torch_zoo.run_model("bert", "reference").status == "wrong"
    assert torch_zoo.varies([torch.tensor([1.0, 2.0])]) and not torch_zoo.varies([torch.tensor([1, 2])])
