"""Targets: frozen facts about the device that code is made for.

Passes and generators read a `Target` and never ask the machine: `detect_host` reads the machine's
facts once, `parse_target` turns text such as ``c:avx2+avx512`` and these facts into a `Target`, and
the driver injects it.
"""

from __future__ import annotations

import os
import platform
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from aino_ir.errors.toolchain import UnknownTarget
from aino_ir.errors.usage import BadExtension
from aino_ir.isa import BUILT_IN, GPU, ISAS, SYSTEMS, Isa, runs_on_gpu

_PORTABLE = "portable"
"""What targets call the ISA variant of every processor."""

_TARGET_NAMES = ("c", "cuda", "tvm", "stablehlo", "reference", "null")
KNOWN_TARGETS = (
    *("c", "c:portable", "c:avx2", "c:avx512", "c:avx512vnni", "c:avx512bf16", "c:avx2+avx512"),
    *("c:aarch64", "c:armv7", "c:riscv64", "c:wasm32", "c:cortex-m"),
    *("c:avx2-windows", "c:avx2-macos", "c:aarch64-windows", "c:aarch64-macos"),
    *("cuda:sm_80", "cuda:sm_90a", "c:cuda-emu"),
    *("tvm:llvm", "tvm:llvm -mtriple=aarch64-linux-gnu", "tvm:cuda", "tvm:opencl", "tvm:metal"),
    *("stablehlo", "reference", "null"),
)
"""AINO's own targets, as messages and ``ainoc targets`` list them; every sum of architectures is one, too."""

_TF32 = ",tf32"
"""Behind the target's name: what `Target.tf32` says."""

_ALIASES = {"cuda-emu": "c:cuda-emu"}
"""Other names of targets."""

_SYSTEM_NAMES = {"linux": "linux", "darwin": "macos", "win32": "windows"}
"""``sys.platform`` -> what AINO calls the operating system."""


@dataclass(frozen=True)
class Host:
    """Facts about one machine, as `detect_host` reads them.

    Attributes:
        arch: processor family, ``x86_64`` or ``aarch64``.
        cpu: the processor's name, for people only.
        features: CPU features under their /proc/cpuinfo names.
        cores: CPUs that this process may use (affinity and cgroup quota).
        l1_bytes, l2_bytes: data caches of one core.
        l3_bytes: the shared last-level cache.
        system: operating system, one of `SYSTEMS`.
        gpu: the instruction set that ``cuda`` alone stands for, a key of `ISAS`; empty: not known.
    """

    arch: str
    cpu: str
    features: frozenset[str]
    cores: int
    l1_bytes: int
    l2_bytes: int
    l3_bytes: int
    system: str = "linux"
    gpu: str = ""

    def missing(self, features: Iterable[str]) -> tuple[str, ...]:
        """Return the features of `features` that this machine lacks, sorted."""
        return tuple(sorted(set(features) - self.features))

    def isa(self) -> Isa:
        """Return the most demanding ISA variant that this machine runs."""
        known = (ISAS[name] for name in BUILT_IN)
        fitting = [i for i in known if i.arch in ("", self.arch) and not self.missing(i.features)]
        return [i for i in fitting if not i.emulated][-1]

    def obstacle(self, target: Target, isa: str) -> str:
        """Why this machine does not run one variant of a target; empty when it does."""
        facts = ISAS[isa]
        if target.arch == GPU:
            if not self.gpu:
                return "there is no GPU of NVIDIA's, or no driver for it"
            return "" if runs_on_gpu(isa, self.gpu) else f"it is for {isa}, the GPU here is {self.gpu}"
        if target.arch != self.arch or facts.arch not in ("", self.arch):
            return f"it is for {facts.arch or target.arch} processors, this machine is {self.arch}"
        if target.system != self.system:
            return f"it is for {target.system}, this machine runs {self.system}"
        missing = self.missing(facts.features)
        return f"this processor lacks {', '.join(missing)}" if missing else ""


@dataclass(frozen=True)
class Target:
    """What code is generated for: facts only.

    Attributes:
        name: ``c``, ``cuda``, ``tvm``, ``stablehlo``, ``reference`` or ``null``.
        arch: processor family.
        isa: ISA variant that these facts describe; the most demanding one of `variants`.
        vector_bytes, vector_registers, has_fma, has_masks: as in `Isa`.
        cores: CPUs to plan for; runs may use any number of threads.
        l1_bytes, l2_bytes, l3_bytes: cache sizes as in `Host`.
        cpu_features: CPU features that code for `isa` needs.
        variants: every ISA variant to generate, from the least to the most demanding.
        system: operating system that libraries are for, one of `SYSTEMS`.
        device: what ``tvm`` generates code for, in TVM's words.
        tf32: whether products of f32 may round their factors to ten bits behind the point, as tensor cores of
            GPUs do.
    """

    name: str
    arch: str
    isa: str
    vector_bytes: int
    vector_registers: int
    has_fma: bool
    has_masks: bool
    cores: int
    l1_bytes: int
    l2_bytes: int
    l3_bytes: int
    cpu_features: tuple[str, ...]
    variants: tuple[str, ...]
    system: str = "linux"
    device: str = ""
    tf32: bool = False

    @property
    def has_python(self) -> bool:
        """Whether ops without native code can run in Python beside it."""
        return self.system not in ("wasi", "none")

    @property
    def multiplies_bytes(self) -> bool:
        """Whether one instruction multiplies bytes and adds four products in 32 bits."""
        return any("vnni" in feature for feature in self.cpu_features)

    @property
    def multiplies_halves(self) -> bool:
        """Whether one instruction multiplies bf16 and adds two products in f32."""
        return "avx512_bf16" in self.cpu_features

    def lanes(self, dtype_bytes: int) -> int:
        """Return how many values of `dtype_bytes` bytes one vector register holds (at least one)."""
        return max(1, self.vector_bytes // dtype_bytes)

    def variant(self, isa: str) -> Target:
        """Return the facts for one ISA of `variants` alone."""
        facts = ISAS[isa]
        return replace(
            self,
            isa=isa,
            vector_bytes=facts.vector_bytes,
            vector_registers=facts.vector_registers,
            has_fma=facts.has_fma,
            has_masks=facts.has_masks,
            cpu_features=facts.features,
            variants=(isa,),
        )

    def __str__(self) -> str:
        if self.tf32:
            return f"{replace(self, tf32=False)}{_TF32}"
        if self.name == "tvm":
            return f"tvm:{self.device}"
        if self.name == "cuda":
            return f"cuda:{'+'.join(self.variants)}"
        if self.name != "c":
            return self.name
        names = "+".join(_PORTABLE if v == "vec128" else v for v in self.variants)
        return f"c:{names}" + (f"-{self.system}" if self.system != ISAS[self.isa].systems[0] else "")


def parse_target(text: str, host: Host | None = None) -> Target:
    """Return the target that `text` names.

    Args:
        text: ``c`` (this CPU), ``c:portable``, ``c:avx2``, sums such as ``c:avx2+avx512``, instruction
            sets of other machines such as ``c:aarch64``, with a system where that is not the usual one
            (``c:aarch64-macos``), ``cuda`` (the GPU of `host`), ``cuda:sm_80``, sums such as
            ``cuda:sm_80+sm_90a``, one of these with ``,tf32`` behind it, which lets products of f32 be as
            inexact as that, a target of TVM's in its words (``tvm:llvm``, ``tvm:cuda -arch=sm_80``,
            ``tvm:llvm -mtriple=aarch64-linux-gnu``), ``stablehlo``, ``reference`` or ``null``.
        host: facts of the machine; read from it when None.

    Raises:
        UnknownTarget: no such target or architecture, or architectures that no one library can hold.
    """
    host = host if host is not None else detect_host()
    if text.endswith(_TF32):
        plain = parse_target(text.removesuffix(_TF32), host)
        if (plain.arch != GPU and plain.isa != "cuda-emu") or plain.name == "tvm":
            raise _unknown(text, "only cuda targets have tf32")
        return replace(plain, tf32=True)
    text = _ALIASES.get(text, text)
    if text in REGISTERED:
        like, facts = REGISTERED[text]
        return replace(parse_target(like, host), **facts)  # type: ignore[arg-type]
    name, colon, rest = text.partition(":")
    if name not in _TARGET_NAMES:
        raise _unknown(text, f"no target {name!r}")
    if name == "tvm":
        return _tvm(text, rest if colon else "llvm", host)
    if name == "cuda":
        return _target(name, _gpus(text, rest if colon else host.gpu), "linux", host)
    if colon and name != "c":
        raise _unknown(text, f"target {name!r} takes no architecture")
    if not colon:
        return _target(name, (host.isa().name,), host.system, host)
    isas, system = _parse_architecture(text, rest)
    return _target(name, isas, system, host)


TVM_GPUS = ("cuda", "opencl", "metal")
"""Kinds of TVM's targets whose kernels run on threads of a GPU."""

_TVM_FAMILIES = {"aarch64": "aarch64", "arm64": "aarch64", "riscv64": "riscv64", "x86_64": "vec128"}
"""How an LLVM triple begins -> the ISA variant that is planned for."""


def _tvm(text: str, device: str, host: Host) -> Target:
    """The target of what follows ``tvm:``: a kind, and options such as ``-arch=sm_80``."""
    kind, *options = device.split() or [""]
    given = dict(option.removeprefix("-").partition("=")[::2] for option in options)
    if any(not re.fullmatch(r"-[a-z][a-z-]*=[A-Za-z0-9_.,+-]+", option) for option in options):
        raise _unknown(text, "options of TVM's targets read -name=value")
    system = host.system
    if kind in TVM_GPUS:
        isa, system = given.get("arch", "sm_80"), "linux"
        isa = isa if isa in ISAS and ISAS[isa].arch == GPU else "sm_80"
    elif kind == "llvm":
        family = given.get("mtriple", "").partition("-")[0]
        if family and family not in _TVM_FAMILIES:
            raise _unknown(text, f"no processor {family!r} for TVM; there are {', '.join(_TVM_FAMILIES)}")
        isa = _TVM_FAMILIES[family] if family else host.isa().name
        system = "linux" if family else system
    elif kind == "c":
        raise _unknown(text, "kernels use operations of LLVM's (masked loads) that TVM's C generator lacks")
    else:
        raise _unknown(text, f"TVM code is made for llvm, {', '.join(TVM_GPUS)}, not for {kind!r}")
    return replace(_target("tvm", (isa,), system, host), device=" ".join([kind, *options]))


def _gpus(text: str, names: str) -> tuple[str, ...]:
    """The ISA names of ``sm_80+sm_90a``, least demanding first."""
    if not names:
        raise _unknown(text, "no GPU is known of here; name an architecture, such as cuda:sm_80")
    for part in names.split("+"):
        if part not in ISAS or ISAS[part].arch != GPU:
            known = ", ".join(isa for isa, facts in ISAS.items() if facts.arch == GPU)
            raise _unknown(text, f"no GPU architecture {part!r}; there are {known}")
    return tuple(isa for isa in ISAS if isa in names.split("+"))


REGISTERED: dict[str, tuple[str, dict[str, int]]] = {}
"""Targets of other packages: name -> the target that they are like, and the facts that differ."""


def known_targets() -> tuple[str, ...]:
    """What messages and ``ainoc targets`` list: AINO's own targets, then those of other packages."""
    others = (f"c:{name}" for name in ISAS if name not in BUILT_IN)
    return (*KNOWN_TARGETS, *others, *REGISTERED)


_FACTS = ("cores", "l1_bytes", "l2_bytes", "l3_bytes")


def register_target(name: str, like: str = "c", **facts: int) -> None:
    """Name a device: the code of another target, planned for that device's cores and caches.

    Args:
        name: lower-case letters, digits and hyphens; ``aino.compile(model, name)`` takes it then.
        like: the target whose code it runs, such as ``c:avx2``.
        facts: any of cores, l1_bytes, l2_bytes, l3_bytes.

    Raises:
        BadExtension: the name is no name or taken, or a fact is none.
    """
    wrong = [f for f in facts if f not in _FACTS]
    reasons = {
        "the name must be lower-case letters, digits and hyphens": not re.fullmatch(r"[a-z][a-z0-9-]*", name),
        "the name is taken": name in _TARGET_NAMES or REGISTERED.get(name, (like, facts)) != (like, facts),
        f"{', '.join(wrong)} is none of the facts {', '.join(_FACTS)}": bool(wrong),
        "facts are whole numbers from 1 on": any(not isinstance(v, int) or v < 1 for v in facts.values()),
        f"it cannot be like {like!r}": like.partition(":")[0] != "c",
    }
    for reason, applies in reasons.items():
        if applies:
            raise BadExtension(kind="target", name=name, reason=reason)
    REGISTERED[name] = (like, dict(facts))


def _parse_architecture(text: str, rest: str) -> tuple[tuple[str, ...], str]:
    """Return the ISA names of ``avx2+avx512-windows``, least demanding first, and the system."""
    names, dash, system = rest.rpartition("-")
    if not dash or system not in SYSTEMS:
        names, system = rest, ""
    chosen = {_PORTABLE: "vec128", **{name: name for name, facts in ISAS.items() if facts.arch != GPU}}
    for part in names.split("+"):
        if part not in chosen:
            raise _unknown(text, f"no architecture {part!r} for the target 'c'")
    wanted = {chosen[part] for part in names.split("+")}
    isas = tuple(isa for isa in ISAS if isa in wanted)
    families = sorted({ISAS[isa].arch for isa in isas} - {""})
    if len(families) > 1:
        raise _unknown(text, f"one artifact is for one processor family, not for {' and '.join(families)}")
    offered = ISAS[isas[-1]].systems
    if system and system not in offered:
        raise _unknown(text, f"{isas[-1]} libraries are made for {', '.join(offered)}")
    return isas, system or offered[0]


def _unknown(text: str, reason: str) -> UnknownTarget:
    return UnknownTarget(target=text, reason=reason, known=", ".join(known_targets()))


def _target(name: str, isas: tuple[str, ...], system: str, host: Host) -> Target:
    facts = ISAS[isas[-1]]
    arch = facts.arch or host.arch
    machine = host if (arch, system) == (host.arch, host.system) else facts.machine
    return Target(
        name=name,
        arch=arch,
        isa=facts.name,
        vector_bytes=facts.vector_bytes,
        vector_registers=facts.vector_registers,
        has_fma=facts.has_fma,
        has_masks=facts.has_masks,
        cores=machine.cores,
        l1_bytes=machine.l1_bytes,
        l2_bytes=machine.l2_bytes,
        l3_bytes=machine.l3_bytes,
        cpu_features=facts.features,
        variants=isas,
        system=system,
    )


# --- Reading the machine -------------------------------------------------------------------------

_DEFAULT_CACHES = {1: 32 << 10, 2: 512 << 10, 3: 8 << 20}
_ARCH_ALIASES = {"amd64": "x86_64", "AMD64": "x86_64", "arm64": "aarch64", "armv7l": "armv7"}
_SIZE_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def detect_host(root: Path = Path("/"), arch: str | None = None) -> Host:
    """Return the facts of this machine.

    Args:
        root: folder under which ``proc`` and ``sys`` lie (a test points it at a recorded tree).
        arch: processor family; ``platform.machine()`` when None.

    What the kernel does not tell (no /proc, no cache sizes) takes cautious defaults: no features,
    hence portable code, and small caches.
    """
    machine = arch or platform.machine()
    cpu, features = _read_cpuinfo(root / "proc/cpuinfo")
    caches = _read_caches(root / "sys/devices/system/cpu/cpu0/cache")
    return Host(
        arch=_ARCH_ALIASES.get(machine, machine),
        cpu=cpu,
        features=features,
        cores=usable_cpus(root),
        l1_bytes=caches[1],
        l2_bytes=caches[2],
        l3_bytes=caches[3],
        system=_SYSTEM_NAMES.get(sys.platform, sys.platform),
    )


def usable_cpus(root: Path = Path("/")) -> int:
    """Return how many CPUs this process may use: its affinity, bounded by its cgroup's quota."""
    if hasattr(os, "sched_getaffinity"):
        count = len(os.sched_getaffinity(0))
    else:
        count = os.cpu_count() or 1
    quota = _cgroup_quota(root)
    return count if quota is None else max(1, min(count, round(quota)))


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""


def _read_cpuinfo(path: Path) -> tuple[str, frozenset[str]]:
    """Return the CPU's name and the features that every listed CPU has."""
    name, common = "unknown", None
    for line in _read_text(path).splitlines():
        key, _, value = (part.strip() for part in line.partition(":"))
        if key == "model name":
            name = value
        elif key in ("flags", "Features"):
            listed = frozenset(value.split())
            common = listed if common is None else common & listed
    return name, common or frozenset()


def _read_caches(folder: Path) -> dict[int, int]:
    """Return cache sizes in bytes by level, instruction caches left out."""
    sizes = dict(_DEFAULT_CACHES)
    for index in sorted(folder.glob("index*")):
        level = _read_text(index / "level").strip()
        size = re.fullmatch(r"(\d+)([KMG]?)", _read_text(index / "size").strip())
        kind = _read_text(index / "type").strip()
        if size and level in ("1", "2", "3") and kind in ("Data", "Unified"):
            sizes[int(level)] = int(size[1]) * _SIZE_UNITS[size[2]]
    return sizes


def _cgroup_quota(root: Path) -> float | None:
    """Return the CPU quota of this process in CPUs, or None when there is none."""
    quotas = []
    for line in _read_text(root / "proc/self/cgroup").splitlines():
        _, controllers, place = [*line.split(":", 2), "", ""][:3]
        if controllers == "":
            quotas += _quotas_upwards(root / "sys/fs/cgroup", place, ("cpu.max",))
        elif "cpu" in controllers.split(","):
            names = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
            quotas += _quotas_upwards(root / "sys/fs/cgroup/cpu", place, names)
    return min(quotas, default=None)


def _quotas_upwards(mount: Path, place: str, names: tuple[str, ...]) -> list[float]:
    """Return the quotas that hold for the cgroup `place` and the groups around it."""
    parts = [part for part in place.split("/") if part not in ("", "..")]
    quotas = []
    for depth in range(len(parts) + 1):
        folder = mount.joinpath(*parts[:depth])
        words = " ".join(_read_text(folder / name) for name in names).split()
        if len(words) == 2 and all(re.fullmatch(r"[1-9]\d*", word) for word in words):
            quotas.append(int(words[0]) / int(words[1]))
    return quotas
