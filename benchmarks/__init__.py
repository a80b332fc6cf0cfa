"""Benchmarks: reference networks, engines side by side, measured results."""
