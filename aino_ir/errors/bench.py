"""Errors of the benchmark harness (E077x): what `ainoc bench` and `make bench` cannot measure."""

from __future__ import annotations

from aino_ir.errors.base import EnvironmentFault, UsageError


class UnknownEngine(UsageError):
    """An engine was named that the harness has no driver for."""

    code = "AINO-E0770"
    template = "no engine is called {name!r}; there are {known}"
    hint = "name engines separated by commas, for example --vs onnxruntime,openvino"
    example = {"name": "tensorrt", "known": "aino, onnxruntime, openvino"}


class BenchOption(UsageError):
    """A number of rounds, seconds or threads that nothing can be measured with."""

    code = "AINO-E0771"
    template = "{option} is {value}, but must be at least {least}"
    hint = "leave the option out for its default"
    example = {"option": "rounds", "value": 0, "least": 1}


class EngineFailed(EnvironmentFault):
    """An engine's process died, hung or reported an error, and its figures were asked for."""

    code = "AINO-E0772"
    template = "engine {name} gave no figure: {reason}"
    hint = "install the package (pip install 'aino-ir[bench]'), or leave the engine out"
    example = {"name": "openvino", "reason": "No module named 'openvino'"}
