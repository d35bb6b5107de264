"""Sessions begin as the single streams do, by the same names and defaults."""

import copy

import dac_models
import numpy as np
import pytest
import spectral_models
import torch
from bad_input import assert_one_error
from oracles import signal, small_codec
from torch import Tensor

from streamcodec import Codec, Codes
from streamcodec.engine import Engine
from streamcodec.errors import BandwidthError, InputError, StreamError

# A default that is the lowest bandwidth, as of every EnCodec in Hugging Face layout, and one that is the highest.
CODECS = {
    "encodec": small_codec,
    "look-ahead": lambda: small_codec("32khz"),
    "segments": lambda: small_codec("48khz"),
    "dac": lambda: dac_models.small_codec((2, 3)),
    "spectral": spectral_models.small_codec,
}


def decoded(codec: Codec, codes: Codes, **names: object) -> tuple[Tensor, Tensor]:
    """By a session and by a stream, both opened with the same arguments."""
    engine = Engine(codec, slots=1)
    session, parts = engine.open("decode", start="primed", **names), []
    engine.feed(session, codes)
    engine.flush(session)
    while engine.ready:
        parts += [delivery.audio for delivery in engine.step() if delivery.audio is not None]
    decoder = codec.open_decoder(start="primed", **names)
    return torch.cat(parts, 2), torch.cat([decoder.push(codes), decoder.flush()], 2)


@pytest.mark.parametrize("name", CODECS)
def test_a_primed_decode_begins_as_the_single_streams_does(name):
    codec = CODECS[name]()
    spec = codec.spec
    codes = codec.encode(signal(1, spec.channels, 40 * spec.hop_length), spec.bandwidths[-1])
    sounds = []
    named = [{"bandwidth": kbps} for kbps in spec.bandwidths] + [{"num_codebooks": spec.codebooks(spec.bandwidths[0])}]
    for names in ({}, *named):
        session, stream = decoded(codec, codes, **names)
        torch.testing.assert_close(session, stream, rtol=0, atol=1e-9)
        sounds.append(stream)
    assert torch.equal(sounds[0], sounds[1 + spec.bandwidths.index(spec.default_bandwidth)])
    assert torch.equal(sounds[-1], sounds[1])
    if name == "encodec":  # the silence of another bandwidth can be heard
        assert not torch.equal(sounds[1], sounds[-2])


def test_a_roundtrip_by_defaults_is_one_bandwidth_from_end_to_end():
    """A primed pair equals the offline calls on silence and the signal after it, with no bandwidth named anywhere."""
    codec = small_codec()
    spec, wav = codec.spec, signal(1, 1, 300)
    encoder, decoder = codec.open_encoder(start="primed"), codec.open_decoder(start="primed")
    parts = [decoder.push(encoder.push(wav)), decoder.push(encoder.flush()), decoder.flush()]
    before = spec.prefill_frames * spec.hop_length
    expected = codec.decode(codec.encode(torch.cat([torch.zeros(1, 1, before), wav], 2)))
    torch.testing.assert_close(torch.cat(parts, 2), expected[:, :, before:], rtol=0, atol=1e-9)


def test_numbers_of_numpy_and_torch_and_integers_of_any_type_are_taken():
    codec = small_codec()
    data = codec.encode(signal(1, 1, 300), 1.6).data
    sounds = []
    for slots, kbps, some in (
        (1, 1.6, data),
        (np.int64(1), np.float32(1.6), data.to(torch.int16)),
        (torch.tensor(1), torch.tensor(1.6), data.numpy().astype(np.uint8)),
    ):
        engine = Engine(
            codec, slots=slots, batch_sizes=(slots,), step_frames=np.array([1, 2]), max_queue_frames=slots * 99
        )
        session = engine.open("decode", bandwidth=kbps)
        assert (session.bandwidth, type(session.bandwidth)) == (1.6, float)
        engine.feed(session, some)
        sounds.append(torch.cat([delivery.audio for delivery in engine.step() if delivery.audio is not None], 2))
    assert torch.equal(sounds[0], sounds[1])
    assert torch.equal(sounds[0], sounds[2])


def test_codebooks_name_a_sessions_bandwidth():
    engine = Engine(small_codec(), slots=2)
    session = engine.open("encode", num_codebooks=2)
    assert session.bandwidth == 0.8
    engine.set_bandwidth(session, num_codebooks=4)
    assert session.bandwidth == 1.6
    both = {"bandwidth": 0.8, "num_codebooks": 2}
    for call in (lambda: engine.open("encode", **both), lambda: engine.set_bandwidth(session, **both)):
        assert_one_error(call, InputError, "give one")
    assert_one_error(lambda: engine.set_bandwidth(session, num_codebooks=3), BandwidthError, "choose one of 1, 2, 4")
    assert session.bandwidth == 1.6


def test_an_engine_is_not_copied_by_half():
    engine = Engine(small_codec(), slots=1)
    for copied in (copy.copy, copy.deepcopy):
        assert_one_error(lambda copied=copied: copied(engine), StreamError, "cannot be copied.*save and restore")
