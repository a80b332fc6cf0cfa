"""From graph to plan: index notation composed per kernel, storage assigned, kernels chosen."""
