"""The C target: loops and plan to C, compiled into a library."""
