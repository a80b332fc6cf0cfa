"""A table of symbols that tests ask."""

from __future__ import annotations

from aino_ir.symbols import Origin, Symbols


def symbol_table() -> Symbols:
    """b in 1..64, s in 1..512 and t in 1..512 from inputs; n and m unbounded extents."""
    symbols = Symbols()
    symbols.new("b", 1, 64, origin=Origin.input("x", 0))
    symbols.new("s", 1, 512, origin=Origin.input("x", 1))
    symbols.new("t", 1, 512, origin=Origin.input("y", 1))
    symbols.new("n", origin=Origin.input("z", 0))
    symbols.new("m", origin=Origin.input("z", 1))
    return symbols
