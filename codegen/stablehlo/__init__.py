"""StableHLO: a module as MLIR text that XLA compiles for CPU, GPU and TPU."""
