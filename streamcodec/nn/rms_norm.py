"""Normalisation of single rows by their root mean square (Zhang & Sennrich 2019)."""

import torch
from torch import Tensor, nn

from ..program import Normalise, Program, Value
from .layer import Layer

__all__ = ["RMSNorm"]


class RMSNorm(Layer):
    """``x / sqrt(mean(x^2) + epsilon) * weight`` of each row, [B, T, C] to the same shape. weight: [C], 1 at first."""

    def __init__(self, channels: int, epsilon: float = 1e-6):
        super().__init__()
        self.epsilon = epsilon
        self.weight = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.epsilon) * self.weight

    def lower(self, program: Program, x: Value, path: str) -> Value:
        op = Normalise(program.buffer(x), self.weight.detach(), self.epsilon)
        return program.emit(op, x.channels, x.at, x.length)
