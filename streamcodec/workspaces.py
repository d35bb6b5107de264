"""The workspaces that an executor keeps: memory for steps of one size, each thread's own."""

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

import torch

__all__ = ["Workspaces"]

# Bytes of workspaces that a thread keeps of one executor: the sizes of step that live streams come back to. Steps too
# large to be kept are laid out anew, about a millisecond of many.
KEPT_BYTES = 64 << 20


class Sized(Protocol):
    """nbytes: of memory."""

    nbytes: int


W = TypeVar("W", bound=Sized)


class Workspaces(Generic[W]):
    """make: a workspace for steps of `batch` streams by `frames` frames."""

    def __init__(self, make: Callable[[int, int], W]):
        self._make, self._kept = make, threading.local()

    def get(self, batch: int, frames: int) -> W:
        """The calling thread's own for this size, made where it has none."""
        kept: OrderedDict[tuple[int, int], W] = self._kept.__dict__.setdefault("workspaces", OrderedDict())
        work = kept.get((batch, frames))
        if work is None:
            with torch.inference_mode(False), torch.no_grad():
                work = kept[batch, frames] = self._make(batch, frames)
            while sum(other.nbytes for other in kept.values()) > KEPT_BYTES:
                kept.popitem(last=False)
        else:
            kept.move_to_end((batch, frames))
        return work
