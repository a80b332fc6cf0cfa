"""Vector mathematics, written once in the loop language."""
