"""Attention within windows that lie side by side: SNAC's at 32 and 44.1 kHz.

All rows of a window see each other, and none outside. So a stream waits for a whole window, and no longer.
"""

import torch.nn.functional as F
from torch import Tensor

from ..errors import ConfigError
from ..program import LocalAttention, Program, Value, Window
from ..vector_math import angles, turned
from .attention import NormalisedRows
from .conv import Conv1d
from .layer import Layer
from .stack import Stack, Unstack

__all__ = ["WindowAttention"]

BASE = 10_000.0  # of the rotary positions (Su et al. 2021), which begin anew in each window
EPSILON = 1e-5


class WindowAttention(Layer):
    """A norm, attention within windows of `window` rows, and a product, added to the rows: [B, T, C] to [B, T, C].

    Rows at the end that fill no window are left out.
    """

    def __init__(self, channels: int, window: int, head_size: int):
        super().__init__()
        if channels % head_size or head_size % 2:
            raise ConfigError(f"{channels} channels cannot be attended to in heads of {head_size} values")
        self.window, self.head_size = window, head_size
        self.norm = NormalisedRows(channels, EPSILON)
        self.inputs = Conv1d(channels, 3 * channels, 1, bias=False)
        self.out = Conv1d(channels, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = x[:, : x.shape[1] // self.window * self.window]
        parts = self.inputs(self.norm(x)).unflatten(2, (3, -1, self.head_size)).unflatten(1, (-1, self.window))
        query, key, value = parts.permute(3, 0, 1, 4, 2, 5)  # [B, n, heads, window, d]
        angle = angles(self.window, self.head_size, BASE, x.device)
        query, key = (turned(part, angle.cos().to(x.dtype), angle.sin().to(x.dtype)) for part in (query, key))
        taken = F.scaled_dot_product_attention(query, key, value).transpose(2, 3)
        return x + self.out(taken.flatten(3).flatten(1, 2))

    def lower(self, program: Program, x: Value, path: str) -> Value:
        windows = Stack(self.window).lower(program, x, path)
        x = Unstack(self.window).lower(program, windows, path)
        y = self.inputs.lower(program, self.norm.lower(program, x, path), path)
        window = Window(program.buffer(y), stride=self.window, taps=self.window)
        op = LocalAttention(window, x.channels // self.head_size, BASE, x.channels, self.window)
        y = self.out.lower(program, program.emit(op, x.channels, y.at, y.length), path)
        program.ops[y.op].add = program.buffer(x)
        return y
