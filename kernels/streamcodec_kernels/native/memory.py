"""Memory that steps use, in huge pages where the system has them: with small pages a step would look up each place."""

import contextlib
import mmap
from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["pages", "together"]

LINE = 16  # floats, of a line of the caches
HUGE = 2 << 20  # bytes of a huge page


def together(tensors: Sequence[Tensor]) -> list[Tensor]:
    """The same float32 values side by side, each from a line of the caches on.

    In the order in which a step reads them, what is fetched beyond the end of one tensor is the beginning of the next.
    """
    sizes = [-(-tensor.numel() // LINE) * LINE for tensor in tensors]
    total = sum(sizes)
    if not total:
        return [tensor.clone() for tensor in tensors]
    parts = torch.frombuffer(_mapped(4 * total), dtype=torch.float32, count=total).split(sizes)
    each = zip(tensors, parts, strict=True)
    return [part[: tensor.numel()].view(tensor.shape).copy_(tensor) for tensor, part in each]


def pages(size: int) -> Tensor:
    """So many bytes, [size] uint8."""
    return torch.frombuffer(_mapped(size), dtype=torch.uint8, count=size)


def _mapped(size: int) -> mmap.mmap:
    """At least `size` bytes; they live as long as what looks at them."""
    if size >= HUGE:
        size = -(-size // HUGE) * HUGE
    if not hasattr(mmap, "MAP_PRIVATE"):  # Windows
        return mmap.mmap(-1, size)
    made = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):  # a kernel without them
            made.madvise(mmap.MADV_HUGEPAGE)
    return made
