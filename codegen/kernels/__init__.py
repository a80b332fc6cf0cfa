"""Kernel generators: scheduled loops for one kind of computation each; no target-language text."""
