"""A residual connection around a branch that may lag."""

from typing import NamedTuple

import torch
from torch import Tensor

from .. import ops
from ..state import Spec, State, TensorSpec
from .conv import Conv1d
from .layer import Edges, Layer, Schedule, Sequential

__all__ = ["Residual", "ResidualState"]


class ResidualState(NamedTuple):
    """branch, shortcut: their states; delay: [B, d, C], the rows by which the skip waits for the branch, or ()."""

    branch: State
    shortcut: State
    delay: State


class Residual(Layer):
    """``y = shortcut(x) + branch(x)``, [B, T, C] to [B, T, C]; the skip is delayed by the lag that the branch adds."""

    def __init__(self, branch: Layer, channels: int, shortcut: Layer | None = None):
        super().__init__()
        self.branch, self.shortcut, self.channels = branch, shortcut or Layer(), channels
        self.identity = shortcut is None
        self._packs = ops.Packs()
        self._joined = self._pointwise_ends
        self.schedule(self.at)

    def schedule(self, at: Schedule) -> Schedule:
        self.at = at
        out = self.branch.schedule(at)
        self.delay = out.lag - at.lag
        self.shortcut.schedule(out)
        return out

    @property
    def _pointwise_ends(self) -> tuple[list[Layer], Conv1d, Conv1d] | None:
        """The branch but for its last layer, that layer, and the shortcut; None unless the two have kernel 1."""
        if not isinstance(self.branch, Sequential) or not isinstance(self.shortcut, Conv1d):
            return None
        *head, tail = self.branch.chain
        if not isinstance(tail, Conv1d) or (tail.span, self.shortcut.span) != (1, 1):
            return None
        if (tail.bias is None) != (self.shortcut.bias is None) or any(layer.norm for layer in (tail, self.shortcut)):
            return None
        return head, tail, self.shortcut

    def state_spec(self) -> Spec:
        dtype = next(self.parameters()).dtype
        delay = TensorSpec((self.delay, self.channels), dtype) if self.delay else ()
        return ResidualState(self.branch.state_spec(), self.shortcut.state_spec(), delay)

    def last_input(self, row: int) -> int:
        return max(self.branch.last_input(row), row if self.identity else self.shortcut.last_input(row))

    def prefill_frames(self) -> int:
        return max(self.branch.prefill_frames(), self.shortcut.prefill_frames())

    def warmup_frames(self) -> int:
        return max(self.branch.warmup_frames(), self.shortcut.warmup_frames())

    def forward(self, x: Tensor) -> Tensor:
        return (x if self.identity else self.shortcut(x)) + self.branch(x)

    def refresh(self) -> None:
        super().refresh()
        self._packs.refresh(self.parameters())

    def step(self, x: Tensor, state: State, edges: Edges | None = None) -> tuple[Tensor, State]:
        if edges is None and self._joined is not None:
            return self._joined_step(x, state)
        y, branch = self.branch.step(x, state.branch, edges)
        if self.identity:
            self._add_delayed(y, x, state)
            return y, ResidualState(branch, state.shortcut, state.delay)
        x, shortcut = self.shortcut.step(self._delayed(x, state), state.shortcut, edges)
        return y.add_(x), ResidualState(branch, shortcut, state.delay)

    def _add_delayed(self, y: Tensor, x: Tensor, state: ResidualState) -> None:
        """`y` plus the delayed skip, in place; where a step is longer than the delay, without joining the two."""
        rows, delay = x.shape[1], self.delay
        if not 0 < delay <= rows:
            y.add_(self._delayed(x, state))
            return
        y[:, :delay].add_(state.delay)
        y[:, delay:].add_(x[:, : rows - delay])
        state.delay.copy_(x[:, rows - delay :])

    def _delayed(self, x: Tensor, state: ResidualState) -> Tensor:
        if not self.delay:
            return x
        waiting = torch.cat([state.delay, x], 1)
        state.delay.copy_(waiting[:, x.shape[1] :])
        return waiting[:, : x.shape[1]]

    def _joined_step(self, x: Tensor, state: ResidualState) -> tuple[Tensor, State]:
        """The branch's last convolution and the shortcut, both of kernel 1, as one product of [branch, skip] rows."""
        assert self._joined is not None
        head, tail, shortcut = self._joined
        y = x
        for layer, before in zip(head, state.branch, strict=False):
            y, _ = layer.step(y, before)
        matrix = self._packs.get("joined", lambda: _join(tail, shortcut))
        y = ops.conv1d(torch.cat([y, self._delayed(x, state)], 2), matrix, 1)
        return y, state

    def prefill(self, x: Tensor) -> tuple[Tensor, State]:
        y, branch = self.branch.prefill(x)
        skip, delay = x[:, : y.shape[1]], x[:, y.shape[1] :].clone() if self.delay else ()
        shortcut: State = ()
        if not self.identity:
            skip, shortcut = self.shortcut.prefill(skip)
        return y + skip, ResidualState(branch, shortcut, delay)

    def finish(self, x: Tensor, state: State, length: int) -> Tensor:
        y = self.branch.finish(x, state.branch, length)
        skip = torch.cat([state.delay, x], 1) if self.delay else x
        return y + (skip if self.identity else self.shortcut.finish(skip, state.shortcut, length))


def _join(tail: Conv1d, shortcut: Conv1d) -> ops.Matrix:
    weight = torch.cat([tail.weight[0], shortcut.weight[0]])
    return ops.Matrix(weight, None if tail.bias is None or shortcut.bias is None else tail.bias + shortcut.bias)
