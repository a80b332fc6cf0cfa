"""The cache as the command line sees it, and what compiled models are keyed by."""

from __future__ import annotations

import os
from pathlib import Path

from aino_ir.driver import cache
from aino_ir.runtime.store import Store, digest


def test_artifact_keys_depend_on_every_part() -> None:
    parts = {"model": "a", "target": "c:avx2", "level": "2"}
    keys = {cache.artifact_key(parts)}
    for name in parts:
        keys.add(cache.artifact_key({**parts, name: "x"}))
    keys.add(cache.artifact_key({"model": "ac:avx2", "target": "", "level": "2"}))
    assert len(keys) == 5
    assert cache.artifact_key(dict(reversed(parts.items()))) == cache.artifact_key(parts)


def test_source_hash_covers_every_room(tmp_path: Path, monkeypatch) -> None:
    def hashed() -> str:
        cache.source_hash.cache_clear()
        return cache.source_hash()

    for room in cache.ROOMS:
        (tmp_path / room).mkdir()
        (tmp_path / room / "x.py").write_text("1")
    monkeypatch.setattr(cache, "__file__", str(tmp_path / "driver" / "cache.py"))
    first = hashed()
    assert hashed() == first
    for room in cache.ROOMS:
        (tmp_path / room / "x.py").write_text("2")
        changed = hashed()
        assert changed != first
        first = changed
    (tmp_path / "passes" / "notes.txt").write_text("no source")
    assert hashed() == first
    monkeypatch.undo()
    assert hashed() != first


def test_entries_are_listed_last_used_first_and_cleared(store: Store, hermetic_cache: Path) -> None:
    assert cache.cache_path() == hermetic_cache
    for age, name in ((50, "old"), (10, "new")):
        store.put("artifact", digest(name), b"12345")
        os.utime(store.get_path("artifact", digest(name)), (1000 - age,) * 2)
    rows = cache.describe_cache(store, now=1000)
    assert [(r["kind"], r["key"], r["bytes"], r["idle_seconds"]) for r in rows] == [
        ("artifact", digest("new"), 5, 10),
        ("artifact", digest("old"), 5, 50),
    ]
    assert cache.clear_cache(store) == (2, 10)
    assert cache.describe_cache(store) == []
