"""The workspaces that an executor keeps: memory for steps of one size, each thread's own."""

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

import torch

__all__ = ["Workspaces"]

# Bytes of workspaces that a thread keeps of one executor: the sizes of step that live streams come back to, which are
# that of its steps, that of what is left before the end, and that of the end. Those of DAC 44.1 kHz in seven-frame
# steps take 120 MB in torch, and a fifth of it natively. Steps too large to be kept are laid out anew, and touch new
# memory: that takes them a third longer.
KEPT_BYTES = 160 << 20


class Sized(Protocol):
    """nbytes: of memory."""

    nbytes: int


W = TypeVar("W", bound=Sized)


class Workspaces(Generic[W]):
    """make: a workspace for steps of `batch` streams by `frames` frames in a `part`."""

    def __init__(self, make: Callable[[int, int, int], W]):
        self._make, self._kept = make, threading.local()

    def get(self, batch: int, frames: int, part: int = 0) -> W:
        """The calling thread's own for this size and part, made where it has none."""
        key, kept = (batch, frames, part), self._of_thread()
        work = kept.get(key)
        if work is None:
            with torch.inference_mode(False), torch.no_grad(), torch.device("cpu"):
                work = kept[key] = self._make(batch, frames, part)
            while sum(other.nbytes for other in kept.values()) > KEPT_BYTES:
                kept.popitem(last=False)
        else:
            kept.move_to_end(key)
        return work

    def _of_thread(self) -> OrderedDict[tuple[int, int, int], W]:
        try:
            return self._kept.workspaces  # type: ignore[no-any-return]
        except AttributeError:
            kept = self._kept.workspaces = OrderedDict()
            return kept
