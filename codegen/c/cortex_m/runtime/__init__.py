"""Headers of models for devices: status, and the few names that a generated main uses."""
