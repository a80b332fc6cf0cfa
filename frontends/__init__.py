"""Readers: each turns one kind of model into a graph."""
