"""Layers whose weights are whole numbers of 8 bits times a scale for each output."""

import torch
from torch import Tensor

from streamcodec.nn.conv import Conv1d
from streamcodec.nn.layer import Sequential
from streamcodec.nn.scaled import Scaled
from streamcodec.nn.transducer import Network
from streamcodec.program import Padding

__all__ = ["network", "whole_numbers"]

CHANNELS, WIDE = 3, 37


def whole_numbers(*shape: int) -> Tensor:
    """Some of them the largest in each column."""
    numbers = torch.randint(-127, 128, shape).float()
    numbers[0] = 127 - 254 * torch.randint(2, shape[1:])
    return numbers


def rounded(layer: Conv1d) -> Conv1d:
    """The same, its weights in int8 with a float16 scale for each output."""
    scales = (torch.rand(layer.out_channels) / 100 + 1e-3).half().float()
    with torch.no_grad():
        layer.weight.copy_(whole_numbers(*layer.weight.shape[:-1], layer.out_channels) * scales)
    return layer


def network() -> Network:
    """Of rows as wide as some panels and a part of one, of strided windows, and with factors of both signs."""
    torch.manual_seed(3)
    last = Scaled(rounded(Conv1d(WIDE, 5 * WIDE, 1)), 1.0)
    with torch.no_grad():
        last.scale.copy_(torch.randn(5 * WIDE).half())
    layers = [rounded(Conv1d(CHANNELS, WIDE, 6, stride=2, padding=Padding(4))), last]
    return Network(Sequential(layers), CHANNELS, 5 * WIDE, 2, backend="native")
