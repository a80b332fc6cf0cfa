"""Running compiled models on NVIDIA GPUs: the driver, a device, plans as data, tensors in and out."""
