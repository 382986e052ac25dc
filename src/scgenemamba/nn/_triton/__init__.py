"""Kernels of the ``fused`` back-end; importing this package needs Triton."""
