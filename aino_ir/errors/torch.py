"""Errors of reading PyTorch models: exporting, operators, types, symbolic extents, .pt2 archives."""

from __future__ import annotations

from aino_ir.errors.base import EnvironmentFault, InternalError, UsageError, UserError


class TorchError(UserError):
    """The family of errors that reading a PyTorch model can end in."""


class TorchMissing(EnvironmentFault):
    """A PyTorch model is to be read, and PyTorch is not installed or too old."""

    code = "AINO-E0160"
    template = "reading {what} needs PyTorch {wanted}, and {found}"
    hint = "pip install 'aino-ir[torch]'"
    example = {"what": "'model.pt2'", "wanted": "2.8 or newer", "found": "it is not installed"}


class ExampleInputsMissing(UsageError):
    """A module cannot be exported without inputs to trace it with."""

    code = "AINO-E0161"
    template = "example_inputs must be the tuple of positional inputs that {module} is called with, got {got}"
    hint = "write aino.load(module, example_inputs=(x,)), or export the module yourself"
    example = {"module": "Net", "got": "None"}


class ExportFailed(TorchError):
    """torch.export cannot turn the module into one graph."""

    code = "AINO-E0162"
    template = "torch.export cannot export {module}: {reason}"
    hint = (
        "change the Python line that it names, or use torch.compile(module, backend='aino'), "
        "which leaves such lines to Python"
    )
    example = {"module": "Net", "reason": "data-dependent control flow in model.py:12"}


class DataDependentExport(TorchError):
    """Python decides by what a tensor holds, which only a run knows."""

    code = "AINO-E0173"
    template = "torch.export cannot export {module}: Python needs the data of {operator}({types}): {reason}"
    hint = (
        "write the line with torch.where, torch.cond or torch.while_loop, say with torch._check what holds "
        "of a size, or use torch.compile(module, backend='aino'), which leaves such lines to Python"
    )
    example = {
        "module": "Net",
        "operator": "aten.item.default",
        "types": "bool[]",
        "reason": "could not guard on data-dependent expression Eq(u0, 1)",
    }


class AtenUnsupported(TorchError):
    """Operators of a PyTorch program have no lowering; all of them are listed."""

    code = "AINO-E0163"
    template = "{count} PyTorch operators have no lowering:\n{operators}"
    hint = (
        "write these lines with other operators, call module.eval() where they draw random numbers for "
        "training, add rows with aino_ir.frontends.torch.ops.register_row, or use "
        "torch.compile(module, backend='aino'), which leaves them to PyTorch"
    )
    example = {"count": 1, "operators": "  aten.svd.default(f32[4, 4]) at model.py:12"}


class AtenVariant(TorchError):
    """An operator is used in a way that its lowering does not cover."""

    code = "AINO-E0164"
    template = "{op}({types}): {what} has no lowering"
    hint = (
        "write this line with other operators, or use torch.compile(module, backend='aino'), "
        "which leaves it to PyTorch"
    )
    example = {"op": "aten.native_dropout.default", "types": "f32[8]", "what": "training mode"}


class TorchTypeUnsupported(TorchError):
    """A tensor has a dtype, device or layout that AINO has no type for."""

    code = "AINO-E0165"
    template = "{what} is {got}, which AINO does not compute with"
    hint = (
        "use dense tensors (x.to_dense()) of numbers and truth values in PyTorch's plain dtypes, or "
        "torch.compile(module, backend='aino'), which leaves others to PyTorch"
    )
    example = {"what": "the result of aten._to_copy.default", "got": "complex32[8]"}


class SymbolUnsupported(TorchError):
    """An extent or integer of a program follows no rule that AINO has."""

    code = "AINO-E0166"
    template = "{what} is {got}, which is no expression of known extents"
    hint = "give the dimension a fixed size in dynamic_shapes, or bound it with torch._check"
    example = {"what": "an argument of aten.view.default", "got": "u0"}


class TorchLoweringFault(InternalError):
    """A lowering made something else than PyTorch says."""

    code = "AINO-E0167"
    template = "lowering {op} failed: {reason}"
    hint = "this is a fault of AINO; please report it with the model"
    example = {"op": "aten.add.Tensor", "reason": "it gives f32[4], PyTorch says i64[4]"}


class ArchiveUnreadable(TorchError):
    """A .pt2 file is no archive of an exported program."""

    code = "AINO-E0168"
    template = "cannot read {path}: {reason}"
    hint = "write it with torch.export.save(exported_program, 'model.pt2')"
    example = {"path": "'model.pt2'", "reason": "it is no zip file"}


class ArchiveUnsafe(TorchError):
    """A .pt2 file holds what could run code when it is read."""

    code = "AINO-E0169"
    template = "{path} holds {what}, which is not read"
    hint = (
        "AINO reads only plain data; load a file that you trust with torch (torch.export.load, torch.load) "
        "and pass the program or module"
    )
    example = {"path": "'model.pt2'", "what": "pickled tensors (weight 'head.0')"}


class TorchDimUnknown(TorchError):
    """A dimension that the caller bounds or fixes does not occur in the program's inputs."""

    code = "AINO-E0170"
    template = "the program's inputs have no dimension '{name}'"
    hint = "the symbolic dimensions of this program are: {known}"
    example = {"name": "sequence", "known": "batch, seq"}


class UnknownDynamoOption(UsageError):
    """`torch.compile(options=...)` names something that the backend does not have."""

    code = "AINO-E0171"
    template = "backend 'aino' has no option '{option}'"
    hint = "its options are {known}"
    example = {
        "option": "max_autotune",
        "known": "cache, level, numerics, pack_parameters, strict, target, threads, verify",
    }


class WrongDynamoOption(UsageError):
    """An option of the torch.compile backend has a value of another type."""

    code = "AINO-E0172"
    template = "option '{option}' of backend 'aino' must be {expected}, got {got}"
    hint = "pass options={{'{option}': ...}} with such a value, or leave it out"
    example = {"option": "threads", "expected": "int or NoneType", "got": "'two'"}
