"""The convolutions, streamed and whole, against torch.nn.functional on the padded signal."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import cuts
from stacks import CHANNELS, conv, conv_transpose, conv_transposes, convs, network, rows, stream

from streamcodec.errors import ConfigError, NotStreamableError
from streamcodec.nn.conv import Conv1d, ConvTranspose1d
from streamcodec.nn.transducer import Network
from streamcodec.program import Padding
from streamcodec.state import State

pieces = st.lists(st.integers(0, 23), max_size=12)
lengths = st.integers(0, 60)


@settings(max_examples=150)
@given(pair=convs() | conv_transposes(), length=lengths, sizes=pieces, frame=st.integers(1, 3), ahead=st.integers(0, 9))
def test_forward_and_stream_equal_torch(pair, length, sizes, frame, ahead):
    x = rows(2, length, length)
    expected = pair.reference(x)
    whole = pair.layer(x)
    assert whole.shape == expected.shape == (2, network(pair).output_length(length), CHANNELS)
    torch.testing.assert_close(whole, expected, rtol=0, atol=1e-12)
    streamed = stream(network(pair, frame, ahead), x, cuts(length, sizes))
    torch.testing.assert_close(streamed, expected, rtol=0, atol=1e-12)


@given(pair=convs(st.just("constant")) | conv_transposes())
def test_nothing_comes_later_than_it_must(pair):
    """The lag is the least at which an output never needs an input to come: one row less would not do."""
    layer, net = pair.layer, network(pair)
    out = net.out
    last = net.program.last_input(0) if isinstance(layer, Conv1d) else None
    if last is None:
        assert out.lag == layer.trim_left
    else:
        # Output row j comes in the step that brings input rows up to (j + lag + 1) * stride.
        assert last < (out.lag + 1) * layer.stride
        assert out.lag == 0 or last >= out.lag * layer.stride


@given(pair=convs() | conv_transposes())
def test_last_input_is_the_last_row_that_moves_an_output(pair):
    length, index = 80, 10
    x = rows(1, length).requires_grad_()
    y = pair.layer(x)
    (gradient,) = torch.autograd.grad(y[0, index].sum(), x)
    moved = gradient.abs().sum(2)[0].nonzero()[:, 0]
    assert int(moved.max()) == network(pair).program.last_input(index)


def test_weights_go_round_in_torchs_layout():
    conv1d, transposed = Conv1d(2, 3, 5), ConvTranspose1d(2, 3, 7, stride=3)
    for layer, shape in ((conv1d, (3, 2, 5)), (transposed, (2, 3, 7))):
        weight, bias = torch.randn(shape), torch.randn(3)
        layer.set_weight(weight, bias)
        assert torch.equal(layer.torch_weight(), weight)
        assert torch.equal(layer.bias, bias)


def test_transposed_convolution_equals_torchs_padding_and_output_padding():
    """`trim_left` is torch's padding, `trim_right` its padding less its output_padding."""
    for stride, padding, extra in ((2, 1, 0), (5, 3, 0), (5, 3, 1), (4, 1, 3)):
        layer = conv_transpose(2 * stride, stride, padding, padding - extra).layer
        x = rows(1, 9)
        y = F.conv_transpose1d(
            x.transpose(1, 2), layer.torch_weight(), layer.bias, stride, padding, output_padding=extra
        )
        torch.testing.assert_close(layer(x), y.transpose(1, 2), rtol=0, atol=1e-12)


def test_gradients_reach_weights_and_input():
    for pair in (conv(3, 2, 1, Padding(1, 1, "reflect", True)), conv_transpose(4, 2, 1, 1)):
        x = rows(1, 12).requires_grad_()
        pair.layer(x).square().sum().backward()
        for tensor in (x, pair.layer.weight, pair.layer.bias):
            assert tensor.grad is not None
            assert tensor.grad.abs().sum() > 0


def test_impossible_sizes_are_refused():
    with pytest.raises(ConfigError, match=r"extent 2.*stride 3"):
        Conv1d(1, 1, 2, stride=3)
    with pytest.raises(ConfigError, match=r"kernel 2.*stride 3"):
        ConvTranspose1d(1, 1, 2, stride=3)
    with pytest.raises(ConfigError, match=r"trim_right is 3; kernel 4 at stride 2 allows 2"):
        ConvTranspose1d(1, 1, 4, stride=2, trim_right=3)
    with pytest.raises(ConfigError, match="reflect padding on the right alone"):
        Conv1d(1, 1, 3, padding=Padding(0, 2, "reflect"))
    with pytest.raises(NotStreamableError, match="whole segment"):
        Network(Conv1d(1, 1, 3, norm=torch.nn.GroupNorm(1, 1)), 1, 1, 1)


@pytest.mark.parametrize("dilation", [1, 9])
def test_long_steps_of_many_channels_equal_torch(dilation):
    """Steps long enough for oneDNN's convolution, where there is one, after one that is not."""
    layer = Conv1d(64, 64, 7, dilation=dilation, padding=Padding(6 * dilation, 0))
    net = Network(layer, 64, 64, 1)
    x = rows(2, 900)[:, :, :1].float() * torch.randn(64)
    for batch in (1, 2):
        state = State(net.spec, batch)
        y = torch.cat([net.step(x[:batch, :100], state), net.step(x[:batch, 100:], state)], 1)
        torch.testing.assert_close(y, layer(x[:batch]).detach(), rtol=0, atol=1e-4)
