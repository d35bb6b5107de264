"""Every family of codecs that streams, in every mode: what comes is what the codec itself gives."""

import asyncio
from functools import cache

import numpy as np
import pytest
import torch

pytest.importorskip("websockets", reason="the extra `server` is not installed")
pytest.importorskip("prometheus_client", reason="the extra `server` is not installed")

import dac_models
import oracles
import spectral_models
import xcodec_models
from talk import Talk, hello, pieces, served, wave

from streamcodec import Codes
from streamcodec.errors import InputError
from streamcodec.packet import CodesMessage, pack
from streamcodec.protocol import CodesReceived, PcmFormat, PcmReceived, RoomRequest
from streamcodec.protocol.messages import ErrorMessage, Flushed
from streamcodec.resample import Resampler

RATE = 8000
SMALL = {"sampling_rate": RATE, "upsampling_ratios": (5, 4, 2), "target_bandwidths": (0.8, 1.6, 3.2)}
# 800 samples, and 760 from one segment to the next: 19 frames of 40.
SEGMENTS = {"chunk_length_s": 0.1, "overlap": 0.05}


@cache
def codec(kind):
    """Small, random, in float64, so that codes are equal however they are computed."""
    if kind in ("24khz", "32khz"):
        return oracles.small_codec(kind, **SMALL)
    if kind == "48khz":
        return oracles.small_codec(kind, **SMALL, **SEGMENTS)
    if kind == "48khz mono":
        return oracles.small_codec("48khz", **SMALL, **SEGMENTS, audio_channels=1, normalize=False)
    if kind == "spectral":
        return spectral_models.small_codec(sampling_rate=RATE, hop_length=40, target_bandwidths=(0.8, 1.6))
    if kind == "dac":
        model = dac_models.transformers_model(downsampling_ratios=(2, 4, 5), n_codebooks=3, sampling_rate=RATE)
        return dac_models.codec_of(model)
    pytest.importorskip("transformers", reason="X-Codec's speech model is of transformers")
    return xcodec_models.small_codec("hubert")


def heard(kind, samples):
    """The client's samples at the codec's rate, as the server's resampler makes them."""
    rate = codec(kind).spec.sample_rate
    if rate == RATE:
        return samples
    resampler = Resampler(RATE, rate, samples.shape[0])
    return np.concatenate([resampler.push(samples), resampler.finish()], axis=1)


def offline(kind, samples, start):
    """Codes of the whole signal: `encode`'s where the start is exact, and for X-Codec those of its windows."""
    whole = codec(kind)
    if start == "exact" and whole.spec.semantic_window is None:
        with torch.inference_mode():
            return whole.encode(torch.from_numpy(samples)[None])
    stream = whole.open_encoder(batch=1, start=start)
    parts = [stream.push(samples[None]), stream.flush()]
    scale = None if parts[0].scale is None else torch.cat([part.scale for part in parts], 1)
    return Codes(torch.cat([part.data for part in parts], 2), scale, sum(part.length for part in parts))


def played(kind, codes, start):
    """Audio of the whole signal."""
    whole = codec(kind)
    if start == "exact":
        with torch.inference_mode():
            return whole.decode(codes)[0].float().numpy()
    stream = whole.open_decoder(batch=1, start=start, bandwidth=whole.spec.default_bandwidth)
    return torch.cat([stream.push(codes), stream.flush()], 2)[0].float().numpy()


def samples_of(kind, seconds=0.83):
    channels = codec(kind).spec.channels
    samples = wave(seconds, channels, seed=3)
    if channels == 2:
        samples[1] *= 0.5  # no mono in disguise
    return samples


def opening(kind, mode, **fields):
    pcm = PcmFormat(format="f32le", sample_rate=RATE, channels=codec(kind).spec.channels)
    return hello(mode, pcm=pcm, **fields)


def check_codes(talk, codes, stream=0):
    data = codes.data[0].numpy()
    np.testing.assert_array_equal(talk.codes(stream), data)
    packets = [event for event in talk.of(CodesReceived) if event.stream == stream]
    assert packets[-1].last
    if codes.scale is None:
        assert all(packet.scale is None for packet in packets)
    else:
        scales = np.concatenate([packet.scale for packet in packets])
        np.testing.assert_allclose(scales, codes.scale[0].float().numpy(), rtol=1e-6)


KINDS = ["24khz", "32khz", "48khz", "48khz mono", "dac", "spectral", "xcodec"]


@pytest.mark.parametrize("start", ["exact", "primed"])
@pytest.mark.parametrize("kind", KINDS)
def test_all_modes(kind, start):
    async def main():
        samples = samples_of(kind)
        expected = offline(kind, heard(kind, samples), start)
        audio = played(kind, expected, start)
        async with served({"small": codec(kind)}) as server:
            async with Talk(server, opening(kind, "encode", start=start, frames_per_packet=4)) as talk:
                for piece in pieces(samples, 1):
                    await talk.say(piece)
                assert await talk.flush() == expected.data.shape[2]
                check_codes(talk, expected)
                assert talk.of(CodesReceived)[-1].length == expected.length
                packets = talk.of(CodesReceived)
            if codec(kind).spec.sample_rate != RATE:
                return  # the way back is the resampler's business, in test_limits
            async with Talk(server, opening(kind, "decode", start=start)) as talk:
                for packet in packets:
                    if packet.codes.size:
                        talk.session.send_codes(packet.codes, scale=packet.scale)
                await talk.send()
                length = await talk.flush(expected.length)
                np.testing.assert_allclose(talk.audio()[:, :length], audio[:, :length], atol=1e-5)
                assert length == min(expected.length, audio.shape[1])
            async with Talk(server, opening(kind, "roundtrip", start=start)) as talk:
                for piece in pieces(samples, 2):
                    await talk.say(piece)
                assert await talk.flush() == audio.shape[1]
                np.testing.assert_allclose(talk.audio(), audio, atol=1e-5)

    asyncio.run(asyncio.wait_for(main(), 200))


def member(kind, role, **fields):
    return opening(kind, "room", room=RoomRequest(name="hall", role=role, **fields))


@pytest.mark.parametrize("kind", ["48khz", "dac", "spectral"])
def test_listeners_of_a_room_get_the_codes_and_the_audio_of_a_codec_of_any_kind(kind):
    """One that speaks, one that hears the codes, one that hears the audio."""

    async def main():
        samples = samples_of(kind)
        expected = offline(kind, samples, "primed")
        audio = played(kind, expected, "primed")
        async with (
            served({"small": codec(kind)}) as server,
            Talk(server, member(kind, "listener")) as codes,
            Talk(server, member(kind, "listener", receive="pcm")) as pcm,
            Talk(server, member(kind, "speaker")) as speaker,
        ):
            stream = speaker.session.welcome.room.members[-1].stream
            for piece in pieces(samples, 1):
                await speaker.say(piece)
            await speaker.flush()
            await codes.until(lambda: any(event.last for event in codes.of(CodesReceived)))
            await pcm.until(lambda: any(event.last for event in pcm.of(PcmReceived)))
            check_codes(codes, expected, stream)
            length = audio.shape[1]
            np.testing.assert_allclose(pcm.audio(stream)[:, :length], audio, atol=1e-5)

    asyncio.run(asyncio.wait_for(main(), 200))


def test_codes_and_scales_that_cannot_be_are_refused_and_silence_stands_for_them():
    async def main():
        codes, scale = np.full((1, 20), 15, np.uint16), np.ones(20, np.float32)  # a segment at 0.8 kbps
        bad = [(codes, scale * np.float32(value)) for value in (np.nan, np.inf, -1.0, 0.0, 1e38)]
        bad.append((codes.repeat(5, 0), scale))  # the codec has 4 codebooks
        wanted = ["not_finite"] * 2 + ["out_of_range"] * 3 + ["bad_message"]
        async with served({"small": codec("48khz")}) as server, Talk(server, opening("48khz", "decode")) as talk:
            for number, (data, scales) in enumerate(bad):
                await talk.ws.send(pack(CodesMessage(number, 20 * number, data, 4, scale=scales)))
            await talk.ws.send(pack(CodesMessage(len(bad), 20 * 5, codes, 4, scale=scale)))  # the last had no place
            await talk.ws.send('{"type":"flush","sequence":7}')
            await talk.until(lambda: talk.of(Flushed))
            assert [error.code for error in talk.of(ErrorMessage)] == wanted
            audio = talk.audio()
            assert audio.shape[1] == 6 * 760  # each segment up to where the next one would begin
            assert np.isfinite(audio).all()

    asyncio.run(main())


def test_a_codec_that_has_no_streams_is_refused_and_why_is_said():
    whole = oracles.small_codec("48khz", chunk_length_s=None, overlap=None)

    async def main():
        with pytest.raises(InputError, match=r"'whole' cannot be served live.*chunk_length_s"):
            async with served({"good": codec("24khz"), "whole": whole}):
                pass

    asyncio.run(main())
