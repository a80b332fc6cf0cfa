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


ATTENTION = {"Softmax", "ScaledDotProductAttention"}
"""Operators of OpenVINO's that tell a transformer, for which nncf has settings of its own."""


def main(model: str, out: str, *samples: str) -> None:
    """Quantise with nncf's defaults for the kind of network and save the result.

    Tables of embeddings stay as they are: nncf 3.4 fails on some of them (KeyError in
    ``_handle_output_quantizers_for_weights_as_outputs_ops``), and they take next to no time.
    """
    import nncf
    import openvino

    network = openvino.Core().read_model(model)
    attends = any(op.get_type_name() in ATTENTION for op in network.get_ops())
    small = nncf.quantize(
        network,
        nncf.Dataset([load_sample(path) for path in samples]),
        subset_size=len(samples),
        model_type=nncf.ModelType.TRANSFORMER if attends else None,
        ignored_scope=nncf.IgnoredScope(types=["Gather"], validate=False),
    )
    openvino.save_model(small, out, compress_to_fp16=False)


if __name__ == "__main__":
    main(*sys.argv[1:])
