"""The text form of modules (`.air`): ASCII, parsed with lark, an exact round trip.

Small constants stand in the text; large ones in a safetensors file beside it, by content hash.
"""

from aino_ir.text.files import load_module, save
from aino_ir.text.parser import parse
from aino_ir.text.printer import print_module

__all__ = ["load_module", "parse", "print_module", "save"]
