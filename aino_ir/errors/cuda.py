"""Errors of NVIDIA GPUs: E0460 to E0469 when code is made, E0540 to E0559 when it runs."""

from aino_ir.errors.base import EnvironmentFault, InternalError, UserError


class NoCudaCompiler(EnvironmentFault):
    """No compiler of CUDA C++ was found."""

    code = "AINO-E0460"
    template = "no compiler of CUDA C++ found (tried {tried})"
    hint = "run `pip install aino-ir[cuda]` (brings NVRTC), or install the CUDA toolkit, or set AINO_NVCC"
    example = {"tried": "AINO_NVCC, the package nvidia-cuda-nvrtc, libnvrtc.so, nvcc"}


class CudaCompilerFailed(InternalError):
    """The compiler rejected CUDA C++ that AINO wrote."""

    code = "AINO-E0461"
    template = "{command} rejected generated code ({unit}):\n{lines}"
    hint = "this is a fault of AINO; the source is in {kept}"
    example = {
        "command": "nvrtc 13.0",
        "unit": "model_kernels_0",
        "lines": "k.cu(3): error: expected a ';'",
        "kept": "~/.cache/aino/v1/failed/1f0c.cu",
    }


class NoCudaDriver(EnvironmentFault):
    """NVIDIA's driver is not there, or does not start."""

    code = "AINO-E0540"
    template = "no CUDA driver: {reason}"
    hint = "install NVIDIA's driver, or choose the target 'c'; cuda:sm_80 and the like compile without a GPU"
    example = {"reason": "libcuda.so.1: cannot open shared object file"}


class NoCudaDevice(EnvironmentFault):
    """The machine has no such GPU."""

    code = "AINO-E0541"
    template = "there is no CUDA device {device}: the driver lists {count}"
    hint = "CUDA_VISIBLE_DEVICES hides devices; cuda:sm_80 and the like compile without a GPU"
    example = {"device": 0, "count": 0}


class DeviceArchitectureMismatch(EnvironmentFault):
    """A compiled model has no code for the GPU at hand."""

    code = "AINO-E0542"
    template = "'{path}' has code for {found}, device {device} ({name}) needs {needed}"
    hint = "compile the model for target 'cuda:{needed}'; sums such as cuda:sm_80+sm_90a hold several"
    example = {"path": "m.aino", "found": "sm_90a", "device": 0, "name": "NVIDIA A100", "needed": "sm_80"}


class DeviceOutOfMemory(EnvironmentFault):
    """Memory on a GPU could not be had."""

    code = "AINO-E0543"
    template = "out of device memory for {what}: {wanted} bytes wanted, {free} of {total} free"
    hint = "exe.report says how many bytes a run and the weights need"
    example = {"what": "the weights", "wanted": 1 << 34, "free": 1 << 30, "total": 1 << 35}


class KernelFailed(EnvironmentFault):
    """A kernel could not be launched, or failed on the GPU."""

    code = "AINO-E0544"
    template = "kernel '{kernel}' failed on the device: {error}"
    hint = (
        "{error} is CUDA's word; AINO_CUDA_SYNC=1 waits for every kernel, so that the one at fault is named"
    )
    example = {"kernel": "matmul_32x80_4ef61efd", "error": "CUDA_ERROR_LAUNCH_FAILED"}


class MixedDevices(UserError):
    """The arrays of a run lie in different places."""

    code = "AINO-E0545"
    template = "'{name}' is on {got}, but '{other}' is on {expected}"
    hint = "move the tensors of a run to one device; arrays of the CPU do not go with tensors of a GPU"
    example = {"name": "mask", "got": "cpu", "other": "x", "expected": "cuda:0"}


class DriverCallFailed(EnvironmentFault):
    """CUDA's driver refuses a call."""

    code = "AINO-E0546"
    template = "{function} failed: {error}"
    hint = "see CUDA's documentation of {function}; after an error on the device a process must start anew"
    example = {"function": "cuStreamCreate", "error": "CUDA_ERROR_INVALID_CONTEXT"}


class LibraryMissing(EnvironmentFault):
    """A library of NVIDIA's that kernels were measured to be slower than is not there, or does not start."""

    code = "AINO-E0547"
    template = "{library} is not there: {reason}"
    hint = (
        "run `pip install nvidia-cublas`, or compile with libraries=() for a model that wants none; "
        "AINO's own kernels run meanwhile"
    )
    example = {"library": "cuBLAS", "reason": "no libcublasLt.so.12 or .13 in a wheel or on the system"}


class LibraryCallFailed(EnvironmentFault):
    """A library of NVIDIA's refuses what a kernel was to be done by."""

    code = "AINO-E0548"
    template = "{library} does not do kernel '{kernel}': {reason}"
    hint = "compile the model with libraries=(), or tune it anew with the library that is installed here"
    example = {
        "library": "cuBLAS",
        "kernel": "matmul_2x48x96_b38ea841",
        "reason": "cublasLtMatmul says CUBLAS_STATUS_EXECUTION_FAILED",
    }


class DriverTooOld(EnvironmentFault):
    """The driver does not load what a newer compiler has made."""

    code = "AINO-E0549"
    template = "the driver, of CUDA {driver}, does not load what {compiler} made ('{path}'): {error}"
    hint = (
        "update NVIDIA's driver, or compile the model with a compiler of the driver's CUDA "
        "(a wheel such as nvidia-cuda-nvrtc-cu12, or AINO_NVCC)"
    )
    example = {
        "driver": "12.4",
        "compiler": "nvrtc 13.0",
        "path": "m.aino",
        "error": "CUDA_ERROR_INVALID_IMAGE",
    }


class NotEnoughSharedMemory(EnvironmentFault):
    """A kernel wants more shared memory than the GPU has."""

    code = "AINO-E0550"
    template = (
        "kernel '{kernel}' wants {wanted} bytes of shared memory for a block, "
        "device {device} ({name}) has {limit}"
    )
    hint = "compile the model for target 'cuda:{needed}', whose kernels are made for this device"
    example = {
        "kernel": "matmul_4096x4096_4ef61efd",
        "wanted": 147456,
        "device": 0,
        "name": "NVIDIA A10",
        "limit": 101376,
        "needed": "sm_86",
    }
