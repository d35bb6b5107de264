"""The states of all slots, and batches of them to step.

A slot's whole state is one row of bytes (`state.State`), so any set of slots is gathered, and scattered back, in one
call.
"""

import torch
from torch import Tensor

from ..state import Spec, State

__all__ = ["Arena", "Batch"]


class Batch:
    """Scratch memory for up to `size` states, in which a step runs."""

    def __init__(self, spec: Spec, size: int, device: torch.device):
        self.all = State(spec, size, device)
        self._first: dict[int, State] = {}

    def state(self, rows: int) -> State:
        """The first `rows` rows as one batched state."""
        if rows not in self._first:
            self._first[rows] = self.all.rows(slice(rows))
        return self._first[rows]


class Arena:
    """The slots."""

    def __init__(self, spec: Spec, slots: int, device: torch.device):
        self.all = State(spec, slots, device)

    def slot(self, slot: int) -> State:
        """The state of one slot, as a view."""
        return self.all.rows(slice(slot, slot + 1))

    def gather(self, slots: Tensor, batch: Batch) -> None:
        """Copy the states of `slots` (int64 [n]) to the first n rows of `batch`."""
        torch.index_select(self.all.words, 0, slots, out=batch.all.words[: slots.shape[0]])

    def scatter(self, slots: Tensor, batch: Batch, rows: list[int] | None = None) -> None:
        """Copy rows of `batch` to `slots`: the first ones in order, or `rows`. Every other slot keeps its bits."""
        words = batch.all.words
        self.all.words.index_copy_(0, slots, words[: slots.shape[0]] if rows is None else words[rows])
