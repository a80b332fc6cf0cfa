"""Resizing and regions whose scales, sizes and numbers of samples the run decides."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import helper

from aino_ir.frontends.onnx import load_onnx
from aino_ir.interp import run_module
from tests.frontends.onnx.models import make_model, tensor_value
from tests.frontends.onnx.test_run_time import I64, F, close_to_reference, i, ints, one_node, x

IMAGE = np.random.default_rng(9).standard_normal((1, 2, 5, 6)).astype(np.float32)


@pytest.mark.parametrize("mode", ["avg", "max"])
def test_regions_choose_their_number_of_samples(mode: str) -> None:
    inputs = [x(2, 3, 8, 9), ("r", "f", ("n", 4)), i("b", "n")]
    model = one_node("RoiAlign", inputs, opset=16, output_height=2, output_width=3, mode=mode)
    image = np.random.default_rng(8).standard_normal((2, 3, 8, 9)).astype(np.float32)
    rois = F([[0, 0, 8, 7], [1, 1, 2.5, 6], [3, 2, 3.5, 2.5]])
    runs = [[image, rois, ints(0, 1, 1)], [image, rois[1:2], ints(1)]]
    close_to_reference(model, runs, 1e-5)


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize(
    "coordinates",
    ["half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric"],
)
def test_resize_by_run_time_scales_and_sizes(mode: str, coordinates: str) -> None:
    attributes = {"mode": mode, "coordinate_transformation_mode": coordinates, "axes": [2, 3]}
    empty = np.zeros(0, np.float32)
    scales = one_node("Resize", [x(1, 2, 5, 6), ("roi", "f", (0,)), ("s", "f", (2,))], **attributes)
    runs = [[IMAGE, empty, F(s)] for s in ((2, 1), (0.6, 1.5), (0.4, 3))]
    close_to_reference(scales, runs, 1e-4)
    declared = [x(1, 2, 5, 6), ("roi", "f", (0,)), ("s", "f", (0,)), i("n", 2)]
    least = 2 if coordinates == "pytorch_half_pixel" else 1  # of 1 onnx's evaluator makes -0.5, its text 0
    runs = [[IMAGE, empty, empty, ints(*n)] for n in ((7, 6), (least, 4), (10, 12))]
    close_to_reference(one_node("Resize", declared, **attributes), runs, 1e-4)


@pytest.mark.parametrize("mode", ["linear", "cubic"])
def test_antialiased_resize_by_run_time_scales(mode: str) -> None:
    declared = [x(1, 2, 5, 6), ("roi", "f", (0,)), ("s", "f", (4,))]
    model = one_node("Resize", declared, mode=mode, antialias=1)
    empty = np.zeros(0, np.float32)
    close_to_reference(model, [[IMAGE, empty, F(s)] for s in ((1, 1, 0.6, 0.5), (1, 1, 2, 0.4))], 1e-4)


@pytest.mark.parametrize("mode", ["linear", "cubic"])
def test_antialiased_resize_of_an_unknown_extent(mode: str) -> None:
    """The same model for a fixed and for a symbolic extent gives the same."""
    sizes = helper.make_tensor("sizes", I64, [2], [3, 4])
    node = helper.make_node("Resize", ["x", "", "", "sizes"], ["y"], mode=mode, antialias=1, axes=[2, 3])
    for height in (5, 9):
        image = np.random.default_rng(height).standard_normal((1, 2, height, 6)).astype(np.float32)
        results = [
            run_module(
                load_onnx(
                    make_model(
                        [node], inputs=[tensor_value("x", [1, 2, h, 6])], initializers=[sizes], opset=19
                    )
                ),
                [image],
            )[0]
            for h in (height, "h")
        ]
        np.testing.assert_allclose(results[0], results[1], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("policy", ["not_larger", "not_smaller"])
def test_resize_keeps_the_aspect_of_run_time_sizes(policy: str) -> None:
    declared = [x(1, 2, 5, 6), ("roi", "f", (0,)), ("s", "f", (0,)), i("n", 2)]
    model = one_node("Resize", declared, mode="nearest", axes=[2, 3], keep_aspect_ratio_policy=policy)
    empty = np.zeros(0, np.float32)
    close_to_reference(model, [[IMAGE, empty, empty, ints(*n)] for n in ((7, 8), (10, 3))], 0)


def test_resize_crops_a_run_time_region() -> None:
    declared = [x(1, 2, 5, 6), ("roi", "f", (4,)), ("s", "f", (0,)), i("n", 2)]
    mode = "tf_crop_and_resize"
    model = one_node("Resize", declared, mode="linear", axes=[2, 3], coordinate_transformation_mode=mode)
    empty = np.zeros(0, np.float32)
    rois = (F([0.1, 0.2, 0.9, 0.6]), F([0.4, 0.6, 1.2, 1.7]))
    close_to_reference(model, [[IMAGE, roi, empty, ints(*n)] for roi in rois for n in ((3, 3), (1, 8))], 1e-4)
