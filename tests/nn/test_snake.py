"""The Snake activation against its formula."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from streamcodec.nn.snake import Snake, SnakeBeta
from streamcodec.nn.transducer import Network
from streamcodec.state import State


def snake(channels: int, seed: int) -> Snake:
    torch.manual_seed(seed)
    layer = Snake(channels).double()
    with torch.no_grad():
        layer.alpha.copy_(torch.randn(channels))
    return layer


def step(layer: Snake, x: torch.Tensor) -> torch.Tensor:
    net = Network(layer, x.shape[2], x.shape[2], 1)
    assert not net.spec
    return net.step(x, State(net.spec, x.shape[0]))


@given(st.integers(1, 3), st.integers(0, 5), st.integers(1, 4), st.integers(0, 99))
def test_forward_and_step_are_the_formula(batch, rows, channels, seed):
    layer = snake(channels, seed)
    x = torch.randn(batch, rows, channels, dtype=torch.float64)
    before = x.clone()
    expected = x.clone()
    for c, alpha in enumerate(layer.alpha.tolist()):
        expected[:, :, c] += (alpha * x[:, :, c]).sin() ** 2 / (alpha + 1e-9)
    torch.testing.assert_close(layer(x), expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(step(layer, x), expected, rtol=0, atol=1e-12)
    assert torch.equal(x, before)  # the skip of a residual block reads it after this layer


def test_zero_stays_zero_and_an_alpha_of_zero_is_finite():
    layer = snake(3, 0)
    zeros = torch.zeros(1, 2, 3, dtype=torch.float64)
    assert torch.equal(layer(zeros), zeros)
    assert torch.equal(step(layer, zeros), zeros)
    with torch.no_grad():
        layer.alpha.zero_()
    x = torch.randn(1, 2, 3, dtype=torch.float64)
    assert torch.equal(layer(x), x)
    assert torch.equal(step(layer, x), x)


def test_a_step_sees_weights_that_changed_before_its_stream_was_opened():
    layer = snake(2, 1)
    x = torch.randn(1, 4, 2, dtype=torch.float64)
    net = Network(layer, 2, 2, 1)
    net.step(x, State(net.spec, 1))
    with torch.no_grad():
        layer.alpha.mul_(2)
    net.refresh()  # as opening a stream does
    torch.testing.assert_close(net.step(x, State(net.spec, 1)), layer(x).detach(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("wanted", ["x", "alpha"])
def test_gradients_are_those_of_the_formula(wanted):
    layer = snake(2, 3)
    x = torch.randn(1, 4, 2, dtype=torch.float64, requires_grad=True)
    alpha = layer.alpha.detach()
    layer(x).sum().backward()
    if wanted == "x":  # 1 + sin(2 alpha x), but for the guard
        torch.testing.assert_close(x.grad, 1 + (2 * alpha * x.detach()).sin(), rtol=0, atol=1e-6)
    else:
        v = x.detach()
        slope = v * (2 * alpha * v).sin() / alpha - (alpha * v).sin() ** 2 / alpha**2
        torch.testing.assert_close(layer.alpha.grad, slope.sum((0, 1)), rtol=0, atol=1e-6)


@given(st.integers(1, 3), st.integers(0, 5), st.integers(0, 99))
def test_frequency_and_size_apart(batch, rows, seed):
    torch.manual_seed(seed)
    layer = SnakeBeta(2).double()
    with torch.no_grad():
        layer.alpha.copy_(torch.randn(2))
        layer.beta.copy_(torch.randn(2))
    x = torch.randn(batch, rows, 2, dtype=torch.float64)
    expected = x.clone()
    for c, (alpha, beta) in enumerate(zip(layer.alpha.exp().tolist(), layer.beta.exp().tolist(), strict=True)):
        expected[:, :, c] += (alpha * x[:, :, c]).sin() ** 2 / (beta + 1e-9)
    torch.testing.assert_close(layer(x), expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(step(layer, x), expected, rtol=0, atol=1e-12)
