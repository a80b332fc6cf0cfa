"""Small devices without an operating system: C99, static memory, one thread.

Three files make this a target: `facts` (instruction set, spellings, how it is compiled), `writer` (what
the C11 writer does otherwise) and ``runtime`` (the headers that are emitted with every model).
"""

from aino_ir.codegen.c.cortex_m.facts import CORTEX_M

__all__ = ["CORTEX_M"]
