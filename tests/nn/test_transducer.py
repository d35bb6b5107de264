"""Random stacks of layers, streamed in every way, against plain torch: the promise of the package in small."""

import itertools
import math
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import cuts
from stacks import (
    CHANNELS,
    Pair,
    Row,
    conv,
    conv_transpose,
    elu,
    network,
    residual,
    rows,
    sequence,
    stacks,
    step_together,
    stream,
)
from torch import Tensor

from streamcodec import state as states
from streamcodec.nn.transducer import Network, Transducer
from streamcodec.program import Padding
from streamcodec.state import State

pieces = st.lists(st.integers(0, 40), max_size=15)


@settings(max_examples=60)
@given(
    pair=stacks(),
    length=st.integers(0, 90),
    sizes=pieces,
    frame=st.integers(1, 3),
    ahead=st.integers(0, 20),
    max_frames=st.integers(1, 5),
)
def test_any_partition_equals_plain_torch(pair, length, sizes, frame, ahead, max_frames):
    x = rows(2, length, length)
    expected = pair.reference(x)
    with torch.no_grad():
        torch.testing.assert_close(pair.layer(x), expected, rtol=0, atol=1e-9)
    assert expected.shape[1] == network(pair).output_length(length)
    streamed = stream(network(pair, frame, ahead), x, cuts(length, sizes), max_frames)
    torch.testing.assert_close(streamed, expected, rtol=0, atol=1e-9)


@settings(max_examples=40)
@given(
    pair=stacks(),
    lengths=st.lists(st.integers(0, 60), min_size=1, max_size=4),
    frame=st.integers(1, 2),
    ahead=st.integers(0, 7),
    known=st.booleans(),
    data=st.data(),
)
def test_rows_at_different_places_share_a_step(pair, lengths, frame, ahead, known, data):
    """What an engine does: any of the streams, each at its own position, some ending, in one batch. Spare rows are
    NaN."""
    net = network(pair, frame, ahead)
    streams = [Row(net, rows(1, length, length), known) for length in lengths]
    state = State(net.spec, len(streams))
    while not all(row.done for row in streams):
        waiting = [slot for slot, row in enumerate(streams) if not row.done]
        slots = data.draw(st.lists(st.sampled_from(waiting), unique=True, min_size=1), label="slots")
        before = state.clone()
        with torch.no_grad():
            frames = data.draw(st.integers(1, 3), label="frames")
            if any(streams[slot].frames == 0 for slot in slots):
                frames = max(frames, net.prefill_frames)
            step_together(net, [streams[slot] for slot in slots], state, slots, frames)
        idle = [slot for slot in range(len(streams)) if slot not in slots]
        assert_same_bits(state.select(idle), before.select(idle))
    for length, row in zip(lengths, streams, strict=True):
        expected = pair.reference(rows(1, length, length))
        torch.testing.assert_close(row.result(), expected, rtol=0, atol=1e-9)


def assert_same_bits(one: State, other: State) -> None:
    assert torch.equal(one.bytes, other.bytes)


@settings(max_examples=40)
@given(pair=stacks(), length=st.integers(0, 60), cut=st.integers(0, 60), sizes=pieces, frame=st.integers(1, 2))
def test_a_state_copied_in_mid_stream_continues_to_the_bit(pair, length, cut, sizes, frame):
    net = network(pair, frame)
    x, cut = rows(2, length, length), min(cut, length)
    one = Transducer(net, 2, x.device, x.dtype, 4)
    one.push(x[:, :cut])
    other = Transducer(net, 2, x.device, x.dtype, 4)
    other.pending, other.progress, other.skip = one.pending.clone(), one.progress, one.skip
    other.state = State.load(net.spec, one.state.clone().save(), 2)
    rest = [(start + cut, stop + cut) for start, stop in cuts(length - cut, sizes)]
    for start, stop in rest:  # in turns, so that memory shared by mistake would show
        assert torch.equal(one.push(x[:, start:stop]), other.push(x[:, start:stop]))
    assert torch.equal(one.flush(), other.flush())


@settings(max_examples=30)
@given(pair=stacks(), length=st.integers(1, 40), frame=st.integers(1, 2))
def test_a_slot_that_was_reset_has_no_memory(pair, length, frame):
    """A stream in a slot that another one left, full of NaN, equals its first run to the bit."""
    net = network(pair, frame)
    initial = State(net.spec, 1)
    fresh = State(net.spec, 2)
    used = State(net.spec, 2)
    for tensor in used.tensors:
        tensor.fill_(math.nan if tensor.is_floating_point() else 1 << 40)
    used.assign([0, 1], initial)
    assert_same_bits(used, fresh)
    results = []
    for state in (fresh, used):
        row = Row(net, rows(1, length), True)
        while not row.done:
            step_together(net, [row], state, [1], 1 if row.frames else max(1, net.prefill_frames))
        results.append(row.result())
    assert torch.equal(*results)


@settings(max_examples=30)
@given(pair=stacks(), frame=st.integers(1, 2), sizes=pieces)
def test_nbytes_is_what_a_running_stream_holds(pair, frame, sizes):
    """Storages are counted whole, so that a view of something larger shows."""
    net = network(pair, frame)
    x = rows(3, 150)
    transducer = Transducer(net, 3, x.device, x.dtype, 5)
    for start, stop in cuts(150, sizes):
        transducer.push(x[:, start:stop])
    expected = states.nbytes(net.spec)
    assert storage_bytes(transducer.state) == 3 * expected
    assert transducer.pending.untyped_storage().nbytes() <= 3 * net.at.rate * CHANNELS * 8


def storage_bytes(state: State) -> int:
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage() for t in (*state.tensors, state.bytes)}
    return sum(storage.nbytes() for storage in storages.values())


@settings(max_examples=30)
@given(pair=stacks(), length=st.integers(0, 60), sizes=pieces)
def test_the_callers_tensor_is_neither_changed_nor_kept(pair, length, sizes):
    net = network(pair)
    x = rows(1, length)
    expected = stream(net, x, cuts(length, sizes))
    transducer = Transducer(net, 1, x.device, x.dtype, 4)
    outputs = []
    for start, stop in cuts(length, sizes):
        piece = x[:, start:stop].clone()
        outputs.append(transducer.push(piece))
        assert torch.equal(piece, x[:, start:stop])
        piece.fill_(math.nan)
    outputs.append(transducer.flush())
    assert torch.equal(torch.cat(outputs, 1), expected)


@settings(max_examples=30)
@given(pair=stacks(), sizes=pieces, max_frames=st.integers(1, 5), data=st.data())
def test_a_push_that_fails_leaves_the_stream_as_it_was(pair, sizes, max_frames, data):
    """However many of its steps ran; and so does a flush."""
    net = network(pair)
    x, before = rows(2, 90), net.step
    expected = stream(net, x, cuts(90, sizes), max_frames)
    transducer, outputs = Transducer(net, 2, x.device, x.dtype, max_frames), []

    def failing(*arguments: Any) -> Tensor:
        if not left.pop():
            raise MemoryError("no memory")
        return before(*arguments)

    calls = [partial(transducer.push, x[:, start:stop]) for start, stop in cuts(90, sizes)] + [transducer.flush]
    for call in calls:
        left, net.step = [True] * 99 + [False] + [True] * data.draw(st.integers(0, 3)), failing
        try:
            outputs.append(call())
        except MemoryError:
            net.step = before
            outputs.append(call())
        net.step = before
    assert torch.equal(torch.cat(outputs, 1), expected)


# -- known minimum delays ------------------------------------------------------------------------------------------


def dac_unit(dilation: int) -> Pair:
    return residual(sequence([elu(), dac_conv(7, dilation), elu(), conv(1, 1, 1, Padding())]), None)


def dac_conv(kernel: int, dilation: int = 1) -> Pair:
    half = (kernel - 1) * dilation // 2
    return conv(kernel, 1, dilation, Padding(half, half))


def dac_encoder(strides: list[int]) -> Pair:
    """The convolutions of DAC's encoder (Kumar et al. 2023): zeros at both ends, lengths rounded down."""
    parts = [dac_conv(7)]
    for stride in strides:
        half = -(-stride // 2)
        parts += [*map(dac_unit, (1, 3, 9)), elu(), conv(2 * stride, stride, 1, Padding(half, half))]
    return sequence([*parts, elu(), dac_conv(3)])


def dac_decoder(strides: list[int]) -> Pair:
    parts = [dac_conv(7)]
    for stride in strides:
        half = -(-stride // 2)
        parts += [elu(), conv_transpose(2 * stride, stride, half, half), *map(dac_unit, (1, 3, 9))]
    return sequence([*parts, elu(), dac_conv(7)])


@pytest.mark.parametrize(
    ("strides", "encoder_delay", "decoder_delay"), [([2, 4, 8, 8], 3733, 4757), ([2, 4, 5, 8], 2493, 3141)]
)
def test_dac_has_the_least_delay(strides, encoder_delay, decoder_delay):
    """Known from NaN propagation through the published models."""
    hop = math.prod(strides)
    encoder, decoder = dac_encoder(strides).layer, dac_decoder(strides[::-1]).layer
    look_ahead = Network(encoder, CHANNELS, CHANNELS, hop).look_ahead
    assert look_ahead == encoder_delay
    assert Network(encoder, CHANNELS, CHANNELS, hop, look_ahead).delay == -(-encoder_delay // hop)
    assert Network(decoder, CHANNELS, CHANNELS, 1).delay == decoder_delay


@pytest.mark.parametrize("length", [0, 1, 5, 100, 2561, 2879, 6000])
def test_dac_like_stacks_stream_as_they_run_offline(length):
    torch.manual_seed(0)
    encoder, decoder = dac_encoder([2, 5, 8]), dac_decoder([8, 5, 2])
    x = rows(1, length)
    net = Network(encoder.layer, CHANNELS, CHANNELS, 80)
    latents = encoder.reference(x)
    torch.testing.assert_close(stream(net, x, cuts(length, [700, 1, 79, 81])), latents, rtol=0, atol=1e-9)
    net = Network(decoder.layer, CHANNELS, CHANNELS, 1)
    pieces = cuts(latents.shape[1], [1, 0, 7, 2])
    torch.testing.assert_close(stream(net, latents, pieces), decoder.reference(latents), rtol=0, atol=1e-9)


@settings(max_examples=40)
@given(pair=stacks(), frame=st.integers(1, 3))
def test_output_comes_as_soon_as_the_delay_says(pair, frame):
    """Once prefill is over, m frames in give exactly `out.rows(m)` rows out, and a network's delay is no rounding too
    long."""
    net = network(pair, frame)
    x = rows(1, net.at.rate * 40)
    transducer = Transducer(net, 1, x.device, x.dtype, 4)
    emitted = 0
    for frames, start in zip(itertools.count(1), range(0, x.shape[1], net.at.rate), strict=False):
        emitted += transducer.push(x[:, start : start + net.at.rate]).shape[1]
        if frames >= net.prefill_frames:
            assert emitted == max(0, net.out.rows(frames))
        else:
            assert emitted == 0
