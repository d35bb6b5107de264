"""Noise that a decoder makes up itself: the noise blocks of Siuzdak et al. 2024, "SNAC: Multi-Scale Neural Audio
Codec", section 3.2.
"""

import torch
from torch import Tensor

from ..noise import normal_at
from ..program import Noise, Program, Value
from .conv import Conv1d
from .layer import Layer, Sequential
from .residual import Residual

__all__ = ["NoiseBlock", "TimesNoise"]


class TimesNoise(Layer):
    """Each row times the normal number of its place in the signal, [B, T, C] to the same; see `noise.normal_at`."""

    def __init__(self, seed: int):
        super().__init__()
        self.seed = seed

    def forward(self, x: Tensor) -> Tensor:
        place = torch.arange(x.shape[1], device=x.device)
        return x * normal_at(self.seed, place).to(x.dtype)[:, None]

    def lower(self, program: Program, x: Value, path: str) -> Value:
        heard = program.leaf(f"{path}heard", (1,), torch.int64)
        return program.emit(Noise(program.buffer(x), self.seed, heard), x.channels, x.at, x.length)


class NoiseBlock(Residual):
    """``x + noise * (x @ weight)``, [B, T, C] to the same, with one number a row; seed: None for no noise: x itself."""

    def __init__(self, channels: int, seed: int | None):
        linear = Conv1d(channels, channels, 1, bias=False)
        super().__init__(Sequential([linear, TimesNoise(seed or 0)]))
        self.linear, self.silent = linear, seed is None

    def forward(self, x: Tensor) -> Tensor:
        return x if self.silent else super().forward(x)

    def lower(self, program: Program, x: Value, path: str) -> Value:
        return x if self.silent else super().lower(program, x, path)
