"""Lapped transforms with fixed weights: audio to the cosines and sines of its frames, and cosines back to audio.

The modulated complex lapped transform (Malvar 1999): a sine window over two hops, and `hop` cosines and `hop` sines of
it. Its cosines are the MDCT (Princen, Johnson & Bradley 1987): windowed again and overlapped, they give the audio back.
The weights follow from the hop alone. They are buffers that no file holds and no training moves.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ..program import LappedProduct, Op, Padding, Window
from .conv import Conv1d, ConvTranspose1d

__all__ = ["LappedTransform", "OverlapAdd"]


def _basis(hop: int, wave: Callable[[Tensor], Tensor]) -> Tensor:
    """The cosines or sines (`wave`, in place) of all bins under the window, [hop, 2 * hop], the cosines an orthonormal
    lapped basis. Computed in float64.
    """
    numbers = torch.arange(2 * hop, dtype=torch.float64, device="cpu")  # also while weights are made without values
    time, bins = numbers + 0.5, numbers[:hop] + 0.5
    window = torch.sin(math.pi / (2 * hop) * time) * math.sqrt(2 / hop)
    phase = math.pi / hop * bins[:, None] * (time + hop / 2)
    return wave(phase).mul_(window).to(torch.get_default_dtype())


def _fix(layer: Conv1d | ConvTranspose1d, weight: Tensor) -> None:
    """Give a convolution `weight`, in torch's layout, as a constant."""
    values = layer.from_torch(weight).contiguous()
    del layer.weight
    layer.register_buffer("weight", values, persistent=False)


class LappedTransform(Conv1d):
    """Audio [B, N, 1] to [B, floor(N / hop), 2 * hop], cosines and then sines.

    Frame t covers the samples from (t - 1) * hop to (t + 1) * hop: zeros before the signal, and nothing after it.
    """

    def __init__(self, hop: int):
        super().__init__(1, 2 * hop, 2 * hop, stride=hop, padding=Padding(hop), bias=False)
        _fix(self, torch.cat([_basis(hop, torch.cos_), _basis(hop, torch.sin_)])[:, None])

    def _operation(self, window: Window) -> Op:
        return LappedProduct((window,), self.weight.flatten(0, 1), None)


class OverlapAdd(ConvTranspose1d):
    """Cosines [B, T, hop] to audio [B, (T - 1) * hop, 1]: where two frames overlap, and so a frame late."""

    def __init__(self, hop: int):
        super().__init__(hop, 1, 2 * hop, stride=hop, trim_left=hop, trim_right=hop, bias=False)
        _fix(self, _basis(hop, torch.cos_)[:, None])

    def _operation(self, window: Window) -> Op:
        return LappedProduct((window,), *self._matrix_parts(), spread=self.stride, back=True)
