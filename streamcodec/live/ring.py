"""Samples from one thread to another without a lock."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["Ring", "Rows"]

Rows = NDArray[np.float32]  # [n, channels], full scale at ±1


class Ring:
    """A queue of samples for one writer and one reader, in memory allocated once.

    Neither side waits and neither allocates sample memory, so both may be audio callbacks. The writer alone moves
    `written` and the reader alone moves `consumed`, each after the samples were copied; both only grow, so that either
    side sees at worst less than there is.

    capacity: samples a channel that fit.
    """

    overruns: int
    """Writes that did not fit; they were refused as a whole."""
    lost: int
    """Samples a channel in those writes."""
    underruns: int
    """Reads that got less than they asked for."""

    def __init__(self, capacity: int, channels: int) -> None:
        if capacity < 1 or channels < 1:
            raise ValueError(f"a ring of {capacity} samples and {channels} channels; both must be at least 1")
        self.capacity, self.channels = capacity, channels
        self.written = self.consumed = 0
        self.overruns = self.lost = self.underruns = 0
        self._rows: Rows = np.zeros((capacity, channels), np.float32)

    @property
    def fill(self) -> int:
        """Samples waiting: for the reader at least so many, for the writer at most."""
        return self.written - self.consumed

    def write(self, rows: Rows) -> bool:
        """Append samples [n, channels]. All or none: a block that does not fit is counted, and False returned."""
        count = len(rows)
        if count > self.capacity - self.fill:
            self.overruns += 1
            self.lost += count
            return False
        start = self.written % self.capacity
        first = min(count, self.capacity - start)
        self._rows[start : start + first] = rows[:first]
        self._rows[: count - first] = rows[first:]
        self.written += count
        return True

    def read(self, out: Rows) -> int:
        """Move the oldest samples to `out` [n, channels]; the number moved. What lies beyond it in `out` stays."""
        count = min(len(out), self.fill)
        if count < len(out):
            self.underruns += 1
        self.peek(0, out[:count])
        self.consumed += count
        return count

    def peek(self, offset: int, out: Rows) -> None:
        """Copy samples that wait, from the `offset`th on. The caller has seen that there are enough."""
        count = len(out)
        start = (self.consumed + offset) % self.capacity
        first = min(count, self.capacity - start)
        out[:first] = self._rows[start : start + first]
        out[first:] = self._rows[: count - first]

    def skip(self, count: int) -> None:
        """Drop the oldest `count` samples, of which there must be so many."""
        self.consumed += count
