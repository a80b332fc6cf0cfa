"""What shared libraries export and need, read from their bytes: ELF, PE, Mach-O and WebAssembly."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Interface:
    """Names that a library offers, and libraries (or modules) that it wants."""

    exports: frozenset[str]
    needs: frozenset[str]


def interface_of(data: bytes) -> Interface:
    """The interface of a library of any kind."""
    if data.startswith(b"\x7fELF"):
        return _elf(data)
    if data.startswith(b"MZ"):
        return _pe(data)
    if data.startswith(b"\0asm"):
        return _wasm(data)
    return _mach_o(data)


def _text(data: bytes, at: int) -> str:
    return data[at : data.index(b"\0", at)].decode("latin1")


# -- ELF ----------------------------------------------------------------------------------------------


def _elf(data: bytes) -> Interface:
    """Dynamic symbols that are defined and not local, and DT_NEEDED."""
    wide = data[4] == 2
    if wide:
        table, size, count = (*struct.unpack_from("<Q", data, 40), *struct.unpack_from("<HH", data, 58))
        header = struct.Struct("<IIQQQQIIQQ")
    else:
        table, size, count = (*struct.unpack_from("<I", data, 32), *struct.unpack_from("<HH", data, 46))
        header = struct.Struct("<10I")
    sections = [header.unpack_from(data, table + i * size) for i in range(count)]
    exports, needs = set(), set()
    for _, kind, _, _, start, length, link, *_ in sections:
        if kind == 11:  # SHT_DYNSYM
            strings = sections[link][4]
            for name, info, section in _elf_symbols(data, start, length, wide):
                if section and info >> 4:
                    exports.add(_text(data, strings + name))
        if kind == 6:  # SHT_DYNAMIC
            strings = sections[link][4]
            entry = struct.Struct("<qQ" if wide else "<iI")
            for tag, value in entry.iter_unpack(data[start : start + length]):
                if tag == 1:
                    needs.add(_text(data, strings + value))
    return Interface(frozenset(exports), frozenset(needs))


def _elf_symbols(data: bytes, start: int, length: int, wide: bool) -> Iterator[tuple[int, int, int]]:
    """(name, info, section) of symbols."""
    if wide:
        for name, info, _, section, _, _ in struct.iter_unpack("<IBBHQQ", data[start : start + length]):
            yield name, info, section
    else:
        for name, _, _, info, _, section in struct.iter_unpack("<IIIBBH", data[start : start + length]):
            yield name, info, section


# -- PE -----------------------------------------------------------------------------------------------


def _pe(data: bytes) -> Interface:
    """The export and the import directory of a 64-bit DLL."""
    (start,) = struct.unpack_from("<I", data, 60)
    sections, optional = struct.unpack_from("<2xH12xH", data, start + 4)
    directories = start + 24 + 112
    table = start + 24 + optional
    places = [struct.unpack_from("<8xIIII", data, table + 40 * i) for i in range(sections)]

    def at(address: int) -> int:
        for size, virtual, raw_size, raw in places:
            if virtual <= address < virtual + max(size, raw_size):
                return address - virtual + raw
        raise ValueError(f"no section at {address:#x}")

    exports, needs = set(), set()
    (directory,) = struct.unpack_from("<I", data, directories)
    if directory:
        count, _, names = struct.unpack_from("<24xIII", data, at(directory))
        for (name,) in struct.iter_unpack("<I", data[at(names) : at(names) + 4 * count]):
            exports.add(_text(data, at(name)))
    (imports,) = struct.unpack_from("<I", data, directories + 8)
    position = at(imports) if imports else 0
    while position:
        (name,) = struct.unpack_from("<12xI", data, position)
        if not name:
            break
        needs.add(_text(data, at(name)).lower())
        position += 20
    return Interface(frozenset(exports), frozenset(needs))


# -- Mach-O -------------------------------------------------------------------------------------------


def _mach_o(data: bytes) -> Interface:
    """Defined external symbols, without the underscore before each, and the libraries that are loaded."""
    magic, _, _, _, commands = struct.unpack_from("<IIIII", data, 0)
    if magic != 0xFEEDFACF:
        raise ValueError("no library that is known here")
    exports, needs, position = set(), set(), 32
    for _ in range(commands):
        kind, size = struct.unpack_from("<II", data, position)
        if kind == 2:  # LC_SYMTAB
            symbols, count, strings, _ = struct.unpack_from("<IIII", data, position + 8)
            for i in range(count):
                name, flags, section = struct.unpack_from("<IBB", data, symbols + 16 * i)
                text = _text(data, strings + name).removeprefix("_")
                if flags & 0x0F == 0x0F and section and not text.startswith("_"):  # defined and external
                    exports.add(text)  # with two underscores more it is the linker's own
        if kind == 12:  # LC_LOAD_DYLIB
            (name,) = struct.unpack_from("<I", data, position + 8)
            needs.add(_text(data, position + name))
        position += size
    return Interface(frozenset(exports), frozenset(needs))


# -- WebAssembly --------------------------------------------------------------------------------------


def _wasm(data: bytes) -> Interface:
    """Exported functions, and the modules that are imported from."""
    exports, needs, position = set(), set(), 8
    while position < len(data):
        kind = data[position]
        size, position = _leb(data, position + 1)
        end = position + size
        if kind in (2, 7):  # imports, exports
            count, position = _leb(data, position)
            for _ in range(count):
                name, position = _wasm_name(data, position)
                if kind == 2:
                    needs.add(name)
                    break  # what follows depends on its type; one module is all there is
                what, position = data[position], position + 1
                _, position = _leb(data, position)
                if what == 0:
                    exports.add(name)
        position = end
    return Interface(frozenset(exports), frozenset(needs))


def _leb(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            return value, position


def _wasm_name(data: bytes, position: int) -> tuple[str, int]:
    length, position = _leb(data, position)
    return data[position : position + length].decode(), position + length
