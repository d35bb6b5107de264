"""What a decoder plays for frames that are missing: the last one, on its way to silence; and nothing of it is left."""

import copy

import numpy as np
import pytest
import torch
from oracles import KINDS, small_codec

import streamcodec
from streamcodec.audio import AudioReader
from streamcodec.cli.roundtrip import RECORDING
from streamcodec.codecs.concealment import fade_frames
from streamcodec.codecs.spectral import SpectralCodec
from streamcodec.codes import Codes
from streamcodec.errors import InputError, StateError, StreamClosedError, StreamError
from streamcodec.metrics import mel_distance

SIZES = {"encoder_width": 16, "encoder_blocks": 2, "decoder_width": 16, "decoder_blocks": 3, "bands": 8}


@pytest.fixture(scope="module")
def spectral():
    """No recurrence: what a decoder remembers has an end."""
    torch.manual_seed(0)
    config = {"codebook_size": 32, "target_bandwidths": [0.5, 1.0], "sampling_rate": 8000, "hop_length": 80}
    return SpectralCodec({**SIZES, "hidden_size": 8, **config}).double().eval()


def frames(codec, count, seed=0, batch=1):
    spec = codec.spec
    generator = torch.Generator().manual_seed(seed)
    data = torch.randint(0, spec.codebook_size, (batch, spec.num_codebooks, count), generator=generator)
    return Codes(data, torch.ones(batch, count, dtype=codec.dtype) if codec.framing.scaled else None)


def cut(codes, first, end):
    scale = None if codes.scale is None else codes.scale[:, first:end]
    return Codes(codes.data[:, :, first:end], scale)


@pytest.mark.parametrize("kind", KINDS)
def test_concealed_frames_take_the_place_of_frames_in_every_kind_of_codec(kind):
    codec = small_codec(kind)
    pushed, holed = codec.open_decoder(batch=2), codec.open_decoder(batch=2)
    parts, whole = [], frames(codec, 40, batch=2)
    for stream in (pushed, holed):
        heard = [stream.push(cut(whole, 0, 9))]
        heard.append(stream.conceal(6) if stream is holed else stream.push(cut(whole, 9, 15)))
        heard += [stream.push(cut(whole, 15, 40)), stream.flush()]
        parts.append(heard)
    assert [part.shape for part in parts[0]] == [part.shape for part in parts[1]]
    assert all(torch.isfinite(part).all() for part in parts[1])
    assert (holed.received, holed.concealed, pushed.received, pushed.concealed) == (34, 6, 40, 0)


def test_a_gap_may_be_concealed_piece_by_piece_with_saves_between(spectral):
    whole, pieces = spectral.open_decoder(), spectral.open_decoder()
    start = frames(spectral, 12)
    whole.push(start)
    pieces.push(start)
    heard = []
    for count in (0, 1, 3, 20, 300):
        pieces = spectral.open_decoder(state=pieces.save()) if count % 2 else copy.copy(pieces)
        heard.append(pieces.conceal(count))
    torch.testing.assert_close(torch.cat(heard, 2), whole.conceal(324), rtol=0, atol=1e-9)
    assert (pieces.concealed, pieces.received) == (324, 12)


def test_the_last_frame_goes_on_and_is_silence_when_the_gap_is_long(spectral):
    last, fade = frames(spectral, 1), fade_frames(spectral.spec)
    codes = spectral.conceal(last, 0, fade + 5).data
    assert (codes[:, :, 0] == last.data[:, :, 0]).all()
    silent = spectral.silent_frame().data
    assert (codes[:, :, fade:] == silent).all()
    latents = spectral.dequantize(codes)
    distance = (latents - spectral.dequantize(silent)).square().sum(1).sqrt()[0]
    assert distance[0] > distance[fade // 2] > distance[fade] == 0


def test_before_anything_was_heard_there_is_silence(spectral):
    concealed, silent = spectral.open_decoder(), spectral.open_decoder()
    silence = Codes(spectral.silent_frame().data.expand(-1, -1, 10))
    torch.testing.assert_close(concealed.conceal(10), silent.push(silence))


def test_as_many_codebooks_are_concealed_as_were_heard(spectral):
    stream = spectral.open_decoder()
    few = Codes(frames(spectral, 5).data[:, :2])
    stream.push(few)
    twin = copy.copy(stream)
    expected = twin.push(spectral.conceal(Codes(few.data[:, :, -1:]), 0, 4))
    torch.testing.assert_close(stream.conceal(4), expected)


@pytest.mark.parametrize(("one", "other"), [(1, 2), (3, 40), (17, 500)])
def test_how_long_a_gap_lasted_is_forgotten_as_soon_as_the_decoder_forgets(spectral, one, other):
    memory = spectral.framing.networks[1].program.memory_frames
    after, hop = frames(spectral, memory + 20, seed=1), spectral.spec.hop_length
    heard = []
    for count in (one, other):
        stream = spectral.open_decoder()
        stream.push(frames(spectral, 10))
        stream.conceal(count)
        heard.append(stream.push(after)[0, 0, memory * hop :])
    torch.testing.assert_close(heard[0], heard[1], rtol=0, atol=1e-12)


def test_beyond_the_fade_and_the_memory_a_longer_gap_changes_nothing_at_all(spectral):
    memory, fade = spectral.framing.networks[1].program.memory_frames, fade_frames(spectral.spec)
    heard = []
    for count in (fade + memory, fade + memory + 77):
        stream = spectral.open_decoder()
        stream.push(frames(spectral, 10))
        stream.conceal(count)
        heard.append(stream.push(frames(spectral, 30, seed=1)))
    torch.testing.assert_close(heard[0], heard[1], rtol=0, atol=1e-12)


def test_what_cannot_be_concealed_is_refused_and_harms_nothing(spectral):
    stream = spectral.open_decoder()
    stream.push(frames(spectral, 5))
    twin = copy.copy(stream)
    for wrong in (-1, 1.5, "2"):
        with pytest.raises(InputError):
            stream.conceal(wrong)
    torch.testing.assert_close(stream.conceal(2), twin.conceal(2))
    stream.push(Codes(frames(spectral, 1).data, length=3))
    with pytest.raises(StreamError, match="after the last ones"):
        stream.conceal(1)
    stream.flush()
    with pytest.raises(StreamClosedError, match="conceal after flush"):
        stream.conceal(1)


def test_a_damaged_last_frame_in_saved_state_is_refused(spectral, monkeypatch):
    stream = spectral.open_decoder()
    stream.push(frames(spectral, 5))
    good = stream._extra()
    for change in ({"missing": -1}, {"concealed": None}, {"data": [[99] * 8]}, {"data": 3}, {"scale": "x"}):
        monkeypatch.setattr(stream, "_extra", lambda change=change: {"heard": good["heard"] | change})
        with pytest.raises(StateError, match="damaged last frame"):
            spectral.open_decoder(state=stream.save())


def test_speech_with_lost_frames_is_nearer_to_the_speech_than_with_silence():
    codec = streamcodec.load()
    with AudioReader(RECORDING, codec.spec.sample_rate, 1, 6 * codec.spec.sample_rate) as reader:
        codes = codec.encode(next(iter(reader))[None], bandwidth=6.0)
    lost, count = np.random.default_rng(0).random(codes.shape[2]) < 0.1, codes.shape[2]
    stream, parts = codec.open_decoder(), []
    for t in range(count):
        parts.append(stream.conceal(1) if lost[t] else stream.push(codes.data[:, :, t : t + 1]))
    concealed = torch.cat([*parts, stream.flush()], 2)[0, 0].numpy()
    silenced = codes.data.clone()
    silenced[:, :, lost] = codec.silent_frame().data
    whole, silence = (codec.decode(each)[0, 0].numpy() for each in (codes.data, silenced))
    rate = codec.spec.sample_rate
    assert mel_distance(whole, concealed, rate) < 0.5 * mel_distance(whole, silence, rate)
