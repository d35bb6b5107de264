"""The LSTM stack against the recurrence written out, and against torch's own."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import cuts
from stacks import lstm, network, rows, stream

from streamcodec.state import State


@given(
    layers=st.integers(0, 3),
    length=st.integers(0, 20),
    sizes=st.lists(st.integers(0, 7), max_size=8),
    frame=st.integers(1, 3),
    ahead=st.integers(0, 2),
    seed=st.integers(0, 99),
)
def test_forward_and_stream_equal_the_recurrence(layers, length, sizes, frame, ahead, seed):
    torch.manual_seed(seed)
    pair = lstm(max(1, layers))
    x = rows(3, length, seed)
    expected = pair.reference(x)
    torch.testing.assert_close(pair.layer(x), expected, rtol=0, atol=1e-12)
    streamed = stream(network(pair, frame, ahead), x, cuts(length, sizes))
    torch.testing.assert_close(streamed, expected, rtol=0, atol=1e-12)


def test_the_recurrence_of_the_reference_is_torchs():
    torch.manual_seed(0)
    pair = lstm(2)
    x = rows(2, 15)
    torch.testing.assert_close(pair.reference(x), x + pair.layer.lstm(x)[0], rtol=0, atol=1e-12)


def test_step_keeps_its_input():
    torch.manual_seed(0)
    net = network(lstm(1))
    x = rows(1, 3)
    before = x.clone()
    net.step(x, State(net.spec, 1))
    assert torch.equal(x, before)
