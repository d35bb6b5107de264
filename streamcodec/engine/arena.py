"""The states of all slots, and batches of them to step.

A slot's whole state is one row of bytes (`state.State`), so any set of slots is gathered, and scattered back, in one
call. Rings of keys and values are not: a step reads them where they lie, and its new rows are written with the rest.
Slots are given by their numbers, or as a tensor of these, which a CUDA graph reads each time that it is replayed.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..state import Lent, Spec, State, without_rings

__all__ = ["Arena", "Batch"]


class Batch:
    """Scratch memory for up to `size` states without their rings, in which a step runs. lent: these, of the slots."""

    lent: Lent

    def __init__(self, spec: Spec, size: int, device: torch.device):
        self.all = State(without_rings(spec), size, device)
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

    def gather(self, slots: Sequence[int] | Tensor, batch: Batch, size: int) -> State:
        """Copy the states of `slots` to the first rows of `batch`, and lend it their rings; `size` rows to step.

        The rows after these, which nothing reads, have the rings of the first slot.
        """
        words = batch.all.words
        index = torch.as_tensor(slots, dtype=torch.int64, device=words.device)
        torch.index_select(self.all.words[:, : words.shape[1]], 0, index, out=words[: len(slots)])
        self.lend(slots, batch, size)
        return batch.state(size)

    def lend(self, slots: Sequence[int] | Tensor, batch: Batch, size: int) -> None:
        """Lend `batch` the rings of `slots`; a tensor has `size` of them."""
        given = slots if isinstance(slots, Tensor) else [*slots, *[slots[0]] * (size - len(slots))]
        batch.lent = Lent(self.all, given)
        batch.state(size).borrow(batch.lent)

    def scatter(self, slots: Sequence[int] | Tensor, batch: Batch, rows: Sequence[int] | slice) -> None:
        """Copy these rows of `batch` to `slots`. Every other slot keeps its bits."""
        words = batch.all.words
        index = torch.as_tensor(slots, dtype=torch.int64, device=words.device)
        self.all.words[:, : words.shape[1]].index_copy_(0, index, words[rows])
        batch.lent.write(rows, index)
