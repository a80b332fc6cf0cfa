"""Names from a model as they may appear in messages: quoted, ASCII, escaped and short."""

from __future__ import annotations

from aino_ir.errors.onnx import InvalidText

_LONGEST = 80


def quote(text: str | bytes, longest: int = _LONGEST) -> str:
    """`text` in single quotes with everything but printable ASCII escaped, at most `longest` characters."""
    if isinstance(text, bytes):
        text = text[: longest + 1].decode("utf-8", "backslashreplace")
    shortened = text[:longest]
    escaped = shortened.encode("unicode_escape").decode("ascii").replace("'", "\\'")
    return f"'{escaped}...'" if len(text) > longest else f"'{escaped}'"


def text_of(value: object, what: str, loc: object = None) -> str:
    """A protobuf string field as str; the bindings hand out bytes when it is not UTF-8 (InvalidText)."""
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            pass
    raise InvalidText(loc=loc, what=what, text=ascii(value)[:_LONGEST])


def domain_of(domain: str) -> str:
    """The canonical spelling of an operator domain: `ai.onnx` is the empty one."""
    return "" if domain == "ai.onnx" else domain


def domain_label(domain: str) -> str:
    """The domain as messages print it."""
    return quote(domain or "ai.onnx")
