"""Audio that is cut off falls to silence: in streams, in the engine, for every way of cutting a signal."""

import math
from typing import Any

import pytest
import torch
from codecs_of_tests import CODECS
from oracles import signal
from torch import Tensor

from streamcodec import Codec, Codes
from streamcodec.engine import Engine
from streamcodec.errors import InputError, StreamClosedError, StreamError


def gain(fade: int) -> Tensor:
    """The half of a cosine, from nearly 1 to nearly 0."""
    return 0.5 + 0.5 * torch.cos(math.pi * (torch.arange(fade) + 1.0).double() / (fade + 1))


def codes_of(codec: Codec, frames: int) -> Codes:
    return Codes(codec.encode(signal(1, codec.spec.channels, frames * codec.spec.hop_length + 300)).data[..., :frames])


def scaled(codec: Codec, codes: Codes) -> Codes:
    """With the gains that a codec of segments needs."""
    frames = codes.data.shape[2]
    return Codes(codes.data, torch.full((1, frames), 0.5, dtype=torch.float64) if codec.framing.scaled else None)


def longer(codec: Codec, codes: Codes, samples: int) -> Codes:
    """As many of the last frame more as `samples` of audio take."""
    data = codes.data
    while min(codec.covered(samples, data.shape[2]), codec.spec.samples(data.shape[2])) < samples:
        data = torch.cat([data, data[..., -1:]], 2)
    return scaled(codec, Codes(data))


@pytest.mark.parametrize("frames", [1, 2, 5, 23])
@pytest.mark.parametrize("fade", [1, 17, 100])
@pytest.mark.parametrize("kind", CODECS)
def test_it_goes_on_with_the_last_frame_and_falls_to_silence(kind: str, fade: int, frames: int) -> None:
    codec: Codec = CODECS[kind]()
    codes = scaled(codec, codes_of(codec, frames))
    stream = codec.open_decoder()
    heard = stream.push(codes)
    tail = stream.cut(fade)
    assert tail.shape == (1, codec.spec.channels, fade)
    whole = codec.decode(longer(codec, codes, heard.shape[2] + fade))[..., : heard.shape[2] + fade]
    torch.testing.assert_close(heard, whole[..., : heard.shape[2]], rtol=0, atol=1e-10)
    torch.testing.assert_close(tail, whole[..., heard.shape[2] :] * gain(fade), rtol=0, atol=1e-10)
    with pytest.raises(StreamClosedError):
        stream.cut(fade)


@pytest.mark.parametrize("kind", CODECS)
def test_an_engine_does_the_same_and_drops_what_waits(kind: str) -> None:
    codec: Codec = CODECS[kind]()
    engine = Engine(codec, slots=2, max_queue_frames=200)
    other, session = engine.open("decode"), engine.open("decode")
    codes = scaled(codec, codes_of(codec, 24))
    for one in (other, session):
        engine.feed(one, codes)
    heard: dict[Any, list[Tensor]] = {other: [], session: []}

    def step() -> None:
        for delivery in engine.step():
            assert delivery.error is None
            if delivery.audio is not None:
                heard[delivery.session].append(delivery.audio)

    for _ in range(4):
        step()
    run = (codec.spec.segment_frames and 24) or engine.figures(session).decoded_frames
    before = torch.cat([torch.zeros(1, codec.spec.channels, 0), *heard[session]], 2).shape[2]
    restored = engine.restore(engine.save(session)) if kind != "segments" and not engine.close(other) else None
    if restored is not None:
        heard[restored] = list(heard[session])
        engine.cut(restored, 40)
    engine.cut(session, 40)
    while engine.ready:
        step()
    assert session.closed
    audio = torch.cat(heard[session], 2)
    if not codec.spec.segment_frames:
        whole = codec.decode(longer(codec, scaled(codec, Codes(codes.data[..., :run])), before + 40))
        whole = whole[..., : before + 40]
        whole[..., before:] *= gain(40)
        torch.testing.assert_close(audio, whole, rtol=0, atol=1e-9)
    assert audio.shape[2] == before + 40
    if restored is not None:
        torch.testing.assert_close(torch.cat(heard[restored], 2), audio, rtol=0, atol=1e-9)


@pytest.mark.parametrize("kind", ["attention", "mirrored causal", "segments"])
def test_a_saved_stream_is_cut_as_the_first_one(kind: str) -> None:
    codec: Codec = CODECS[kind]()
    stream = codec.open_decoder()
    stream.push(scaled(codec, codes_of(codec, 9)))
    again = codec.open_decoder(state=stream.save())
    assert torch.equal(stream.cut(50), again.cut(50))


@pytest.mark.parametrize("kind", CODECS)
def test_what_has_ended_is_faded_no_longer_than_it_is(kind: str) -> None:
    codec: Codec = CODECS[kind]()
    codes = scaled(codec, codes_of(codec, 5))
    length = codec.spec.samples(5) - 1
    stream = codec.open_decoder()
    heard = stream.push(Codes(codes.data, codes.scale, length))
    tail = stream.cut(10_000)
    assert heard.shape[2] + tail.shape[2] == codec.covered(length, 5)
    assert not tail.shape[2] or tail[..., -1].abs().max() < 0.1
    assert codec.open_decoder().cut(5).shape == (1, codec.spec.channels, 0)


def test_only_audio_that_comes_out_can_be_faded() -> None:
    codec: Codec = CODECS["attention"]()
    engine = Engine(codec, slots=1)
    session = engine.open("encode")
    with pytest.raises(StreamError, match="there is no audio to fade"):
        engine.cut(session, 5)
    for fade in (0, 1.5, "5"):
        with pytest.raises(InputError, match="fade is"):
            codec.open_decoder().cut(fade)  # type: ignore[arg-type]


def test_a_roundtrip_is_cut_where_it_is_heard_and_gives_back_its_slots() -> None:
    codec: Codec = CODECS["attention"]()
    engine = Engine(codec, slots=1)
    session = engine.open("roundtrip")
    engine.feed(session, signal(1, 1, 10 * codec.spec.hop_length))
    audio = []
    for _ in range(2):
        audio += [delivery.audio for delivery in engine.step() if delivery.audio is not None]
    engine.cut(session, 30)
    done = []
    while engine.ready:
        for delivery in engine.step():
            audio += [] if delivery.audio is None else [delivery.audio]
            done.append(delivery.done)
    assert done[-1]
    heard = torch.cat(audio, 2)
    assert heard[..., -1].abs().max() < 0.02 * heard.abs().max()
    engine.open("roundtrip")
