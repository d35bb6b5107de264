"""Residual connections around branches that lag."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import cuts
from stacks import conv, network, residual, residuals, rows, sequence, stream

from streamcodec.nn.conv import Conv1d
from streamcodec.nn.layer import Sequential
from streamcodec.nn.padding import encodec_padding
from streamcodec.nn.residual import Residual
from streamcodec.nn.transducer import Network
from streamcodec.program import Padding, Product


@given(
    pair=residuals(),
    length=st.integers(0, 40),
    sizes=st.lists(st.integers(0, 11), max_size=10),
    frame=st.integers(1, 3),
    ahead=st.integers(0, 2),
)
def test_forward_and_stream_equal_the_sum(pair, length, sizes, frame, ahead):
    x = rows(2, length, length)
    expected = pair.reference(x)
    torch.testing.assert_close(pair.layer(x), expected, rtol=0, atol=1e-12)
    streamed = stream(network(pair, frame, ahead), x, cuts(length, sizes))
    torch.testing.assert_close(streamed, expected, rtol=0, atol=1e-12)


def test_the_skip_waits_for_the_branch_and_no_longer():
    branch = sequence([conv(7, 1, 3, Padding(9, 9)), conv(3, 1, 1, Padding(1, 1))])
    net = Network(residual(branch, None).layer, 3, 3, 5, look_ahead=1)
    assert net.at.lag == 4
    assert net.out.lag == 4 + 9 + 1
    assert {leaf.shape for name, leaf in net.spec.items() if "delay" in name} == {(10, 3)}
    causal = Network(residual(sequence([conv(7, 1, 3, Padding(18, 0))]), None).layer, 3, 3, 5, look_ahead=1)
    assert causal.out.lag == 4
    assert not any("delay" in name for name in causal.spec)


@pytest.mark.parametrize("mode", ["constant", "reflect", "replicate"])
def test_branch_and_shortcut_end_in_one_product(mode):
    """However a convolution of single rows would pad, it adds no row."""

    def layer(kernel: int) -> Conv1d:
        return Conv1d(3, 3, kernel, padding=encodec_padding(kernel, 1, 1, causal=True, mode=mode))

    branch = Sequential([layer(3), layer(1)])
    program = Network(Residual(branch, layer(1)), 3, 3, 1).program
    assert [type(op) for op in program.ops[1:]] == [Product, Product]
    assert len(program.ops[-1].windows) == 2
