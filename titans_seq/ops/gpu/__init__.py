"""The memory as Triton kernels, each beside its torch twin."""
