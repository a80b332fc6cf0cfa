"""StableHLO in: what `jax.jit(f).lower(...)` gives becomes a module."""

from aino_ir.frontends.stablehlo.reader import load_stablehlo

__all__ = ["load_stablehlo"]
