"""Layers whose weights are whole numbers of 8 bits times a scale for each output, and such as are to be rounded."""

import torch
from torch import Tensor

from streamcodec.nn.conv import Conv1d, ConvTranspose1d
from streamcodec.nn.layer import Elementwise, Sequential
from streamcodec.nn.lstm import LSTM
from streamcodec.nn.scaled import Scaled
from streamcodec.nn.transducer import Network
from streamcodec.program import Padding

__all__ = ["network", "scales", "unrounded", "whole_numbers"]

CHANNELS, WIDE = 3, 37


def whole_numbers(*shape: int) -> Tensor:
    """Some of them the largest in each column."""
    numbers = torch.randint(-127, 128, shape).float()
    numbers[0] = 127 - 254 * torch.randint(2, shape[1:])
    return numbers


def scales(count: int) -> Tensor:
    return (torch.rand(count) / 100 + 1e-3).half().float()


def in_int8(layer: Conv1d) -> Conv1d:
    """The same, its weights in int8 with a float16 scale for each output."""
    with torch.no_grad():
        layer.weight.copy_(whole_numbers(*layer.weight.shape) * scales(layer.out_channels))
    return layer


def lstm_in_int8(channels: int) -> LSTM:
    layer = LSTM(channels, 1)
    with torch.no_grad():
        for weight in layer.lstm.all_weights[0][:2]:
            weight.copy_(whole_numbers(*weight.mT.shape).mT * scales(4 * channels)[:, None])
    return layer


def network() -> Network:
    """Of rows as wide as some panels and a part of one, of strided windows, with factors of both signs, and an LSTM."""
    torch.manual_seed(3)
    last = Scaled(in_int8(Conv1d(WIDE, 5 * WIDE, 1)), 1.0)
    with torch.no_grad():
        last.scale.copy_(torch.randn(5 * WIDE).half())
    layers = [in_int8(Conv1d(CHANNELS, WIDE, 6, stride=2, padding=Padding(4))), lstm_in_int8(WIDE), last]
    return Network(Sequential(layers), CHANNELS, 5 * WIDE, 2, backend="native")


def unrounded() -> Network:
    """Of windows longer than what has a scale of its own, in one stretch or several, and an LSTM; then a last layer at
    a higher rate.
    """
    torch.manual_seed(4)
    layers = [
        Conv1d(CHANNELS, WIDE, 6, stride=2, padding=Padding(4)),
        Elementwise("elu"),
        Conv1d(WIDE, 3 * WIDE, 5, dilation=2, padding=Padding(8)),
        LSTM(3 * WIDE, 2),
        ConvTranspose1d(3 * WIDE, WIDE, 32, stride=16, trim_right=16),
        Conv1d(WIDE, 2, 3, padding=Padding(2)),
    ]
    return Network(Sequential(layers), CHANNELS, 2, 2, backend="native")
