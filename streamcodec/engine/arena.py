"""The states of all slots, each one flat row of memory, and batches of them to step.

A state is some dozens of small tensors. Moving each of them by itself costs a call per tensor; here a slot's whole
state lies in one row of bytes, so that any set of slots is gathered, and scattered back, in one call. What the layers
see is the usual tree of tensors: views into those rows.
"""

import torch
from torch import Tensor

from .. import state as states
from ..state import Spec, State, TensorSpec

__all__ = ["Arena", "Batch"]

# Every tensor begins at a multiple of a cache line, which also suits every element type.
ALIGNMENT = 64


class Rows:
    """`count` states of `spec`, one flat row of bytes each."""

    def __init__(self, spec: Spec, count: int, device: torch.device):
        self._spec = spec
        self._places: list[tuple[int, int]] = []
        width = 0
        for _, leaf in states.leaves(spec):
            size = states.nbytes(leaf)
            self._places.append((width, size))
            width += -(-size // ALIGNMENT) * ALIGNMENT
        self.bytes = torch.zeros(count, max(width, ALIGNMENT), dtype=torch.uint8, device=device)
        # Rows are moved as 8-byte words: the type does not matter, and there are fewer of them.
        self.words = self.bytes.view(torch.int64)

    def views(self, rows: slice) -> State:
        """The tree of tensors in `rows`; what is written to them is written here."""
        memory, places = self.bytes[rows], iter(self._places)

        def view(leaf: TensorSpec) -> Tensor:
            start, size = next(places)
            return memory[:, start : start + size].view(leaf.dtype).view(memory.shape[0], *leaf.shape)

        return states.map_leaves(view, self._spec)


class Batch(Rows):
    """Scratch memory for up to `size` states, in which a step runs."""

    def __init__(self, spec: Spec, size: int, device: torch.device):
        super().__init__(spec, size, device)
        self._states: dict[int, State] = {}

    def state(self, rows: int) -> State:
        """The first `rows` rows as one batched state."""
        if rows not in self._states:
            self._states[rows] = self.views(slice(rows))
        return self._states[rows]


class Arena(Rows):
    """The slots."""

    def slot(self, slot: int) -> State:
        """The state of one slot, batch 1."""
        return self.views(slice(slot, slot + 1))

    def put(self, slot: int, state: State) -> None:
        """Write `state` (batch 1) over a slot."""
        states.assign(self.slot(slot), [0], state)

    def gather(self, slots: Tensor, batch: Batch) -> None:
        """Copy the states of `slots` (int64 [n]) to the first n rows of `batch`."""
        torch.index_select(self.words, 0, slots, out=batch.words[: slots.shape[0]])

    def scatter(self, slots: Tensor, batch: Batch, rows: list[int] | None = None) -> None:
        """Copy rows of `batch` to `slots`: the first ones in order, or `rows`. Every other slot keeps its bits."""
        self.words.index_copy_(0, slots, batch.words[: slots.shape[0]] if rows is None else batch.words[rows])
