"""Weights that are whole numbers of 8 bits times a scale: read as such with the same bits as floats, or rounded to them
where a decoder's precision is int8.
"""

import copy
import dataclasses

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from int8_layers import network, unrounded, whole_numbers
from oracles import cuts
from sets import HERE, compiled, each_set, on
from stacks import rows, stream
from streamcodec_kernels.native import library
from torch import Tensor

import streamcodec
from streamcodec import native_executor, native_int8, native_weights
from streamcodec.bench.presets import PRESETS
from streamcodec.bench.random_weights import make
from streamcodec.bench.work import work_of
from streamcodec.native_executor import NativeExecutor
from streamcodec.native_int8 import SCALED, in_int8, is_rounded, rounded
from streamcodec.program import LSTMCell, Program
from streamcodec.state import State


@given(seed=st.integers(0, 1000), negative=st.booleans(), size=st.sampled_from([1e-30, 1e-3, 1.0, 1e30]))
def test_scales_are_found_that_give_the_very_weights(seed, negative, size):
    torch.manual_seed(seed)
    numbers, scales = whole_numbers(20, 9), torch.randn(9) * size * (torch.rand(9) + 0.1)
    numbers[:, 4] = 0
    matrix = numbers * (-scales.abs() if negative else scales.abs())
    found = in_int8(matrix)
    assert found is not None
    again = found[0] * found[1]
    assert torch.equal(again.view(torch.int32), matrix.view(torch.int32))


@pytest.mark.parametrize("row", range(4))
@pytest.mark.parametrize("value", [1.0000001, float("nan"), float("inf"), 1e-40, -0.0])
def test_a_matrix_with_one_other_value_has_no_scales(value, row):
    """Not even a zero of the other sign, nor scales so small that the library takes them for 0."""
    matrix = torch.tensor([[127.0, 127.0], [5.0, 1.0], [0.0, -3.0], [0.0, 9.0]])
    assert in_int8(matrix) is not None
    matrix[row, 0] = value
    assert in_int8(matrix.repeat(1, 5)) is None
    assert in_int8(torch.full((4, 4), 127.0) * 1e-39) is None


@each_set
def test_steps_of_few_rows_read_int8_and_have_the_bits_of_floats(name, monkeypatch):
    x = rows(3, 40).float()
    with on(name):
        net = network()
        assert all(in_int8(matrix) is not None for op in net.program.ops for matrix in native_weights.matrices(op))
        sizes = cuts(40, [1, 2, 3, 4, 5, 6, 7, 8])
        cut, alone = stream(net, x, sizes, 3), stream(net, x[1:2], sizes, 6)
        whole = stream(net, x, [(0, 40)], 1000)
        monkeypatch.setattr(native_weights, "in_int8", lambda matrix: None)
        floats = stream(network(), x, [(0, 40)], 1000)
        exact = not library.chosen().tiles  # there products are in whole numbers
    if exact:
        assert torch.equal(whole.view(torch.int32), floats.view(torch.int32))
    torch.testing.assert_close(whole, floats, rtol=0, atol=3e-6 * float(floats.abs().max()))
    for found, expected in ((cut, whole), (alone, whole[1:2])):
        assert torch.equal(found.view(torch.int32), expected.view(torch.int32))


@each_set
def test_panels_of_floats_are_made_when_a_step_of_more_rows_asks(name):
    with on(name):
        net, x = network(), rows(1, 400).float()
        for size in (1, 100):
            net.step(x[:, : size * net.at.rate], State(net.spec, 1))
            has_both = library.chosen().int8 > 0 and not library.chosen().tiles
            assert net.executor.floats.are_made == (size > 1 and has_both)


@each_set
def test_the_numbers_are_what_steps_of_few_rows_read(name):
    """Other numbers in int8 change these steps, and longer ones where they have no floats."""
    x = rows(1, 400).float()
    with on(name):
        net, other = network(), network()
        parts = [part for op in other.executor.weights for part in op]
        for of in (part[kind] for part in parts for kind in ("int8_weights", "int8_tiles") if kind in part):
            of[len(of) // 2 :].zero_()
        long = torch.equal(stream(net, x, [(0, 400)], 1000), stream(other, x, [(0, 400)], 1000))
        few = torch.equal(stream(net, x, [(0, 40)], 1), stream(other, x, [(0, 40)], 1))
        assert long != library.chosen().tiles
        assert few == (library.chosen().int8 == 0)


@compiled
def test_the_bundled_codec_is_read_in_int8_and_its_codes_and_audio_are_the_same(monkeypatch):
    with on(HERE[0]):
        codec = streamcodec.load(backend="native")
        wav, hop = 0.1 * rows(1, 9 * codec.spec.hop_length).float().mT[:, :1], codec.spec.hop_length

        def streamed(step: int) -> tuple[Tensor, Tensor]:
            encoder, decoder = codec.open_encoder(), codec.open_decoder()
            codes = [encoder.push(part) for part in wav.split(step * hop, -1)]
            codes.append(encoder.flush())
            data = torch.cat([each.data for each in codes], 2)
            return data, torch.cat([*(decoder.push(each) for each in codes), decoder.flush()], 2)

        found = streamed(1)
        longer = streamed(9)
        many = work_of(codec, 6.0, frames=100)["decode"].weights
        few = work_of(codec, 6.0, frames=1)["decode"].weights
        assert many == few if library.chosen().tiles else library.chosen().int8 == 0 or few < many / 3
    for one, other in zip(found, longer, strict=True):
        assert torch.equal(one, other)


# -- rounded ---------------------------------------------------------------------------------------------------------


@given(seed=st.integers(0, 1000), height=st.integers(9, 200), size=st.sampled_from([1e-40, 1e-30, 1.0, 1e30]))
def test_no_weight_is_rounded_by_more_than_half_a_127th_of_the_largest_beside_it(seed, height, size):
    torch.manual_seed(seed)
    matrix = torch.randn(height, 5) * size
    found = rounded(matrix)
    assert int(found.numbers.abs().max()) <= 127
    near = found.scales.repeat_interleave(SCALED, 0)[:height]
    assert torch.equal(found.matrix, found.numbers * near)
    assert bool(((found.matrix - matrix).abs() <= 0.501 * near).all())
    for part, scale in zip(matrix.split(SCALED), found.scales, strict=True):
        assert torch.equal(scale, (part.abs().amax(0) / 127).clamp_min(torch.finfo(torch.float32).tiny))


def test_a_matrix_in_int8_is_rounded_to_itself():
    torch.manual_seed(0)
    matrix = whole_numbers(3 * SCALED, 9) * torch.rand(9)
    assert torch.equal(rounded(matrix).matrix, matrix)


@pytest.fixture
def every_size(monkeypatch):
    """Small matrices are rounded too."""
    monkeypatch.setattr(native_int8, "FEWEST", 0)


def with_rounded(program: Program) -> Program:
    """The same in float32, with the weights that it has in int8."""
    other, ops = copy.copy(program), []
    for op, value in zip(program.ops, program.values, strict=True):
        if is_rounded(op, value) and isinstance(op, LSTMCell):
            inputs, recurrent = (rounded(weight.t()).matrix.t().contiguous() for weight in op.weights[:2])
            op = dataclasses.replace(op, weights=(inputs, recurrent, *op.weights[2:]))
        elif is_rounded(op, value):
            op = dataclasses.replace(op, matrix=rounded(op.matrix).matrix)
        ops.append(op)
    other.ops = ops
    return other


def decibels(y: Tensor, exact: Tensor) -> float:
    return float(10 * torch.log10(exact.square().mean() / (y - exact).square().mean()))


@each_set
@pytest.mark.parametrize("threads", [1, 3])
def test_a_rounded_network_has_the_bits_of_its_floats_for_any_partition_batch_and_threads(
    name, threads, every_size, monkeypatch
):
    monkeypatch.setattr(native_executor, "SHARED_WORK", 0)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    x = rows(3, 60).float()
    with on(name):
        net, floats = unrounded(), unrounded()
        net.use("native", "int8")
        exact = stream(floats, x, [(0, 60)], 1000)
        floats._executor = NativeExecutor(with_rounded(floats.program))
        expected = stream(floats, x, [(0, 60)], 1000)
        whole = stream(net, x, [(0, 60)], 1000)
        cut, alone = stream(net, x, cuts(60, [2, 4, 6, 14, 8]), 7), stream(net, x[1:2], cuts(60, [2, 10]), 1)
        packed = net.executor.weights
    tiles = library.instruction_sets()[name].tiles
    assert tiles or torch.equal(whole, expected)
    assert torch.equal(whole, expected) or decibels(whole, expected) > 110
    assert torch.equal(cut, whole)
    assert torch.equal(alone, whole[1:2])
    assert 30 < decibels(whole, exact) < 70
    if library.instruction_sets()[name].int8:  # then there are no floats beside the numbers
        kept = ["bias", "int8_tiles", "recurrent_tiles"] if tiles else ["bias", "int8_recurrent", "int8_weights"]
        lstm = "recurrent_tiles" if tiles else "int8_recurrent"
        assert [sorted(part) for op in packed for part in op if lstm in part] == 2 * [kept]


@compiled
def test_large_matrices_at_about_the_frame_rate_are_rounded_and_those_near_the_waveform_are_not():
    decoder = make(PRESETS["encodec_24khz"]).on("native", "int8").framing.networks[1]
    program = decoder.program
    rates = [
        (value.at.rate // op.spread, op.multiply_adds)
        for op, value in zip(program.ops, program.values, strict=True)
        if is_rounded(op, value)
    ]
    assert [rate for rate, _ in rates] == [1, 1, 1, 1, 8]
    assert sum(count for _, count in rates) > 0.95 * sum(op.multiply_adds for op in program.ops)
