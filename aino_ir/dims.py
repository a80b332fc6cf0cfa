"""Symbolic dimensions: the public names.

A dimension is a Python int when constant, else a `Dim`: an immutable, interned integer expression
over named symbols.  `aino_ir.dim_form` holds the normal form and its arithmetic, `aino_ir.dim_atoms` what
it consists of, `aino_ir.dim_walk` the ways to walk over it, `aino_ir.dim_parser` the text form,
`aino_ir.symbols` what is known about the symbols::

    s = symbol("s")
    str((2 * s + 6) // 2)        # "s + 3"
    parse_dim("s + 3") is s + 3  # equal forms are one object
"""

from aino_ir.dim_atoms import Atom, FloorDiv, Min, SymbolAtom
from aino_ir.dim_form import (
    Dim,
    DimLike,
    align,
    atom_dim,
    ceildiv,
    dmax,
    dmin,
    floordiv,
    free_symbols,
    is_static,
    product,
    substitute,
    symbol,
    value_of,
)
from aino_ir.dim_parser import parse as parse_dim
from aino_ir.dim_walk import as_mod, coefficient_of, fold, split_mods

__all__ = [
    "Atom",
    "Dim",
    "DimLike",
    "FloorDiv",
    "Min",
    "SymbolAtom",
    "align",
    "as_mod",
    "atom_dim",
    "ceildiv",
    "coefficient_of",
    "dmax",
    "dmin",
    "fold",
    "floordiv",
    "free_symbols",
    "is_static",
    "parse_dim",
    "product",
    "split_mods",
    "substitute",
    "symbol",
    "value_of",
]
