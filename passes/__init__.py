"""Passes: a graph to a better graph, a plan to a better plan."""
