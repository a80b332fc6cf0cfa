"""What all C-family printers share: text with precedence, names, indices, scalar lowerings."""
