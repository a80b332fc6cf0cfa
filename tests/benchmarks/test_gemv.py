"""The benchmark of single rows, on small shapes: engines compute the same, rows say what was measured."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.compression import gemv


def test_engines_compute_the_same_and_are_timed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gemv, "SHAPES", ((256, 64),))
    monkeypatch.setattr(gemv, "FEW_ROWS", ())
    monkeypatch.setattr(gemv, "SCHEMES", ((4, 32), (8, 0), (32, 0)))
    monkeypatch.setattr(gemv, "NEAR", (256, 64))
    monkeypatch.setattr(gemv, "LEAST_BYTES", 1 << 15)
    monkeypatch.setattr(gemv, "READ_BYTES", 1 << 14)
    rows = tmp_path / "rows.jsonl"
    assert gemv.main(["--turns", "2", "--threads", "2", "--jsonl", str(rows)]) == 0
    found = [json.loads(line) for line in rows.read_text().splitlines()]
    assert len(found) == 2 * 3 + 2 and len({r["case"] for r in found}) == 3
    for row in found:
        assert row["difference"] < (0.05 if "bytes" in row["engine"] else 1e-5), row
        assert row["ms"] >= row["ms_least"] > 0 and row["share_of_read"] > 0
        assert row["engine"] != "aino" or row["kernel"].startswith(
            "contract" if "f32" in row["case"] else "decoding"
        )
    assert capsys.readouterr().out.count("of the bandwidth") == len(found)
    assert gemv.main(["--near", "--only", "int4/32", "--jsonl", str(rows)]) == 0
    assert json.loads(rows.read_text().splitlines()[-1])["gbytes_per_second"] > 0
    assert "one core from its cache" in capsys.readouterr().out


def test_as_many_products_as_leave_the_caches() -> None:
    assert gemv.Case(1, 4096, 4096, 4, 128).bytes == (8 << 20) + (512 << 10)
    assert gemv.Case(1, 4096, 4096, 4, 128).copies == 16
    assert gemv.Case(1, 1024, 1024, 4, 128).copies == gemv.MOST_COPIES
    assert gemv.Case(1, 11008, 4096, 32).copies == 1


@pytest.mark.parametrize("bits", [4, 8])
def test_blocks_are_unsigned_and_low_halves_come_first(bits: int) -> None:
    half = 1 << (bits - 1)
    values = np.random.default_rng(0).integers(-half, half, (40, 3)).astype(np.int8)
    packed = gemv.blocks(values, bits, 32)
    assert packed.shape == (3, 2, 32 * bits // 8)
    flat = packed.reshape(3, -1)
    if bits == 4:
        flat = np.stack([flat & 15, flat >> 4], axis=2).reshape(3, -1)
    assert np.array_equal(flat[:, :40].T.astype(int) - half, values)
    assert (flat[:, 40:] == half).all()
