"""Targets: reading the machine from recorded trees, and what target names mean."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest

from aino_ir.errors.toolchain import UnknownTarget
from aino_ir.errors.usage import BadExtension
from aino_ir.isa import Isa, gpu_isa, register_isa, runs_on_gpu
from aino_ir.target import ISAS, KNOWN_TARGETS, Host, detect_host, parse_target, usable_cpus

AVX2 = " ".join(ISAS["avx2"].features)
AVX512 = " ".join(ISAS["avx512"].features)
HOST = Host("x86_64", "test", frozenset(AVX512.split()), 8, 32 << 10, 1 << 20, 16 << 20)


def machine(root: Path, flags: list[str], caches: dict[str, tuple[str, str, str]] | None = None) -> Path:
    """Write a /proc and /sys of a machine with one CPU per entry of `flags`."""
    (root / "proc/self").mkdir(parents=True)
    text = "".join(
        f"processor\t: {i}\nmodel name\t: Test CPU\nflags\t\t: {f}\n\n" for i, f in enumerate(flags)
    )
    (root / "proc/cpuinfo").write_text(text)
    for index, (level, kind, size) in (caches or {}).items():
        folder = root / "sys/devices/system/cpu/cpu0/cache" / index
        folder.mkdir(parents=True)
        for name, value in (("level", level), ("type", kind), ("size", size)):
            (folder / name).write_text(value + "\n")
    return root


def test_a_machine_is_read_from_its_files(tmp_path: Path) -> None:
    caches = {
        "index0": ("1", "Data", "48K"),
        "index1": ("1", "Instruction", "64K"),
        "index2": ("2", "Unified", "2048K"),
        "index3": ("3", "Unified", "32M"),
    }
    host = detect_host(machine(tmp_path, [f"fpu {AVX2}", f"fpu {AVX2} extra"], caches), arch="amd64")
    assert (host.arch, host.cpu) == ("x86_64", "Test CPU")
    assert (host.l1_bytes, host.l2_bytes, host.l3_bytes) == (48 << 10, 2 << 20, 32 << 20)
    assert "extra" not in host.features, "a feature counts only when every CPU has it"
    assert host.isa().name == "avx2"


def test_a_machine_that_says_nothing_gets_portable_code(tmp_path: Path) -> None:
    host = detect_host(tmp_path, arch="x86_64")
    assert host.isa().name == "vec128"
    assert min(host.l1_bytes, host.l2_bytes, host.l3_bytes, host.cores) >= 1


@pytest.mark.parametrize(
    ("features", "isa"),
    [
        ("", "vec128"),
        (AVX2, "avx2"),
        (AVX512, "avx512"),
        (f"{AVX512} avx512_vnni", "avx512vnni"),
        (f"{AVX512} avx512_vnni avx512_bf16", "avx512bf16"),
        (f"{AVX512} avx512_bf16", "avx512"),
        (AVX512.replace("avx512vl", ""), "avx2"),
    ],
)
def test_c_means_the_best_that_the_machine_runs(features: str, isa: str) -> None:
    host = dataclasses.replace(HOST, features=frozenset(features.split()))
    target = parse_target("c", host)
    assert (target.isa, target.variants) == (isa, (isa,))
    assert not host.missing(target.cpu_features)


def test_facts_of_each_isa() -> None:
    target = parse_target("c:avx512", HOST)
    assert (target.vector_bytes, target.vector_registers, target.has_fma, target.has_masks) == (
        64,
        32,
        True,
        True,
    )
    assert [target.lanes(b) for b in (1, 2, 4, 8, 128)] == [64, 32, 16, 8, 1]
    assert (target.cores, target.l2_bytes) == (8, 1 << 20)
    assert parse_target("c:avx2", HOST).lanes(4) == 8
    assert parse_target("c:portable", HOST).lanes(4) == 4
    assert not parse_target("c:portable", HOST).has_fma
    arm = dataclasses.replace(HOST, arch="aarch64", features=frozenset({"asimd"}))
    assert (parse_target("c", arm).vector_registers, parse_target("c", arm).has_fma) == (32, True)


def test_several_variants_are_ordered_by_demand() -> None:
    target = parse_target("c:avx512+portable+avx2", HOST)
    assert target.variants == ("vec128", "avx2", "avx512")
    assert target.isa == "avx512"
    narrow = target.variant("avx2")
    assert narrow == parse_target("c:avx2", HOST)
    assert narrow.lanes(4) == 8


@pytest.mark.parametrize("text", [t for t in KNOWN_TARGETS if t != "c"])
def test_text_of_a_target_names_it(text: str) -> None:
    assert str(parse_target(text, HOST)) == text
    assert parse_target(str(parse_target(text, HOST)), HOST) == parse_target(text, HOST)


@pytest.mark.parametrize(
    "text", ["", "cuda2", "C", "c:", "c:avx", "c:avx2+", "c:avx2,avx512", "reference:avx2", "c :avx2"]
)
def test_unknown_targets_list_what_exists(text: str) -> None:
    with pytest.raises(UnknownTarget) as caught:
        parse_target(text, HOST)
    assert repr(text) in str(caught.value) and "c:avx2+avx512" in str(caught.value)
    assert caught.value.exit_status == 2


def test_targets_of_other_machines_are_planned_for_typical_ones() -> None:
    board = parse_target("c:armv7", HOST)
    assert (board.arch, board.system, board.vector_bytes, board.lanes(4)) == ("armv7", "linux", 4, 1)
    assert (board.cores, board.l3_bytes) == (4, 512 << 10), "not those of the machine at hand"
    arm = parse_target("c:aarch64", HOST)
    assert (arm.lanes(4), arm.vector_registers, arm.has_fma) == (4, 32, True)
    assert parse_target("c:wasm32", HOST).system == "wasi"
    assert parse_target("c:aarch64-macos", HOST).system == "macos"
    assert parse_target("c:portable-windows", HOST).arch == "x86_64"
    assert parse_target("c:avx512+avx2-windows", HOST).variants == ("avx2", "avx512")
    narrow = parse_target("c:avx512+avx2-windows", HOST).variant("avx2")
    assert (narrow.system, str(narrow)) == ("windows", "c:avx2-windows")


@pytest.mark.parametrize(
    ("target", "isa", "reason"),
    [
        ("c:avx512", "avx512", ""),
        ("c:portable", "vec128", ""),
        ("c:aarch64", "aarch64", "it is for aarch64 processors, this machine is x86_64"),
        ("c:avx2-windows", "avx2", "it is for windows, this machine runs linux"),
    ],
)
def test_what_a_machine_does_not_run_has_a_reason(target: str, isa: str, reason: str) -> None:
    assert HOST.obstacle(parse_target(target, HOST), isa) == reason
    bare = dataclasses.replace(HOST, features=HOST.features - {"fma"})
    assert bare.obstacle(parse_target("c:avx2", HOST), "avx2") == "this processor lacks fma"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("c:avx2+aarch64", "one artifact is for one processor family, not for aarch64 and x86_64"),
        ("c:armv7-windows", "armv7 libraries are made for linux"),
        ("c:avx2-beos", "no architecture 'avx2-beos'"),
    ],
)
def test_what_no_artifact_can_hold_is_refused(text: str, reason: str) -> None:
    with pytest.raises(UnknownTarget, match=re.escape(reason)):
        parse_target(text, HOST)


def isa(**facts: Any) -> Isa:
    return Isa(
        **{
            "name": "dsp",
            "arch": "dsp",
            "vector_bytes": 16,
            "vector_registers": 8,
            "has_fma": False,
            "has_masks": False,
            "features": (),
            **facts,
        }
    )


def test_an_instruction_set_of_another_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aino_ir.isa.ISAS", ISAS)
    monkeypatch.delitem(ISAS, "dsp", raising=False)
    register_isa(isa())
    register_isa(isa())
    try:
        assert parse_target("c:dsp", HOST).arch == "dsp"
        for wrong, reason in (
            (isa(vector_bytes=12), "taken"),
            (isa(name="Dsp"), "lower-case"),
            (isa(name="dsp2", arch=""), "family"),
            (isa(name="dsp2", vector_bytes=12), "power of two"),
            (isa(name="dsp2", systems=("beos",)), "systems are some of"),
        ):
            with pytest.raises(BadExtension, match=reason):
                register_isa(wrong)
    finally:
        del ISAS["dsp"]


def test_targets_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        parse_target("c", HOST).isa = "avx2"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("cgroup", "files", "expected"),
    [
        ("0::/box\n", {"box/cpu.max": "100000 100000"}, 1),
        ("0::/box/inner\n", {"box/cpu.max": "50000 100000", "box/inner/cpu.max": "max 100000"}, 1),
        ("0::/box\n", {"box/cpu.max": "max 100000"}, None),
        ("0::/box\n", {"box/cpu.max": "garbage"}, None),
        ("3:cpu,cpuacct:/\n", {"cpu/cpu.cfs_quota_us": "100000", "cpu/cpu.cfs_period_us": "100000"}, 1),
        ("3:cpu,cpuacct:/\n", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
    ],
)
def test_usable_cpus_respect_the_cgroup(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cgroup: str, files: dict[str, str], expected: int | None
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(6)))
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text(cgroup)
    for name, text in files.items():
        path = tmp_path / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    assert usable_cpus(tmp_path) == (6 if expected is None else expected)


@pytest.mark.parametrize(
    ("isa", "device", "runs"),
    [
        ("sm_80", "sm_80", True),
        ("sm_80", "sm_86", True),
        ("sm_86", "sm_80", False),
        ("sm_80", "sm_90", False),
        ("sm_90a", "sm_90", True),
        ("sm_90a", "sm_91", False),
        ("sm_100", "sm_103", True),
        ("sm_100", "sm_120", False),
        ("sm_90", "sm_100", False),
    ],
)
def test_which_gpus_run_which_code(isa: str, device: str, runs: bool) -> None:
    assert runs_on_gpu(isa, device) is runs
    if isa in ISAS:
        host = dataclasses.replace(detect_host(), gpu=device)
        assert (host.obstacle(parse_target(f"cuda:{isa}"), isa) == "") is runs


@pytest.mark.parametrize(
    ("device", "isa"),
    [("sm_80", "sm_80"), ("sm_87", "sm_86"), ("sm_90", "sm_90a"), ("sm_103", "sm_100"), ("sm_75", "sm_75")],
)
def test_what_is_compiled_for_a_gpu(device: str, isa: str) -> None:
    assert gpu_isa(device) == isa


@pytest.mark.parametrize(
    "text",
    ["cuda:", "cuda:sm_70", "cuda:avx2", "cuda:sm_80+avx2", "c:sm_80", "c:avx2,tf32", "cuda:sm_80,tf3"],
)
def test_gpu_architectures_that_are_none(text: str) -> None:
    with pytest.raises(UnknownTarget):
        parse_target(text)


def test_gpu_targets_print_as_they_are_read() -> None:
    assert str(parse_target("cuda:sm_90a+sm_80")) == "cuda:sm_80+sm_90a"
    short = parse_target("cuda:sm_80,tf32")
    assert short.tf32 and short.variant("sm_80").tf32 and str(short) == "cuda:sm_80,tf32"
    assert not parse_target("cuda:sm_80").tf32 and str(parse_target("cuda-emu,tf32")) == "c:cuda-emu,tf32"
    assert str(parse_target("cuda", dataclasses.replace(detect_host(), gpu="sm_89"))) == "cuda:sm_89"
