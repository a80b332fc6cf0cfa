"""CUDA C++: kernels of one value at a time, one unit a thread."""
