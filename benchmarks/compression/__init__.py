"""Compression on real data: what it costs in accuracy and what it gains, one module a subject."""
