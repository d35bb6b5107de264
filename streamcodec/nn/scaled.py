"""A learnt factor for every channel of a layer's output ("layer scale", Touvron et al. 2021)."""

import torch
from torch import Tensor, nn

from ..program import Product, Program, Value
from .conv import Conv1d
from .layer import Layer

__all__ = ["Scaled"]


class Scaled(Layer):
    """``conv(x) * scale``, [B, T, C_in] to [B, T', C]; in steps the factors are part of the convolution's matrix.

    scale: [C]; start: what its values are at first.
    """

    def __init__(self, conv: Conv1d, start: float):
        super().__init__()
        self.conv = conv
        self.scale = nn.Parameter(torch.full((conv.out_channels,), start))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x) * self.scale
        return y

    def lower(self, program: Program, x: Value, path: str) -> Value:
        y, scale = self.conv.lower(program, x, f"{path}conv."), self.scale.detach()
        op = program.ops[y.op]
        assert isinstance(op, Product)
        op.matrix = op.matrix * scale
        op.bias = None if op.bias is None else op.bias * scale
        return y
