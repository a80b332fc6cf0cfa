"""Libraries of cubins: what is written is read, and nothing else is."""

from __future__ import annotations

import pytest

from aino_ir.errors.artifact import LibraryNotLoadable
from aino_ir.runtime.cubins import CubinLibrary, Resources

LIBRARY = CubinLibrary(
    (b"one\n\x00", b"", b"three"), {"k": (2, Resources(32, 1024, 8, 4)), "j": (0, Resources())}
)


def test_what_is_written_is_read() -> None:
    assert CubinLibrary.from_bytes(LIBRARY.to_bytes(), "lib") == LIBRARY


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}\n",
        b"not json\n",
        LIBRARY.to_bytes()[:-1],
        LIBRARY.to_bytes() + b"x",
        b'{"modules": [-1, 1]}\n',
    ],
)
def test_what_is_no_library_is_refused(data: bytes) -> None:
    with pytest.raises(LibraryNotLoadable):
        CubinLibrary.from_bytes(data, "lib/sm_80.cubins")


def test_an_entry_needs_its_module() -> None:
    broken = CubinLibrary((b"one",), {"k": (3, Resources())})
    with pytest.raises(LibraryNotLoadable, match="not all there"):
        CubinLibrary.from_bytes(broken.to_bytes(), "lib")
