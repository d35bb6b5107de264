"""A stack of LSTM layers with a residual connection, as SEANet uses it (Défossez et al. 2022, section 3.1)."""

from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .. import ops
from ..state import Spec, State, TensorSpec
from .layer import Edges, Layer

__all__ = ["LSTM", "LSTMState"]


class LSTMState(NamedTuple):
    """hidden, cell: one tensor [B, C] per layer of the stack."""

    hidden: State
    cell: State


class LSTM(Layer):
    """``y = x + lstm(x)``, [B, T, C] to [B, T, C].

    The weights live in a `torch.nn.LSTM`, which also runs `forward`. `step` writes the recurrence out: for the few rows
    of a live step, torch's own LSTM spends most of its time outside the arithmetic.
    """

    def __init__(self, channels: int, layers: int):
        super().__init__()
        self.channels = channels
        self.lstm = nn.LSTM(channels, channels, layers, batch_first=True)
        self._packs = ops.Packs()

    def state_spec(self) -> Spec:
        leaf = TensorSpec((self.channels,), next(self.lstm.parameters()).dtype)
        return LSTMState((leaf,) * self.lstm.num_layers, (leaf,) * self.lstm.num_layers)

    def warmup_frames(self) -> int:
        return self.at.frames(0)

    def forward(self, x: Tensor) -> Tensor:
        return self.lstm(x)[0] + x if x.shape[1] else x

    def step(self, x: Tensor, state: State, edges: Edges | None = None) -> tuple[Tensor, State]:
        # Rows before the signal must not move the recurrence; rows after it have no successor that counts.
        hold = None if edges is None else edges.row_index(x, self.at) < 0
        y = x
        for i, (hidden, cell) in enumerate(zip(state.hidden, state.cell, strict=True)):
            y = ops.lstm(y, partial(self._gates, i), hidden, cell, hold)
        return y.add_(x), state

    def _gates(self, layer: int, which: str) -> ops.Matrix:
        """The gates' weights as `ops.lstm` asks for them."""
        return self._packs.get(f"{layer} {which}", lambda: _gate_matrix(which, *self.lstm.all_weights[layer]))

    def refresh(self) -> None:
        self._packs.refresh(self.lstm.parameters())

    def prefill(self, x: Tensor) -> tuple[Tensor, State]:
        rows = [x.new_zeros(x.shape[0], self.channels) for _ in range(2 * self.lstm.num_layers)]
        state = LSTMState(tuple(rows[: self.lstm.num_layers]), tuple(rows[self.lstm.num_layers :]))
        return self.step(x, state) if x.shape[1] else (x, state)

    def finish(self, x: Tensor, state: State, length: int) -> Tensor:
        return self.step(x, state)[0] if x.shape[1] else x


def _gate_matrix(which: str, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> ops.Matrix:
    stacked = {"input": w_ih, "recurrent": w_hh, "both": torch.cat([w_ih, w_hh], 1)}[which]
    weight, bias = _reorder(stacked).t().contiguous(), _reorder(b_ih + b_hh)
    return ops.Matrix(weight, None if which == "recurrent" else bias)


def _reorder(rows: Tensor) -> Tensor:
    """torch's gates are input, forget, candidate, output; ours have the three sigmoids side by side."""
    i, f, candidate, o = rows.chunk(4)
    return torch.cat([i, f, o, candidate])
