"""Errors of passes and pipelines (E03xx)."""

from aino_ir.errors.base import InternalError, UsageError


class UnknownPass(UsageError):
    """A pipeline names a pass that does not exist."""

    code = "AINO-E0301"
    template = "no pass is called '{name}'"
    hint = "known passes: {known}"
    example = {"name": "fuse-everything", "known": "canonicalize, fuse-groups"}


class BadPipelineText(UsageError):
    """The text of a pipeline cannot be read."""

    code = "AINO-E0302"
    template = "cannot read '{text}' as passes: {reason}"
    hint = "write passes like: canonicalize,fuse-groups{{max_ops=8}},eliminate-dead-code"
    example = {"text": "fuse-groups{max_ops=8", "reason": "a brace is not closed"}


class BadPassOption(UsageError):
    """A pass does not have an option, or not with this value."""

    code = "AINO-E0303"
    template = "pass {name} does not take {option}={value}"
    hint = "options of this pass: {known}"
    example = {"name": "fuse-groups", "option": "max_op", "value": "8", "known": "max_ops: int = 64"}


class PassNameTaken(UsageError):
    """Two passes have one name."""

    code = "AINO-E0304"
    template = "a pass called '{name}' exists already: {other}"
    hint = "give the new pass another name"
    example = {"name": "canonicalize", "other": "aino_ir.passes.canonicalize.Canonicalize"}


class RequiredPassFailed(InternalError):
    """A pass without which compilation cannot go on changed the meaning of the program."""

    code = "AINO-E0311"
    template = "pass {name} failed on rule {rule}: {reason}"
    hint = "this is a bug in AINO; compile with level=0 meanwhile and please report it"
    example = {"name": "legalize", "rule": "ExpandScan", "reason": "error 0.5 is over 1e-6"}


class UnknownLevel(UsageError):
    """There is no pipeline for an optimization level."""

    code = "AINO-E0312"
    template = "there is no optimization level {level}"
    hint = "levels: {known}"
    example = {"level": 7, "known": "0, 1, 2, 3"}
