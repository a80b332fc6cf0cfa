"""Reading .pt2 archives without running anything that they hold.

An archive is a zip with the program as JSON and the weights as raw bytes.  Nothing is unpickled: pickled
weights, constants and objects are refused, the pickled sample inputs are left alone.  The JSON is turned
into a graph by torch's own reader, which evaluates expressions and looks names up; so every expression,
every operator name and every tree of the program is checked against a small grammar first.
"""

from __future__ import annotations

import ast
import json
import os
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from torch._export.serde import schema
from torch._export.serde.serialize import (
    ExportedProgramDeserializer,
    _dict_to_dataclass,
    deserialize_scalar_type,
)
from torch._export.utils import _get_shape_env_from_gm
from torch.export import ExportedProgram

from aino_ir.errors.torch import ArchiveUnreadable, ArchiveUnsafe

MODELS, WEIGHTS, CONSTANTS = "models/", "data/weights/", "data/constants/"

OPERATOR = re.compile(
    r"torch\.ops\.(?!_)\w+\.\w+\.\w+|torch\.ops\.higher_order\.\w+"
    r"|_operator\.(getitem|add|sub|mul|floordiv|truediv|mod|neg|pow|eq|ne|lt|le|gt|ge|and_|or_|not_)"
    r"|math\.(ceil|floor|trunc|sqrt)|torch\.sym_(float|int|max|min|not|sqrt|ite|sum)"
    r"|torch\._sym_sqrt",
    re.ASCII,
)
"""Names that a program may call."""

FUNCTIONS = frozenset(
    """Add And BooleanFalse BooleanTrue CeilToInt CleanDiv Eq Equality FloatPow FloatTrueDiv FloorDiv
    FloorToInt Ge GreaterThan Gt Identity IntTrueDiv Integer Le LessThan Lt Max Min Mod ModularIndexing Mul
    Ne Not OpaqueUnaryFn_sqrt Or Pow PowByNatural PythonMod Rational RoundDecimal RoundToInt
    StrictGreaterThan StrictLessThan Symbol ToFloat TruncToFloat TruncToInt Unequality Where""".split()
)
"""Functions that an expression over symbols may call."""

SYMBOL = re.compile(r"[A-Za-z_]\w{0,63}", re.ASCII)

PLAIN_TREES = frozenset({"builtins.tuple", "builtins.list", "builtins.dict", "collections.OrderedDict"})
"""Containers that trees of inputs and outputs keep; others become the one of these that they resemble."""

PICKLED = {
    "constants.pkl": "a TorchScript program with pickled data ('constants.pkl')",
    "data.pkl": "a pickled object ('data.pkl'), as torch.save writes it",
}
"""Members by which archives of other kinds are told."""

DEEPEST = 200
"""Levels of nested JSON."""


def read_archive(path: str | os.PathLike[str]) -> ExportedProgram:
    """The program of a .pt2 archive.

    Raises:
        ArchiveUnreadable: it is missing, damaged, of another format, or from another version of torch.
        ArchiveUnsafe: it holds pickled data, or names or expressions that programs do not have.
    """
    return _Archive(Path(path)).program()


class _Archive:
    """One open archive."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.shown = ascii(str(path))
        try:
            with zipfile.ZipFile(path) as archive:
                self.members = {m.filename.partition("/")[2]: m for m in archive.infolist()}
        except (OSError, zipfile.BadZipFile) as problem:
            reason = getattr(problem, "strerror", None) or str(problem)
            self.refuse(reason[0].lower() + reason[1:], problem)
        for mark, what in PICKLED.items():
            if mark in self.members:
                self.unsafe(what)
        packed = next((n for n, m in self.members.items() if m.compress_type != zipfile.ZIP_STORED), None)
        if packed is not None:
            self.refuse(f"member {packed!a} is compressed")

    def refuse(self, reason: str, cause: BaseException | None = None) -> NoReturn:
        raise ArchiveUnreadable(path=self.shown, reason=reason) from cause

    def unsafe(self, what: str) -> NoReturn:
        raise ArchiveUnsafe(path=self.shown, what=what)

    def program(self) -> ExportedProgram:
        """The program with its weights."""
        models = [n for n in self.members if n.startswith(MODELS) and n.endswith(".json")]
        if len(models) != 1:
            self.refuse(
                f"it holds {len(models)} programs instead of one" if models else "it holds no program"
            )
        name = models[0][len(MODELS) : -len(".json")]
        for folder in (WEIGHTS, CONSTANTS):
            if f"{folder}{name}.pt" in self.members:
                self.unsafe(f"pickled tensors ({folder + name + '.pt'!a})")
        data = self.json(models[0])
        if not isinstance(data, dict):
            self.refuse("the program is no JSON object")
        self.check(data)
        data["guards_code"] = []
        for call in data.get("graph_module", {}).get("module_call_graph", ()):
            self._plain_trees(call)
        weights = self.tensors(f"{WEIGHTS}{name}_weights_config.json", WEIGHTS)
        constants = self.tensors(f"{CONSTANTS}{name}_constants_config.json", CONSTANTS)
        try:
            program = _dict_to_dataclass(schema.ExportedProgram, data)  # type: ignore[no-untyped-call]
            return _tidied(ExportedProgramDeserializer().deserialize(program, weights, constants, None))
        except Exception as problem:  # torch raises whatever its reader stumbles over
            reason = str(problem).strip().partition("\n")[0][:300] or type(problem).__name__
            self.refuse(f"PyTorch {torch.__version__} cannot read the program: {reason}", problem)

    def json(self, name: str) -> Any:
        """A member as JSON."""
        member = self.members.get(name)
        if member is None:
            self.refuse(f"member {name!a} is missing")
        try:
            with zipfile.ZipFile(self.path) as archive:
                return json.loads(archive.read(member))
        except (OSError, zipfile.BadZipFile, ValueError, RecursionError) as problem:
            self.refuse(f"member {name!a} is damaged", problem)

    # -- what the program may say -------------------------------------------------------------------

    def check(self, data: Any) -> None:
        """Refuse names and expressions that no program has."""
        for key, value in _walk(data, DEEPEST):
            if key is None:
                self.refuse(f"the program is nested deeper than {DEEPEST} levels")
            if key == "expr_str" and not is_expression(value):
                self.unsafe(f"the expression {ascii(value)[:80]}")
            if key in ("target", "as_operator") and _is_call(value) and not OPERATOR.fullmatch(value):
                self.unsafe(f"the operator name {ascii(value)[:80]}")
            if key in ("as_custom_obj", "custom_obj", "class_fqn", "opaque_obj") and value:
                self.unsafe("objects of classes of its own")

    def _plain_trees(self, call: dict[str, Any]) -> None:
        """Trees of inputs and outputs without classes that reading them would look up."""
        signature = call.get("signature")
        for name in ("in_spec", "out_spec"):
            if signature and signature.get(name):
                try:
                    version, tree = json.loads(signature[name])
                    signature[name] = json.dumps([version, _plain_tree(tree)])
                except (ValueError, TypeError, AttributeError, RecursionError) as problem:
                    self.refuse(f"its {name} is damaged", problem)

    # -- tensors ------------------------------------------------------------------------------------

    def tensors(self, config: str, folder: str) -> dict[str, torch.Tensor]:
        """Tensors by name, as a configuration lists them; those on the same bytes share memory."""
        listed = self.json(config).get("config", {})
        out: dict[str, torch.Tensor] = {}
        storages: dict[str, torch.Tensor] = {}
        for name, entry in listed.items():
            path = entry.get("path_name", "")
            if entry.get("use_pickle") or entry.get("tensor_meta") is None:
                self.unsafe(f"pickled data (tensor {name!a})")
            try:
                out[name] = self._tensor(entry, f"{folder}{path}", storages)
            except (KeyError, TypeError, ValueError, RuntimeError) as problem:
                self.refuse(f"tensor {name!a} is damaged", problem)
        return out

    def _tensor(self, entry: dict[str, Any], member: str, storages: dict[str, torch.Tensor]) -> torch.Tensor:
        meta = entry["tensor_meta"]
        dtype = deserialize_scalar_type(meta["dtype"])
        sizes, strides = ([int(d["as_int"]) for d in meta[k]] for k in ("sizes", "strides"))
        storage = storages.get(member)
        if storage is None:
            storage = storages[member] = self._bytes(member)
        if not storage.numel():
            found = torch.zeros(sizes, dtype=dtype)
        else:
            found = torch.as_strided(
                storage.view(dtype), sizes, strides, int(meta["storage_offset"]["as_int"])
            )
        if entry.get("is_param"):
            return torch.nn.Parameter(found, requires_grad=bool(meta.get("requires_grad")))
        return found

    def _bytes(self, name: str) -> torch.Tensor:
        """A stored member, mapped from the file."""
        member = self.members[name]
        if member.file_size == 0:
            return torch.zeros(0, dtype=torch.uint8)
        with zipfile.ZipFile(self.path) as archive, archive.open(member) as file:
            file.read(1)  # the archive checks the local header
        with open(self.path, "rb") as file:
            file.seek(member.header_offset + 26)
            lengths = file.read(4)
        start = member.header_offset + 30 + int.from_bytes(lengths[:2], "little")
        start += int.from_bytes(lengths[2:], "little")
        mapped = np.memmap(self.path, np.uint8, "c", start, (member.file_size,))
        if mapped.ctypes.data % 16:
            mapped = mapped.copy()
        return torch.from_numpy(mapped)


def _tidied(program: ExportedProgram) -> ExportedProgram:
    """The program without the ranges that torch's reader keeps for whole expressions among its symbols'."""
    environment = _get_shape_env_from_gm(program.graph_module)
    if environment is not None:
        for key in [k for k in environment.var_to_range if not k.is_Symbol]:
            del environment.var_to_range[key]
    return program


def _walk(data: Any, deepest: int) -> Iterator[tuple[str | None, Any]]:
    """Every key of nested objects with its value; (None, None) where they are too deep."""
    ahead = [(data, 0)]
    while ahead:
        current, depth = ahead.pop()
        if depth > deepest:
            yield None, None
            return
        if isinstance(current, dict):
            for key, value in current.items():
                yield str(key), value
                ahead.append((value, depth + 1))
        elif isinstance(current, list):
            ahead += [(value, depth + 1) for value in current]


def _is_call(value: Any) -> bool:
    """Whether a target is the name of a function (others are names of parameters)."""
    return isinstance(value, str) and value.startswith(("torch", "_operator", "math", "builtins", "operator"))


def is_expression(text: Any) -> bool:
    """Whether a text is an expression of the functions that programs have, over symbols and numbers."""
    if not isinstance(text, str) or len(text) > 10_000:
        return False
    try:
        tree = ast.parse(text, mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return _is_part(tree.body, 0)


def _is_part(node: ast.expr, depth: int) -> bool:
    if depth > DEEPEST:
        return False
    if isinstance(node, ast.Constant):
        return isinstance(node.value, (int, float, bool))
    if isinstance(node, ast.Name):
        return SYMBOL.fullmatch(node.id) is not None and not node.id.startswith("_")
    if isinstance(node, ast.UnaryOp):
        return isinstance(node.op, (ast.USub, ast.UAdd)) and _is_part(node.operand, depth + 1)
    if isinstance(node, ast.BinOp):
        plain = isinstance(node.op, (ast.Add, ast.Sub, ast.Mult, ast.FloorDiv, ast.Mod))
        return plain and _is_part(node.left, depth + 1) and _is_part(node.right, depth + 1)
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name) or node.func.id not in FUNCTIONS:
        return False
    flags = all(k.arg is not None and _is_flag(k.value) for k in node.keywords)
    if node.func.id == "Symbol":
        names = [a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
        named = len(names) == len(node.args) == 1 and SYMBOL.fullmatch(names[0]) is not None
        return flags and named
    return flags and all(_is_part(a, depth + 1) for a in node.args)


def _is_flag(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and (node.value is None or isinstance(node.value, bool))


def _plain_tree(tree: dict[str, Any]) -> dict[str, Any]:
    """A tree whose containers are tuples, lists and dicts."""
    children = [_plain_tree(child) for child in tree["children_spec"]]
    kind, context = tree["type"], tree["context"]
    if kind is not None and kind not in PLAIN_TREES:
        keys = _keys(context)
        named = keys is not None and len(keys) == len(children)
        kind, context = ("builtins.dict", json.dumps(keys)) if named else ("builtins.tuple", "null")
    return {"type": kind, "context": context, "children_spec": children}


def _keys(context: Any) -> list[str] | None:
    """The names that a container of its own class has for its parts, if it says them."""
    try:
        keys = json.loads(context)
    except (TypeError, ValueError):
        return None
    return keys if isinstance(keys, list) and all(isinstance(k, str) for k in keys) else None
