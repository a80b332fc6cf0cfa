"""Making models smaller at a declared loss: what quantization and pruning share, and each of them.

`layers.py` finds what can be compressed, `report.py` says what became of each layer and why, `guard.py`
takes back what does not pay or costs too much accuracy.  A compression is a function from a set of layers
to a module: the guard decides which layers that set holds.
"""
