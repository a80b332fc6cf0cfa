"""OpenVINO's int8 by nncf: ``python nncf_quantize.py MODEL.onnx OUT.xml SAMPLE.npz ...``.

Stands alone, so that a Python that has nncf and OpenVINO but not AINO can run it.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np


def load_sample(path: str) -> dict[str, Any]:
    """Inputs by name, as AINO's benchmarks store them."""
    with np.load(path, allow_pickle=False) as stored:
        return {str(name): stored[f"input{i:04}"] for i, name in enumerate(stored["names"])}


def main(model: str, out: str, *samples: str) -> None:
    """Quantise with nncf's defaults for the mixed preset and save the result."""
    import nncf
    import openvino

    dataset = nncf.Dataset([load_sample(path) for path in samples])
    small = nncf.quantize(openvino.Core().read_model(model), dataset, subset_size=len(samples))
    openvino.save_model(small, out, compress_to_fp16=False)


if __name__ == "__main__":
    main(*sys.argv[1:])
