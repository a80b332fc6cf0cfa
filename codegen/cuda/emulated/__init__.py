"""A GPU that is not there: CUDA's driver functions on the CPU, and a compiler of cubins for it.

For tests and dry runs, which ask for it by name (`aino_ir.driver.emulated_gpu`); nothing takes it by itself.
"""
