"""Frames to bytes and back: block by block, however they are cut; what does not fit is refused, and harms nothing."""

import numpy as np
import pytest
from entropy_models import random_model
from hypothesis import given
from hypothesis import strategies as st

from streamcodec.entropy import FrameDecoder, FrameEncoder
from streamcodec.entropy.frames import Coded
from streamcodec.entropy.predictor import Predictor
from streamcodec.errors import CodesError, ShapeError

MODEL = random_model(most=40)
PREDICTOR = Predictor(MODEL)


def frames(count, codebooks=3, seed=0):
    return np.random.default_rng(seed).integers(0, MODEL.codebook_size, (codebooks, count))


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(1, 9)), min_size=1, max_size=6))
def test_blocks_of_any_sizes_and_numbers_of_codebooks_come_back(blocks):
    encoder, decoder = FrameEncoder(PREDICTOR), FrameDecoder(PREDICTOR)
    for seed, (codebooks, count) in enumerate(blocks):
        codes = frames(count, codebooks, seed)
        assert (decoder.decode(encoder.encode(codes), codebooks, count) == codes).all()


def test_after_a_restart_a_block_needs_nothing_before_it():
    encoder = FrameEncoder(PREDICTOR)
    encoder.encode(frames(20))
    encoder.restart()
    codes = frames(5, seed=1)
    assert (FrameDecoder(PREDICTOR).decode(encoder.encode(codes), 3, 5) == codes).all()


def test_every_flipped_bit_and_every_cut_is_refused_and_the_right_block_decodes_afterwards():
    encoder, decoder = FrameEncoder(PREDICTOR), FrameDecoder(PREDICTOR)
    decoder.decode(encoder.encode(frames(7)), 3, 7)
    codes = frames(4, seed=1)
    data, check = encoder.encode(codes)
    damaged = [
        bytes(b ^ (1 << bit) * (i == at) for i, b in enumerate(data)) for at in range(len(data)) for bit in range(8)
    ]
    damaged += [data[:cut] for cut in range(len(data))] + [data + b"\0", data + b"\1"]
    for each in damaged:
        with pytest.raises(CodesError, match="coded bytes"):
            decoder.decode(Coded(each, check), 3, 4)
    assert (decoder.decode(Coded(data, check), 3, 4) == codes).all()


def test_a_block_after_one_that_is_missing_or_with_other_sizes_is_refused():
    encoder, decoder = FrameEncoder(PREDICTOR), FrameDecoder(PREDICTOR)
    encoder.encode(frames(1))
    later = encoder.encode(frames(6, seed=1))
    with pytest.raises(CodesError, match="follow codes that this end does not have"):
        decoder.decode(later, 3, 6)
    with pytest.raises(ShapeError, match="1 to 3 codebooks"):
        decoder.decode(later, 4, 6)


def test_another_model_is_noticed_even_where_it_predicts_the_same():
    other = Predictor(random_model(most=40, fingerprint="ab"))
    with pytest.raises(CodesError, match="another model"):
        FrameDecoder(other).decode(FrameEncoder(PREDICTOR).encode(frames(3)), 3, 3)


@given(st.binary(max_size=60), st.integers(0, 65535), st.integers(1, 3), st.integers(1, 12))
def test_any_bytes_give_an_error_and_leave_the_decoder_as_it_was(data, check, codebooks, count):
    encoder, decoder = FrameEncoder(PREDICTOR), FrameDecoder(PREDICTOR)
    first, second = encoder.encode(frames(3)), encoder.encode(frames(3, seed=1))
    decoder.decode(first, 3, 3)
    try:
        decoder.decode(Coded(data, check), codebooks, count)
    except CodesError:
        assert (decoder.decode(second, 3, 3) == frames(3, seed=1)).all()


@pytest.mark.parametrize(
    ("codes", "error"),
    [
        (np.zeros((4, 2), int), ShapeError),
        (np.zeros((1, 0), int), ShapeError),
        (np.zeros(3, int), ShapeError),
        (np.full((1, 1), 11), CodesError),
        (np.full((1, 1), -1), CodesError),
    ],
)
def test_codes_that_the_model_does_not_know_are_refused(codes, error):
    with pytest.raises(error, match="must be"):
        FrameEncoder(PREDICTOR).encode(codes)


def test_what_is_predicted_well_takes_few_bits():
    model = random_model(codebooks=1, size=16)
    for name in ("past", "stage", "group", "item"):
        model.tensors[f"{name}.weights"][:] = 0
        model.tensors[f"{name}.biases"][:] = 0
    model.tensors["group.biases"][0, 0] = 12 * 64 << int(model.tensors["group.exponents"][0, 0])
    model.tensors["item.biases"][0, 0] = 12 * 64 << int(model.tensors["item.exponents"][0, 0])
    code = int(np.flatnonzero(model.tensors["places"][0] == 0)[0])
    encoder = FrameEncoder(Predictor(model))
    assert len(encoder.encode(np.full((1, 400), code)).data) < 10
    assert len(encoder.encode(np.full((1, 400), (code + 1) % 16)).data) > 400
