"""A look at the protobuf wire format before it is parsed.

It counts the nodes of the main graph and takes large raw_data of initializers out of the message:
what protobuf then parses is small, and the weights stay where they are (in a memory map of the file).
Encoding: https://protobuf.dev/programming-guides/encoding
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from aino_ir.errors.onnx import ModelCorrupt
from aino_ir.frontends.onnx.limits import Limits, check_limit

LARGE = 1024
"""Raw data of at least this many bytes is taken out."""

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_MODEL_GRAPH = 7
_GRAPH_NODE, _GRAPH_INITIALIZER = 1, 5
_TENSOR_RAW = 9


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a message: number, wire type, and where it and its payload lie."""

    number: int
    wire: int
    start: int
    payload: int
    stop: int


@dataclass
class Slimmed:
    """What is left to parse, and the raw data that was taken out, by position among the initializers."""

    message: bytes
    raw: dict[int, memoryview] = field(default_factory=dict)


class _Scanner:
    def __init__(self, data: memoryview, source: str, limits: Limits) -> None:
        self.data = data
        self.source = source
        self.limits = limits
        self.raw: dict[int, memoryview] = {}
        self.initializers = 0
        self.nodes = 0

    def corrupt(self, reason: str) -> ModelCorrupt:
        return ModelCorrupt(source=self.source, reason=reason)

    def varint(self, at: int, stop: int) -> tuple[int, int]:
        """The unsigned number at `at` and the position after it."""
        value = shift = 0
        while at < stop and shift < 70:
            byte = self.data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value, at
            shift += 7
        raise self.corrupt(f"a number at byte {at} does not end")

    def fields(self, start: int, stop: int) -> Iterator[Field]:
        """The fields of the message in [start, stop)."""
        at = start
        while at < stop:
            tag, payload = self.varint(at, stop)
            number, wire = tag >> 3, tag & 7
            if wire == _LENGTH:
                length, payload = self.varint(payload, stop)
                end = payload + length
            elif wire == _VARINT:
                _, end = self.varint(payload, stop)
            elif wire in (_FIXED32, _FIXED64):
                end = payload + (4 if wire == _FIXED32 else 8)
            else:
                raise self.corrupt(f"field {number} at byte {at} has wire type {wire}")
            if end > stop or not number:
                raise self.corrupt(
                    f"field {number} at byte {at} needs {end - at} bytes, {stop - at} are left"
                )
            yield Field(number, wire, at, payload, end)
            at = end

    def model(self) -> bytes:
        pieces: list[bytes | memoryview] = []
        for part in self.fields(0, len(self.data)):
            if part.number == _MODEL_GRAPH and part.wire == _LENGTH:
                pieces += _message(part.number, self.graph(part.payload, part.stop))
            else:
                pieces.append(self.data[part.start : part.stop])
        return b"".join(pieces)

    def graph(self, start: int, stop: int) -> list[bytes | memoryview]:
        pieces: list[bytes | memoryview] = []
        kept = start
        for part in self.fields(start, stop):
            self.nodes += part.number == _GRAPH_NODE
            if part.number != _GRAPH_INITIALIZER or part.wire != _LENGTH:
                continue
            if part.stop - part.payload >= LARGE:
                pieces.append(self.data[kept : part.start])
                pieces += _message(part.number, self.tensor(part.payload, part.stop))
                kept = part.stop
            self.initializers += 1
        check_limit("number of nodes", self.nodes, self.limits.nodes)
        check_limit("number of initializers", self.initializers, self.limits.values)
        pieces.append(self.data[kept:stop])
        return pieces

    def tensor(self, start: int, stop: int) -> list[bytes | memoryview]:
        pieces: list[bytes | memoryview] = []
        for part in self.fields(start, stop):
            if part.number == _TENSOR_RAW and part.wire == _LENGTH and part.stop - part.payload >= LARGE:
                self.raw[self.initializers] = self.data[part.payload : part.stop]
            else:
                pieces.append(self.data[part.start : part.stop])
                if part.number == _TENSOR_RAW:
                    self.raw.pop(self.initializers, None)  # the last one counts, as in protobuf
        return pieces


def _message(number: int, pieces: list[bytes | memoryview]) -> list[bytes | memoryview]:
    """A length-delimited field around `pieces`."""
    return [_varint(number << 3 | _LENGTH), _varint(sum(map(len, pieces))), *pieces]


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def slim(data: memoryview, source: str, limits: Limits) -> Slimmed:
    """Take large raw data out of a serialized ModelProto.

    Args:
        data: the message.
        source: the model as messages name it.

    Raises:
        ModelCorrupt: the outermost levels are not whole protobuf messages.
        LimitExceeded: too many nodes or initializers.
    """
    scanner = _Scanner(data, source, limits)
    message = scanner.model()
    return Slimmed(message, scanner.raw)
