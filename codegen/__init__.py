"""Code generation: graph and plan to source to artifact."""
