"""Schedules: recorded loop transformations over the axes of one computation."""
