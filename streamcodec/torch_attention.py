"""Attention of a step in torch, over keys and values that stay where they lie in the state.

They are rings (`program.Attention`). A step reads a ring in place, beside its own rows, and writes those over the
oldest ones as its last act: so nothing of a ring is copied, and a step that fails has changed nothing.
"""

import torch
from torch import Tensor

from .program import Attention
from .state import Ring, State
from .vector_math import turned

__all__ = ["Attended", "Places"]


class Places:
    """Where a step's rows stand in their streams: for all attentions of one reach that stand alike.

    leaf: of the count of rows heard; after `look`: cos, sin: [B, 1, n, d / 2], of the angles; slots: [B, n], in a ring;
    hidden: [B, 1, n, ring + n], added to the scores: which rows of the ring, and of the step, are out of reach.
    """

    cos: Tensor
    sin: Tensor
    slots: Tensor
    hidden: Tensor

    def __init__(self, op: Attention, batch: int, rows: int, lag: int, like: Tensor):
        self.leaf, self.ring, self.rows, self.lag = op.heard, op.reach - 1, rows, lag
        self.batch, self.like = batch, like
        device, half = like.device, op.width // op.heads // 2
        self.base = op.base ** -(torch.arange(half, dtype=torch.float64, device=device) / half)
        self.new, self.old = torch.arange(rows, device=device), torch.arange(self.ring, device=device)
        back = self.new[:, None] - self.new
        self.apart, self.itself = (back < 0) | (back > self.ring), back == 0
        self.heard: Tensor | None = None

    def bind(self, state: State) -> None:
        """Count in `state`."""
        self.heard = state.leaves[self.leaf]

    def look(self) -> None:
        """Work out where this step's rows stand."""
        heard = self.heard
        assert heard is not None
        place = heard + self.new  # [B, n]
        angle = place[:, None, :, None].double() * self.base
        self.cos, self.sin = angle.cos().to(self.like.dtype), angle.sin().to(self.like.dtype)
        self.slots = place % self.ring
        # The row in a slot is the newest that has its place there: `age` rows before the last one of the ring.
        age = (heard - 1 - self.old) % self.ring
        oldest = torch.minimum(self.ring - 1 - self.new, heard - 1 - self.lag)  # the age that each row can see
        gone = age[:, None] > oldest[:, :, None]
        outside = (self.apart | (place < self.lag)[:, None]) & ~self.itself
        hidden = torch.cat([gone, outside], 2)[:, None]
        self.hidden = torch.zeros(hidden.shape, dtype=self.like.dtype, device=self.like.device)
        self.hidden.masked_fill_(hidden, float("-inf"))

    def keep(self) -> None:
        """The step is done."""
        assert self.heard is not None
        self.heard.add_(self.rows)
        self.heard = None


class Attended:
    """One attention. rows: [B, n, 3 * heads * d], queries, keys and values; target: [B, n, heads * d]."""

    def __init__(self, op: Attention, places: Places, rows: Tensor, target: Tensor):
        self.op, self.places = op, places
        self.parts = rows.unflatten(2, (3, op.heads, -1)).permute(2, 0, 3, 1, 4)  # [3, B, heads, n, d]
        self.target = target.unflatten(2, (op.heads, -1)).transpose(1, 2)  # [B, heads, n, d]
        self.key = self.parts[1]
        self._bound: tuple[Ring, Ring] | None = None

    def bind(self, state: State) -> None:
        """Read the keys and values of `state`."""
        self._bound = state.ring(self.op.keys), state.ring(self.op.values)

    def attend(self) -> None:
        """Write what each row takes to the target."""
        assert self._bound is not None
        (keys, values), places = self._bound, self.places
        query, key = turned(self.parts[:2], places.cos, places.sin).unbind()
        query, self.key, value = query * query.shape[-1] ** -0.5, key, self.parts[2]
        # Stream by stream: torch would copy the rings of several to multiply them at once.
        old = torch.stack([torch.matmul(one, ring.mT) for one, ring in zip(query, keys.rows, strict=True)])
        scores = torch.cat([old, torch.matmul(query, key.mT)], 3).add_(places.hidden)
        weights = scores.softmax(3)
        from_ring, own = weights.split([places.ring, places.rows], 3)
        taken = torch.matmul(own, value)
        for one, part, ring in zip(taken, from_ring, values.rows, strict=True):
            one.add_(torch.matmul(part, ring))
        self.target.copy_(taken)

    def keep(self) -> None:
        """Write the step's keys and values over the oldest ones."""
        assert self._bound is not None
        (keys, values), count = self._bound, self.places.ring
        slots = self.places.slots[:, -count:]
        keys.put(slots, self.key[:, :, -count:])
        values.put(slots, self.parts[2][:, :, -count:])
        self._bound = None
