"""A stack of LSTM layers with a residual connection, as SEANet uses it (Défossez et al. 2022, section 3.1)."""

from torch import Tensor, nn

from ..program import LSTMCell, Program, Value
from .layer import Layer

__all__ = ["LSTM"]


class LSTM(Layer):
    """``y = x + lstm(x)``, [B, T, C] to [B, T, C].

    The weights live in a `torch.nn.LSTM`, which also runs `forward`. In steps the recurrence is written out: for the
    few rows of a live step, torch's own LSTM spends most of its time outside the arithmetic.
    """

    def __init__(self, channels: int, layers: int):
        super().__init__()
        self.channels = channels
        self.lstm = nn.LSTM(channels, channels, layers, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.lstm(x)[0] + x if x.shape[1] else x

    def lower(self, program: Program, x: Value, path: str) -> Value:
        skip, y = program.buffer(x), x
        for i, (w_ih, w_hh, b_ih, b_hh) in enumerate(self.lstm.all_weights):
            weights = (w_ih.detach(), w_hh.detach(), b_ih.detach(), b_hh.detach())
            hidden, cell = (program.leaf(f"{path}{name}.{i}", (self.channels,)) for name in ("hidden", "cell"))
            op = LSTMCell(program.buffer(y) if i else skip, weights, hidden, cell)
            y = program.emit(op, self.channels, x.at, x.length)
        program.ops[y.op].add = skip
        return y
