"""The loop language: typed loops, loads and stores between the graph and every target's text."""
