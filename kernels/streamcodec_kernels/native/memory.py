"""Memory that steps use, in huge pages where the system has them: with small pages a step would look up each place."""

import contextlib
import mmap
import threading
import weakref
from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["HUGE", "Scratch", "pages", "together"]

LINE = 16  # floats, of a line of the caches
LINE_BYTES = 4 * LINE
HUGE = 2 << 20  # bytes of a huge page
SHARED = 64 << 20  # bytes; more is not kept for what needs less


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
    """So many bytes, [size] uint8. What takes huge pages begins with one."""
    if size < HUGE:
        return torch.frombuffer(_mapped(size), dtype=torch.uint8, count=size)
    memory = torch.frombuffer(_mapped(size + HUGE), dtype=torch.uint8)
    start = -memory.data_ptr() % HUGE
    return memory[start : start + size]


class _Kept:
    """Memory that lives as long as what keeps it."""

    def __init__(self, size: int):
        self.memory = pages(size)


_own = threading.local()


class Scratch:
    """Memory for one thing at a time: all of a thread lie in the same, and what one has left there another writes over.

    So what runs after each other uses memory that is in a cache, and that the system has not given to others meanwhile.
    least: bytes that there are at least; part: a number, each of which has memory of its own.
    """

    def __init__(self, least: int, part: int = 0):
        known: dict[int, weakref.ref[_Kept]] = _own.__dict__.setdefault("memories", {})
        kept = known[part]() if part in known else None
        if kept is None or len(kept.memory) < least:
            kept = _Kept(-(-least // HUGE) * HUGE)
            if least <= SHARED:
                known[part] = weakref.ref(kept)
        self._kept, self._used = kept, 0

    def take(self, size: int) -> Tensor:
        """So many bytes of it, [size] uint8, from a line of the caches on; where no more are left, memory by itself."""
        start, self._used = self._used, self._used + -(-size // LINE_BYTES) * LINE_BYTES
        if self._used > len(self._kept.memory):
            return pages(size)
        return self._kept.memory[start : start + size]


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
