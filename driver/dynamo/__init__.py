"""``torch.compile(model, backend="aino")``: graphs that torch traces run as AINO's native code.

`backend.py` is what torch calls, `options.py` what its ``options=`` may hold, `partition.py` splits a
graph into what AINO runs and what stays with torch, `graph.py` runs a part.
"""

from aino_ir.driver.dynamo.backend import backend
from aino_ir.driver.dynamo.options import DynamoOptions

__all__ = ["DynamoOptions", "backend"]
