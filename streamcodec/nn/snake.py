"""Snake, the periodic activation of DAC (Ziyin et al. 2020, "Neural Networks Fail to Learn Periodic Functions")."""

import torch
from torch import Tensor, nn

from .. import ops
from ..state import State
from .layer import Edges, Layer

__all__ = ["Snake"]

# The guard against an alpha of 0 in the reference code of DAC (Kumar et al. 2023).
EPSILON = 1e-9


class Snake(Layer):
    """``x + sin(alpha x)^2 / (alpha + 1e-9)``, [B, T, C] to [B, T, C]; memoryless, zero to zero.

    alpha: [C], the frequency of each channel.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(channels))
        self._kept: Tensor | None = None

    def refresh(self) -> None:
        self._kept = None

    def forward(self, x: Tensor) -> Tensor:
        return x + self._inverse() * torch.sin(self.alpha * x).square()

    def step(self, x: Tensor, state: State, edges: Edges | None = None) -> tuple[Tensor, State]:
        with torch.no_grad():
            if self._kept is None:
                self._kept = self._inverse()
            # In place on the product alone: a residual's skip still needs x.
            wave = ops.sin_(self.alpha * x).square_()
            return torch.addcmul(x, wave, self._kept, out=wave), state

    def _inverse(self) -> Tensor:
        return (self.alpha + EPSILON).reciprocal()
