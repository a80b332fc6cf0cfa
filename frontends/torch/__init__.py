"""The PyTorch frontend: exported programs to graphs."""
