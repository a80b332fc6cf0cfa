"""The store: right answers, damage, limits, other users, full disks, killed and concurrent writers."""

from __future__ import annotations

import errno
import multiprocessing
import os
import shutil
import stat
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest

from aino_ir.errors.cache import CacheUntrusted, CacheWarning, DiskFull, FileNotWritable
from aino_ir.runtime.fileio import sweep
from aino_ir.runtime.store import Store, cache_folder, digest, opened_or_temporary
from tests.tools.hermetic import FaultyDisk, left_over

KEY = digest("a key")


def keys(count: int) -> list[str]:
    return [digest("key", i) for i in range(count)]


def test_what_is_put_is_got(store: Store) -> None:
    assert store.get("object", KEY) is None
    assert store.put("object", KEY, b"hello")
    assert store.get("object", KEY) == b"hello"
    assert store.get("library", KEY) is None
    path = store.get_path("object", KEY)
    assert path is not None and path.read_bytes() == b"hello"
    assert store.put("object", KEY, b"")
    assert not left_over(store.root)


def test_a_cache_that_was_emptied_meanwhile_takes_entries(store: Store) -> None:
    assert store.put("x", KEY, b"before")
    shutil.rmtree(store.base)
    assert store.put("x", KEY, b"after") and store.get("x", KEY) == b"after"


def test_a_second_content_replaces_the_first(store: Store) -> None:
    store.put("object", KEY, b"old")
    os.utime(store.entries()[0].path, (1, 1))
    store.put("object", KEY, b"new")
    assert store.get("object", KEY) == b"new"


def test_digest_tells_types_and_boundaries_apart() -> None:
    assert (
        len({digest("ab", "c"), digest("a", "bc"), digest("abc"), digest(b"abc"), digest(1), digest("1")})
        == 6
    )
    assert digest("x") == digest("x")


def test_folder_is_private(store: Store) -> None:
    store.put("object", KEY, b"x")
    assert stat.S_IMODE(store.root.stat().st_mode) == 0o700
    assert stat.S_IMODE(store.entries()[0].path.stat().st_mode) == 0o600


@pytest.mark.parametrize("damage", ["flip", "cut", "grow", "empty"])
@pytest.mark.parametrize("how", ["get", "get_path"])
def test_damage_is_found_with_one_warning(store: Store, damage: str, how: str) -> None:
    for key in keys(3):
        store.put("object", key, b"0123456789")
    for entry in store.entries():
        data = entry.path.read_bytes()
        changed = {"flip": b"X" + data[1:], "cut": data[:-1], "grow": data + b"!", "empty": b""}[damage]
        entry.path.write_bytes(changed)
    with pytest.warns(CacheWarning, match="damaged") as caught:
        assert [getattr(store, how)("object", key) for key in keys(3)] == [None] * 3
    assert len(caught) == 1
    assert not store.entries(), "bad entries are removed"
    assert store.put("object", KEY, b"again") and store.get("object", KEY) == b"again"


def test_a_linked_entry_is_not_followed(store: Store, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"hello")
    store.put("object", KEY, b"hello")
    path = store.entries()[0].path
    path.unlink()
    path.symlink_to(secret)
    assert store.get("object", KEY) is None
    assert store.get_path("object", KEY) is None


def test_least_recently_used_entries_go_first(hermetic_cache: Path) -> None:
    store = Store.open(hermetic_cache, limit_bytes=350)
    a, b, c, d = keys(4)
    for age, key in ((400, a), (300, b), (200, c)):
        store.put("object", key, bytes(100))
        path = store.get_path("object", key)
        assert path is not None
        os.utime(path, (time.time() - age,) * 2)
    assert store.get("object", a) is not None  # now the youngest
    store.put("object", d, bytes(100))
    assert [store.get("object", key) is not None for key in (a, b, c, d)] == [True, False, True, True]


def test_shrink_and_clear_say_what_went(store: Store) -> None:
    for key in keys(5):
        store.put("object", key, bytes(10))
    assert store.shrink(25) == 3
    assert len(store.entries()) == 2
    store.side_folder("zig").joinpath("x").write_text("x")
    assert store.clear() == (2, 20)
    assert store.entries() == [] and not (store.base / "zig").exists()
    assert store.put("object", KEY, b"x"), "a cleared store still serves"


@pytest.mark.parametrize(("kind", "key"), [("../x", KEY), ("object", "../x"), ("object", "ab"), ("tmp", KEY)])
def test_names_are_checked(store: Store, kind: str, key: str) -> None:
    with pytest.raises(ValueError, match="not a store entry"):
        store.put(kind, key, b"")


def test_cache_folder_follows_the_environment(tmp_path: Path) -> None:
    home = str(tmp_path)
    assert cache_folder({"AINO_CACHE_DIR": "/x", "HOME": home}) == Path("/x")
    assert cache_folder({"AINO_CACHE_DIR": "rel"}).is_absolute()
    assert cache_folder({"XDG_CACHE_HOME": "/xdg", "HOME": home}) == Path("/xdg/aino")
    assert cache_folder({"XDG_CACHE_HOME": "relative", "HOME": home}) == tmp_path / ".cache/aino"
    assert str(os.geteuid()) in cache_folder({}).name


# --- folders that cannot be trusted or used -----------------------------------------------------


@pytest.mark.parametrize("mode", [0o770, 0o777, 0o722])
def test_a_folder_that_others_write_is_refused(tmp_path: Path, mode: int) -> None:
    folder = tmp_path / "cache"
    folder.mkdir()
    folder.chmod(mode)
    with pytest.raises(CacheUntrusted, match=f"mode {mode:03o}") as caught:
        Store.open(folder)
    assert caught.value.exit_status == 4
    with pytest.raises(CacheUntrusted), opened_or_temporary(True, folder):
        pass


def test_a_folder_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    owner = os.geteuid()
    monkeypatch.setattr("os.geteuid", lambda: owner + 1)
    with pytest.raises(CacheUntrusted, match=f"owned by user {owner}, not by user {owner + 1}"):
        Store.open(tmp_path / "cache")


def test_a_link_of_ones_own_is_followed(tmp_path: Path) -> None:
    (tmp_path / "big").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "big")
    store = Store.open(tmp_path / "link")
    assert store.put("object", KEY, b"x") and (tmp_path / "big/v1").is_dir()


def test_a_file_in_the_way_is_an_error_or_a_store_elsewhere(tmp_path: Path) -> None:
    blocked = tmp_path / "cache"
    blocked.write_text("a file")
    with pytest.raises(FileNotWritable, match="cannot write"):
        Store.open(blocked)
    with pytest.warns(CacheWarning, match="without a cache"), opened_or_temporary(True, blocked) as store:
        assert store.temporary and store.put("object", KEY, b"x")
        root = store.root
    assert not root.exists()


def test_cache_off_leaves_no_trace(hermetic_cache: Path) -> None:
    with opened_or_temporary(False) as store:
        assert store.put("object", KEY, b"x")
    assert not hermetic_cache.exists() and not store.root.exists()


# --- failing disks --------------------------------------------------------------------------------


def test_opening_on_a_full_disk_says_so(tmp_path: Path) -> None:
    with pytest.raises(DiskFull, match="no space left"):
        Store.open(tmp_path / "cache", disk=FaultyDisk(1))


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO, errno.EACCES])
def test_no_failing_call_leaves_a_bad_or_unfinished_entry(hermetic_cache: Path, error: int) -> None:
    counting = FaultyDisk()
    Store.open(hermetic_cache, disk=counting)
    opening = len(counting.calls)
    Store(hermetic_cache, disk=counting).put("object", KEY, bytes(100))
    total = len(counting.calls) - opening
    assert total >= 5
    for n in range(1, total + 1):
        failing = Store(hermetic_cache, disk=FaultyDisk(n, error))
        key = digest("fails at", n)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            stored = failing.put("object", key, bytes(range(100)))
        assert stored or [w.category for w in caught] == [CacheWarning], n
        healthy = Store.open(hermetic_cache)
        assert healthy.get("object", key) in (None, bytes(range(100)))
        assert (healthy.get("object", key) is not None) or not stored
        assert not left_over(hermetic_cache), n


def test_a_read_that_fails_is_a_miss(hermetic_cache: Path) -> None:
    Store.open(hermetic_cache).put("object", KEY, b"x")
    assert Store(hermetic_cache, disk=FaultyDisk(1, errno.EIO)).get("object", KEY) is None


_KILLED = """
import sys
from pathlib import Path
from aino_ir.runtime.store import Store, digest
from tests.tools.hermetic import FaultyDisk
store = Store(Path(sys.argv[1]), disk=FaultyDisk(int(sys.argv[2]), None))
store.put("object", digest("a key"), bytes(1000))
with store.work_folder() as folder:
    (folder / "big.o").write_bytes(bytes(10))
store.put("object", digest("another"), bytes(1000))
"""


def test_a_killed_writer_leaves_the_old_or_the_new(hermetic_cache: Path, root: Path) -> None:
    Store.open(hermetic_cache)
    survived = 0
    for n in range(1, 40):
        done = subprocess.run(
            [sys.executable, "-c", _KILLED, str(hermetic_cache), str(n)],
            cwd=root,
            capture_output=True,
            check=False,
        )
        store = Store.open(hermetic_cache)
        for key in (KEY, digest("another")):
            assert store.get("object", key) in (None, bytes(1000)), n
        if done.returncode == 0:
            break
        assert done.returncode == -9, done.stderr
        survived += 1
        assert store.put("object", KEY, bytes(1000)) and store.get("object", KEY) == bytes(1000)
        if n % 2:
            store.clear()
    assert survived >= 8, "too few points at which the writer was killed"
    for path in store.staging.iterdir():
        os.utime(path, (1, 1))
    sweep(store.staging)
    assert not left_over(hermetic_cache), "what the dead left is swept up later"


def test_living_work_folders_are_not_swept(store: Store) -> None:
    with store.work_folder() as folder:
        os.utime(folder, (1, 1))
        assert sweep(store.staging) == 0 and folder.exists()
    assert not folder.exists()


def _write_many(folder: str, seed: int) -> None:
    store = Store.open(Path(folder), limit_bytes=20_000)
    for i in range(60):
        key = digest("shared", i % 20)
        store.put("object", key, bytes([i % 20]) * 1000)
        data = store.get("object", key)
        assert data in (None, bytes([i % 20]) * 1000), (seed, i)


def test_many_processes_share_one_cold_store(hermetic_cache: Path) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_write_many, args=(str(hermetic_cache), s)) for s in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0] * 4
    store = Store.open(hermetic_cache)
    assert not left_over(hermetic_cache)
    for entry in store.entries():
        assert store.get(entry.kind, entry.key) is not None
