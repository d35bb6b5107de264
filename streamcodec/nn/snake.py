"""Snake, the periodic activation of DAC (Ziyin et al. 2020, "Neural Networks Fail to Learn Periodic Functions")."""

import torch
from torch import Tensor, nn

from ..program import Activation, Program, Value
from .layer import Layer, activate

__all__ = ["Snake", "SnakeBeta"]

EPSILON = 1e-9  # the guard against a divisor of 0 in the reference codes


class Snake(Layer):
    """``x + sin(alpha x)^2 / (alpha + 1e-9)``, [B, T, C] to [B, T, C]; memoryless, zero to zero.

    alpha: [C], the frequency of each channel.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(channels))

    def factors(self) -> tuple[Tensor, Tensor]:
        """Of each channel, [C]: the frequency, and what the squared sine is multiplied by."""
        return self.alpha, (self.alpha + EPSILON).reciprocal()

    def forward(self, x: Tensor) -> Tensor:
        frequency, gain = self.factors()
        return x + gain * torch.sin(frequency * x).square()

    @torch.no_grad()
    def lower(self, program: Program, x: Value, path: str) -> Value:
        return activate(program, x, Activation("snake", *(factor.detach() for factor in self.factors())))


class SnakeBeta(Snake):
    """``x + sin(exp(alpha) x)^2 / (exp(beta) + 1e-9)``: frequency and size apart (Lee et al. 2023, "BigVGAN").

    alpha, beta: [C], logarithms, 0 at first.
    """

    def __init__(self, channels: int):
        super().__init__(channels)
        self.alpha = nn.Parameter(torch.zeros(channels))
        self.beta = nn.Parameter(torch.zeros(channels))

    def factors(self) -> tuple[Tensor, Tensor]:
        return self.alpha.exp(), (self.beta.exp() + EPSILON).reciprocal()
