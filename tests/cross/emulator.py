"""Runs compiled libraries of other processors: qemu for Linux ones, node for WebAssembly.

The library of an artifact, just as it stands there, is loaded by a small server under the emulator; the
executable on this side checks, binds and judges as ever, and hands each call of native code to it.
"""

from __future__ import annotations

import shutil
import struct
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from aino_ir.codegen.c.process import run_commands
from aino_ir.codegen.c.toolchain import Toolchain, find_toolchain
from aino_ir.runtime.executable import Executable
from aino_ir.runtime.function import Extents, NativeFunction
from aino_ir.runtime.native import NativeModel
from aino_ir.runtime.store import Store
from aino_ir.target import parse_target

Array = np.ndarray[Any, Any]

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Machine:
    """What runs the libraries of one target here.

    Attributes:
        program: the emulator.
        root: folder with that machine's C library, or empty.
        packages: Debian packages that bring both.
    """

    program: str
    root: str
    packages: str

    def missing(self) -> str:
        """What has to be installed first; empty when all is there."""
        there = shutil.which(self.program) and (not self.root or Path(self.root, "lib").is_dir())
        return "" if there else f"apt install {self.packages}"


MACHINES: dict[str, Machine] = {
    "c:aarch64": Machine("qemu-aarch64", "/usr/aarch64-linux-gnu", "qemu-user libc6-arm64-cross"),
    "c:armv7": Machine("qemu-arm", "/usr/arm-linux-gnueabihf", "qemu-user libc6-armhf-cross"),
    "c:riscv64": Machine("qemu-riscv64", "/usr/riscv64-linux-gnu", "qemu-user libc6-riscv64-cross"),
    "c:wasm32": Machine("node", "", "nodejs"),
}
"""Target -> what runs it."""


class EmulatorDied(Exception):
    """The emulated process ended: a crash of the code under test."""


class Emulator:
    """One emulated process with one library loaded."""

    def __init__(self, target: str, library: bytes, weights: bytes, store: Store) -> None:
        machine = MACHINES[target]
        self._folder = tempfile.TemporaryDirectory(prefix="aino-cross-")
        folder = Path(self._folder.name)
        (folder / "library").write_bytes(library)
        (folder / "weights").write_bytes(weights)
        if target == "c:wasm32":
            command = [machine.program, "--no-warnings", str(HERE / "server.mjs")]
        else:
            (folder / "server").write_bytes(server(target, store))
            (folder / "server").chmod(0o700)
            command = [machine.program, "-L", machine.root, str(folder / "server")]
        self._process = subprocess.Popen(
            [*command, str(folder / "library"), str(folder / "weights")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self._created: tuple[str, int] | None = None

    def run(
        self, prefix: str, offset: int, inputs: Sequence[bytes], sizes: Sequence[int]
    ) -> tuple[int, list[bytes | int]]:
        """(status, outputs): bytes, or the address of what the model allocated where the size is -1."""
        if self._created != (prefix, offset):
            self._send(_numbers(1), prefix.encode().ljust(127, b"\0"), _numbers(offset, 2))
            assert self._number() == 0
            self._created = prefix, offset
        parts = [_numbers(2, len(inputs))]
        for data in inputs:
            parts += [_numbers(len(data)), data]
        self._send(*parts, _numbers(len(sizes), *sizes))
        status = self._number()
        if status:
            return status, []
        return 0, [self._number() if size < 0 else self._receive(size) for size in sizes]

    def fetch(self, address: int, size: int) -> bytes:
        """Memory that the model has allocated, which is freed there."""
        self._send(_numbers(3, address, size))
        return self._receive(size)

    def close(self) -> None:
        """End the process."""
        process = self._process
        for stream in (process.stdin, process.stdout, process.stderr):
            assert stream is not None
            stream.close()
        process.terminate()
        process.wait(20)
        self._folder.cleanup()

    def __enter__(self) -> Emulator:
        return self

    def __exit__(self, *problem: object) -> None:
        self.close()

    def _send(self, *parts: bytes) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(b"".join(parts))
            self._process.stdin.flush()
        except BrokenPipeError as problem:
            raise self._died() from problem

    def _receive(self, size: int) -> bytes:
        assert self._process.stdout is not None
        data = self._process.stdout.read(size)
        if len(data) < size:
            raise self._died()
        return data

    def _number(self) -> int:
        return int(struct.unpack("<q", self._receive(8))[0])

    def _died(self) -> EmulatorDied:
        assert self._process.stderr is not None
        status = self._process.wait(20)
        return EmulatorDied(f"status {status}: {self._process.stderr.read().decode(errors='replace')[-400:]}")


def _numbers(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}q", *values)


def server(target: str, store: Store) -> bytes:
    """The server program for a target, built once and kept in the store."""
    goal = parse_target(target)
    tool = find_toolchain(store, {}, target=goal)
    source = (HERE / "server.c").read_text(encoding="ascii")
    key = f"{tool.identity[:32]}{hash_of(source)}"
    found = store.get("cross-server", key)
    if found is None:
        found = _built(tool, goal.isa, source, store)
        store.put("cross-server", key, found)
    return found


def hash_of(text: str) -> str:
    """A short hash of a text."""
    import hashlib

    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _built(tool: Toolchain, isa: str, source: str, store: Store) -> bytes:
    with store.work_folder() as folder:
        (folder / "server.c").write_text(source, encoding="ascii")
        compile_ = tool.compile_command(isa, "server.c", "server.o", folder)
        zig = tool.argv[: tool.argv.index("cc")]
        triple = tool.argv[tool.argv.index("-target") : tool.argv.index("-target") + 2]
        cpu = [f for f in tool.flags(isa) if f.startswith("-mcpu=")]
        link = (*zig, "build-exe", "-O", "ReleaseFast", "-fno-compiler-rt", *triple, *cpu, "-lc", "-ldl")
        linking = type(compile_)((*link, "server.o", "-femit-bin=server"), folder, dict(tool.environ))
        for command in (compile_, linking):
            (outcome,) = run_commands([command], 1, 300.0)
            assert outcome.ok, outcome.output
        return (folder / "server").read_bytes()


class EmulatedFunction(NativeFunction):
    """A native function whose library runs in an emulator."""

    emulator: Emulator

    @staticmethod
    def of(function: NativeFunction, emulator: Emulator) -> EmulatedFunction:
        """The same function, run by an emulator."""
        made = EmulatedFunction(
            function._code,
            function._variants,
            function.names,
            function.results,
            function.threads,
            function.given.names,
        )
        made.emulator = emulator
        return made

    def run(
        self,
        arrays: Sequence[Array],
        extents: Extents,
        targets: Sequence[Array | None],
        times: Array | None = None,
        told: dict[str, int] | None = None,
    ) -> Sequence[Array]:
        """As `NativeFunction.run`, there."""
        (details,) = self._variants.values()
        inputs = [a.tobytes() for a in arrays]
        if extents.vector is not None:
            inputs.append(extents.vector.tobytes())
        sizes = [-1 if t is None else t.nbytes for t in targets]
        decided = self.given.names
        if decided:
            sizes.append(8 * len(decided))
        status, made = self.emulator.run(
            details["symbol_prefix"], int(details["weights_offset"]), inputs, sizes
        )
        if status:
            NativeModel._fail(SimpleNamespace(steps=details["steps"], demands=details["demands"]), status)  # type: ignore[arg-type]
        values: dict[str, int] = {} if told is None else told
        if decided:
            assert isinstance(made[-1], bytes)
            values.update(zip(decided, np.frombuffer(made[-1], np.int64).tolist(), strict=True))
        return [
            self._result(i, target, data, {**extents.symbols, **values})
            for i, (target, data) in enumerate(zip(targets, made, strict=False))
        ]

    def _result(
        self, slot: int, target: Array | None, data: bytes | int, symbols: Mapping[str, int]
    ) -> Array:
        port = self.results[slot]
        if target is not None:
            assert isinstance(data, bytes)
            target[...] = np.frombuffer(data, target.dtype).reshape(target.shape)
            return target
        assert isinstance(data, int)
        shape = port.shape(dict(symbols))
        size = int(np.prod(shape, dtype=np.int64)) * port.numpy.itemsize
        return np.frombuffer(self.emulator.fetch(data, size), port.numpy).reshape(shape)


def emulated(exe: Executable, target: str, store: Store) -> tuple[Executable, Emulator]:
    """An executable for another machine with an emulator behind it, which the caller closes."""
    artifact = exe.artifact
    (variant,) = artifact.manifest.variants
    emulator = Emulator(target, artifact.library(variant), bytes(artifact.weights), store)
    exe._function = EmulatedFunction.of(exe._function, emulator)
    return exe, emulator
