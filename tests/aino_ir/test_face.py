"""The public names: all there, found on first use, and cheap."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import aino_ir as aino
from tests.source import ROOT

PUBLIC = {
    "load", "compile", "load_executable", "save", "parse", "verify",
    "Module", "Builder", "TensorType", "Target", "Executable", "PassManager",
    "register_op", "register_pass", "register_target", "AinoError", "errors",
}  # fmt: skip


def child(code: str) -> Any:
    """What a fresh interpreter prints, as JSON."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_names_are_those_that_users_know() -> None:
    assert set(aino.__all__) >= PUBLIC | {"__version__"} and set(dir(aino)) >= PUBLIC
    assert all(getattr(aino, name) is not None for name in PUBLIC)


def test_importing_brings_a_handful_of_modules() -> None:
    before_and_after = "import sys, json; before = set(sys.modules); import aino_ir; print(json.dumps(sorted(set(sys.modules) - before)))"
    loaded = child(before_and_after)
    assert [name for name in loaded if name.startswith("aino_ir")] == ["aino_ir"]
    assert len(loaded) < 60


def test_using_every_name_brings_neither_torch_nor_onnx_nor_tvm() -> None:
    code = (
        "import sys, json, aino_ir as aino; [getattr(aino, n) for n in aino.__all__]; "
        "from aino_ir.types import tensor; b = aino.Builder(); b.output('y', b.relu(b.input('x', tensor('f32', 2)))); "
        "aino.verify(aino.parse(aino.text.print_module(b.module))); "
        "print(json.dumps(sorted({m.partition('.')[0] for m in sys.modules})))"
    )
    assert not {"torch", "onnx", "tvm", "onnxruntime", "transformers"} & set(child(code))


def test_names_are_kept_after_first_use() -> None:
    code = (
        "import json, aino_ir as aino; first = 'parse' in vars(aino); aino.parse; "
        "print(json.dumps([first, 'parse' in vars(aino), callable(aino.verify)]))"
    )
    assert child(code) == [False, True, True]
