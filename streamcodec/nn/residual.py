"""A residual connection around a branch that may lag."""

from typing import NamedTuple

import torch
from torch import Tensor

from ..state import Spec, State, TensorSpec
from .layer import Edges, Layer, Schedule

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
        self.schedule(self.at)

    def schedule(self, at: Schedule) -> Schedule:
        self.at = at
        out = self.branch.schedule(at)
        self.delay = out.lag - at.lag
        self.shortcut.schedule(out)
        return out

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

    def step(self, x: Tensor, state: State, edges: Edges | None = None) -> tuple[Tensor, State]:
        y, branch = self.branch.step(x, state.branch, edges)
        if self.delay:
            waiting = torch.cat([state.delay, x], 1)
            state.delay.copy_(waiting[:, x.shape[1] :])
            x = waiting[:, : x.shape[1]]
        shortcut = state.shortcut
        if not self.identity:
            x, shortcut = self.shortcut.step(x, shortcut, edges)
        return y.add_(x), ResidualState(branch, shortcut, state.delay)

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
