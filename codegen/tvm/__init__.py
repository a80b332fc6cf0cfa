"""TVM: kernels as TensorIR in TVMScript with the schedules that transform them, built by TVM."""
