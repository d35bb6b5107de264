"""A stack of LSTM layers with a residual connection, as SEANet uses it (Défossez et al. 2022, section 3.1)."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from .. import _dense as ops
from ..state import Spec, State, TensorSpec
from .layer import Edges, Layer

__all__ = ["LSTM", "LSTMState"]


class LSTMState(NamedTuple):
    """hidden, cell: one tensor [B, C] per layer of the stack."""

    hidden: tuple[Tensor, ...]
    cell: tuple[Tensor, ...]


class LSTM(Layer):
    """``y = x + lstm(x)``, [B, T, C] to [B, T, C].

    The weights live in a `torch.nn.LSTM`, which also runs `forward`. `step` writes the recurrence out: for the few rows
    of a live step, torch's own LSTM spends most of its time outside the arithmetic.
    """

    def __init__(self, channels: int, layers: int):
        super().__init__()
        self.channels = channels
        self.lstm = nn.LSTM(channels, channels, layers, batch_first=True)

    def state_spec(self) -> Spec:
        leaf = TensorSpec((self.channels,), self.lstm.weight_hh_l0.dtype)
        return LSTMState((leaf,) * self.lstm.num_layers, (leaf,) * self.lstm.num_layers)

    def warmup_frames(self) -> int:
        return self.at.frames(0)

    def forward(self, x: Tensor) -> Tensor:
        return self.lstm(x)[0] + x if x.shape[1] else x

    def step(self, x: Tensor, state: State, edges: Edges | None = None) -> tuple[Tensor, State]:
        # Rows before the signal must not move the recurrence; rows after it have no successor that counts.
        hold = None if edges is None else edges.index(x, self.at) < 0
        y = x
        for i, (hidden, cell) in enumerate(zip(state.hidden, state.cell, strict=True)):
            w_ih, w_hh, b_ih, b_hh = self.lstm.all_weights[i]
            y = ops.lstm(y, w_ih, w_hh, b_ih + b_hh, hidden, cell, hold)
        return y + x, state

    def prefill(self, x: Tensor) -> tuple[Tensor, State]:
        rows = [torch.zeros_like(x[:, 0]) for _ in range(2 * self.lstm.num_layers)]
        state = LSTMState(tuple(rows[: self.lstm.num_layers]), tuple(rows[self.lstm.num_layers :]))
        return self.step(x, state)

    def finish(self, x: Tensor, state: State, length: int) -> Tensor:
        return self.step(x, state)[0] if x.shape[1] else x
