"""The base of AINO's error catalogue: one class per error, each with a stable code.

A subclass declares `code`, `template` (the message, lower case, both values), `hint` (what to do
next) and `example` (field values for docs/errors.md).  Raise it with the fields of the template::

    raise ShapeMismatch(loc=op.loc, what="matmul inner extent", expected=64, got=32)
"""

from __future__ import annotations

from typing import Any, ClassVar

CATALOGUE: dict[str, type[AinoError]] = {}
"""Every error class by code; filled as the modules of this package are imported."""

EXIT_MODEL, EXIT_USAGE, EXIT_INTERNAL, EXIT_ENVIRONMENT = 1, 2, 3, 4


class AinoError(Exception):
    """Something went wrong, said with a code, the user's location, both values and a way out.

    Attributes:
        code: stable identifier such as ``AINO-E0102``.
        exit_status: what ``ainoc`` exits with (1 model or input, 2 usage, 3 AINO, 4 environment).
        loc: the user's own place (an ONNX node, a ``file:line``), or None.
        fields: the values that the template was filled with.
    """

    code: ClassVar[str] = ""
    exit_status: ClassVar[int] = EXIT_MODEL
    template: ClassVar[str] = "{message}"
    hint: ClassVar[str] = ""
    example: ClassVar[dict[str, Any]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        code = cls.__dict__.get("code")
        if not code:
            return  # an abstract family of errors
        other = CATALOGUE.get(code)
        if other is not None and other.__qualname__ != cls.__qualname__:
            raise TypeError(f"error code {code} is taken by {other.__qualname__}")
        CATALOGUE[code] = cls

    def __init__(self, *, loc: object = None, **fields: Any) -> None:
        self.loc = loc
        self.fields = fields
        self.message = self.template.format(**fields)
        super().__init__(self.message)

    def __str__(self) -> str:
        lines = [f"{self.code}: {self.message}" if self.code else self.message]
        if self.loc is not None and str(self.loc):
            lines.append(f"  at {self.loc}")
        if self.hint:
            lines.append(f"  help: {self.hint.format(**self.fields)}")
        if self.code:
            lines.append(f"  see docs/errors.md#{self.code.lower()}")
        return "\n".join(lines)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.loc, self.fields)


def _rebuild(cls: type[AinoError], loc: object, fields: dict[str, Any]) -> AinoError:
    return cls(loc=loc, **fields)


class UserError(AinoError):
    """The model or an input is at fault (exit status 1)."""

    exit_status = EXIT_MODEL


class UsageError(AinoError):
    """The call or the command line is at fault (exit status 2)."""

    exit_status = EXIT_USAGE


class InternalError(AinoError):
    """AINO itself is at fault (exit status 3)."""

    exit_status = EXIT_INTERNAL


class EnvironmentFault(AinoError):
    """The machine is at fault: no compiler, disk full, no device (exit status 4)."""

    exit_status = EXIT_ENVIRONMENT
