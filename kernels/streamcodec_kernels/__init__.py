"""Triton kernels: one operation a file, tensors in, tensors out, a naive torch reference beside each.

Nothing is imported here: each kernel file imports Triton, which exists only on Linux, and its caller decides when.
"""

__all__: list[str] = []
