"""A compiled model on a machine without AINO's tools: the wheel, numpy and nothing else."""

from __future__ import annotations

import subprocess
import sys
import venv
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

import aino_ir as aino
from benchmarks.resnet50 import images, resnet50
from tests.source import ROOT

NEEDED = ("numpy", "numpy.libs", "ml_dtypes")
"""What the runtime stands on, beside the standard library."""

RUN = """
import sys
import numpy as np
import aino_ir as aino
assert not aino.__path__[0].startswith({root!r}), aino.__path__
for name in ("onnx", "lark", "networkx", "torch", "rich", "click"):
    try:
        __import__(name)
    except ModuleNotFoundError:
        continue
    raise SystemExit(name + " is there, so this proves nothing")
executable = aino.load_executable({artifact!r})
(y,) = executable.run(np.load({given!r}))
np.save({result!r}, y)
"""


@pytest.fixture(scope="module")
def bare_python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a fresh virtual environment that holds AINO's wheel, numpy and ml_dtypes only."""
    work = tmp_path_factory.mktemp("bare")
    pip = [sys.executable, "-m", "pip"]
    venv.create(work / "venv", with_pip=False)
    python = work / "venv" / "bin" / "python"
    _call([*pip, "--python", str(python), "install", "--no-deps", "--no-index", "-q", str(wheel)])
    (site,) = (work / "venv" / "lib").glob("python*/site-packages")
    installed = Path(str(find_spec("numpy").origin)).parent.parent  # type: ignore[union-attr]
    for name in NEEDED:
        if (installed / name).exists():
            (site / name).symlink_to(installed / name)
    return python


def _call(command: list[str], **options: object) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=170, check=False, **options)  # type: ignore[call-overload]
    assert done.returncode == 0, done.stderr + done.stdout


@pytest.mark.slow
def test_saved_artifact_runs_with_numpy_alone(bare_python: Path, tmp_path: Path) -> None:
    model = tmp_path / "model.onnx"
    model.write_bytes(resnet50(size=32, width=8, classes=10, depths=(1, 1)).SerializeToString())
    executable = aino.compile(model, target="c", threads=1)
    executable.save(tmp_path / "model.aino")
    image = images(size=32)
    np.save(tmp_path / "given.npy", image)
    code = RUN.format(
        root=str(ROOT),
        artifact=str(tmp_path / "model.aino"),
        given=str(tmp_path / "given.npy"),
        result=str(tmp_path / "result.npy"),
    )
    nowhere = tmp_path / "empty"
    nowhere.mkdir()
    bare = {"PATH": str(nowhere), "HOME": str(tmp_path), "LANG": "C.UTF-8"}
    _call([str(bare_python), "-W", "error", "-c", code], cwd=nowhere, env=bare)
    (here,) = executable.run(image)
    assert np.array_equal(np.load(tmp_path / "result.npy"), here)
