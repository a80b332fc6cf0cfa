"""Identifiers and comments that are safe to print whatever text they come from."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable

_KEYWORDS = """
auto break case char const continue default do double else enum extern float for goto if inline int
long register restrict return short signed sizeof static struct switch typedef union unsigned void
volatile while _Alignas _Alignof _Atomic _Bool _Complex _Generic _Imaginary _Noreturn _Static_assert
_Thread_local alignas alignof bool constexpr false nullptr static_assert thread_local true typeof
asm fortran class delete explicit export friend mutable namespace new operator private protected
public template this throw try catch typename using virtual and or xor not
main views syms scratch lo hi status INLINE linux unix
"""
RESERVED = frozenset(_KEYWORDS.split())
"""Words that no local name may be: keywords of C, C++ and CUDA, and what every kernel declares."""

_HELPER_LIKE = re.compile(r".*_(bool|bf16|[iuf]\d+[a-z0-9]*)(x\d+)?(_[a-z0-9]+)*\Z")
_TYPE_LIKE = re.compile(r"([ifuc]\d+x\d+|u?int(_fast|_least)?\d+_t|u?intptr_t|size_t|[A-Z][A-Z0-9_]*)\Z")


def identifier(text: str) -> str:
    """`text` as a C identifier that is the same everywhere; what was changed is told apart by a hash."""
    clean = re.sub(r"[^A-Za-z0-9_]", "_", text)
    if clean != text:
        clean = f"{clean[:40]}_{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:6]}"
    return _allowed(clean)


def _allowed(clean: str) -> str:
    """An identifier that is neither empty nor reserved."""
    if not clean or clean[0].isdigit() or clean.startswith("_"):
        clean = "v" + clean
    if clean in RESERVED or _HELPER_LIKE.match(clean) or _TYPE_LIKE.match(clean):
        clean += "_"
    return clean


def comment(text: str) -> str:
    """`text` as one line of printable ASCII that cannot end or open a comment, nor continue a line."""
    ascii_text = text.encode("ascii", "backslashreplace").decode("ascii")
    line = "".join(c if " " <= c <= "~" else " " for c in ascii_text)
    return line.replace("*/", "* /").replace("/*", "/ *").replace("??", "? ?").rstrip()


def string_literal(text: str) -> str:
    """`text` as a C string literal of its UTF-8 bytes."""
    return '"' + "".join(map(_escaped, text.encode("utf-8", "surrogatepass"))) + '"'


def string_lines(text: str, width: int = 100) -> list[str]:
    """`text` as adjacent string literals of about `width` columns, which C joins."""
    pieces = [""]
    for escaped in map(_escaped, text.encode("utf-8", "surrogatepass")):
        if len(pieces[-1]) + len(escaped) > width:
            pieces.append("")
        pieces[-1] += escaped
    return [f'"{piece}"' for piece in pieces]


def _escaped(byte: int) -> str:
    character = chr(byte)
    if character in '"\\':
        return "\\" + character
    return character if 32 <= byte < 127 and character != "?" else f"\\{byte:03o}"


class Names:
    """The identifiers of one function: each original name gets one, no two the same."""

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self._used = set(taken)
        self._given: dict[str, str] = {}

    def __getitem__(self, name: str) -> str:
        """The identifier of `name`, given at the first request."""
        found = self._given.get(name)
        if found is None:
            found = self._given[name] = self._unique(_allowed(re.sub(r"[^A-Za-z0-9_]", "_", name)[:60]))
        return found

    def _unique(self, wanted: str) -> str:
        candidate, count = wanted, 1
        while candidate in self._used:
            count += 1
            candidate = f"{wanted}{'' if wanted.endswith('_') else '_'}{count}"
        self._used.add(candidate)
        return candidate
