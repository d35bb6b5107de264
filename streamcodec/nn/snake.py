"""Snake, the periodic activation of DAC (Ziyin et al. 2020, "Neural Networks Fail to Learn Periodic Functions")."""

import torch
from torch import Tensor, nn

from ..program import Activation, Program, Value
from ..vector_math import SNAKE_EPSILON
from .layer import Layer, activate

__all__ = ["Snake"]


class Snake(Layer):
    """``x + sin(alpha x)^2 / (alpha + 1e-9)``, [B, T, C] to [B, T, C]; memoryless, zero to zero.

    alpha: [C], the frequency of each channel.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        return x + (self.alpha + SNAKE_EPSILON).reciprocal() * torch.sin(self.alpha * x).square()

    def lower(self, program: Program, x: Value, path: str) -> Value:
        return activate(program, x, Activation("snake", self.alpha.detach()))
