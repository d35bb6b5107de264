"""Layers of a user's own, and what a step costs."""

import sys
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import torch
from oracles import cuts
from stacks import CHANNELS, conv, rows, stream
from torch import Tensor, nn

import streamcodec
from streamcodec.errors import NotStreamableError
from streamcodec.nn.layer import Elementwise, Layer, Sequential
from streamcodec.nn.transducer import Network
from streamcodec.program import Padding


class Mixing(Layer):
    """A map of single rows to rows of more channels, of which only torch knows."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(CHANNELS, 2 * CHANNELS).double())

    def forward(self, x: Tensor) -> Tensor:
        return (x @ self.weight).tanh()


class Folding(Layer):
    """Every second row, for which there is no rule."""

    def forward(self, x: Tensor) -> Tensor:
        return x[:, ::2]


def test_a_layer_of_single_rows_needs_forward_alone():
    torch.manual_seed(0)
    before, after = conv(3, 1, 1, Padding(1, 1)).layer, conv(3, 2, 1, Padding(2, 0), channels=6).layer
    layer = Sequential([before, Elementwise("elu"), Mixing(), after])
    net = Network(layer, CHANNELS, after.out_channels, 2)
    x = rows(2, 60)
    streamed = stream(net, x, cuts(60, [7, 1, 30]))
    torch.testing.assert_close(streamed, layer(x).detach(), rtol=0, atol=1e-12)
    assert [type(op).__name__ for op in net.program.ops] == ["Input", "Product", "Rows", "Product"]


def test_two_activations_in_a_row_are_both_applied():
    first = conv(1, 1, 1, Padding()).layer
    layer = Sequential([first, Elementwise("elu"), Elementwise("tanh")])
    x = rows(1, 20)
    streamed = stream(Network(layer, CHANNELS, CHANNELS, 1), x, cuts(20, [3]))
    torch.testing.assert_close(streamed, layer(x).detach(), rtol=0, atol=1e-12)


def test_a_layer_without_a_rule_is_refused_by_name():
    with pytest.raises(NotStreamableError, match=r"Folding does not say what it does in a step; write its `lower`"):
        Network(Folding(), CHANNELS, CHANNELS, 2)


def test_a_one_frame_push_makes_few_calls():
    """Each costs a live loop more than the arithmetic of a small layer; layers that ran themselves made 255."""
    codec = streamcodec.load()
    encoder, decoder = codec.open_encoder(), codec.open_decoder()
    audio = torch.zeros(1, 1, codec.spec.hop_length)
    codes = encoder.push(audio)
    decoder.push(codes)
    assert calls(encoder.push, audio) < 80
    assert calls(decoder.push, codes) < 80


def calls(function: Any, *arguments: Any) -> int:
    """Python calls inside the package."""
    counts: Counter[str] = Counter()
    package = str(Path(streamcodec.__file__).parent)

    def profile(frame: FrameType, event: str, _: Any) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(package):
            counts[frame.f_code.co_name] += 1

    sys.setprofile(profile)
    try:
        function(*arguments)
    finally:
        sys.setprofile(None)
    return counts.total()
