"""Schedules: recorded loop transformations over the axes of one computation.

`trace.py` records them, `engine.py` turns a computation and its trace into loops, once and at the end,
`defaults.py` has a schedule for every computation.
"""

from aino_ir.codegen.schedule.defaults import default_schedule
from aino_ir.codegen.schedule.engine import lower
from aino_ir.codegen.schedule.trace import Schedule

__all__ = ["Schedule", "default_schedule", "lower"]
