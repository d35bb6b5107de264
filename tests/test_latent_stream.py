"""Streams of latents of every family: equal to the offline calls, saved, copied, refused."""

import copy
from collections.abc import Callable

import dac_models
import mimi_models
import oracles
import pocket_tts_models
import pytest
import qwen_tts_models
import spectral_models
import torch
import xcodec_models
from torch import Tensor

from streamcodec import Codec
from streamcodec.errors import InputError, NonFiniteError, ShapeError, StateError, StreamClosedError

FAMILIES: dict[str, Callable[[], Codec]] = {
    "encodec": oracles.small_codec,
    "dac": lambda: dac_models.small_codec((2, 3)),
    "mimi": mimi_models.small_codec,
    "pocket": pocket_tts_models.small_codec,
    "qwen": qwen_tts_models.small_codec,
    "spectral": spectral_models.small_codec,
    "xcodec": lambda: xcodec_models.small_codec("hubert"),
}


@pytest.fixture(params=FAMILIES)
def codec(request: pytest.FixtureRequest) -> Codec:
    if request.param == "xcodec":
        pytest.importorskip("transformers", reason="X-Codec's speech model is one of transformers")
    return FAMILIES[request.param]()


def offline(codec: Codec, wav: Tensor) -> Tensor:
    """What a stream of latents has to equal."""
    with torch.no_grad():
        if codec.spec.semantic_window is None:
            return codec.encode_latents(wav)
        return codec.analyse_windowed(codec.as_rows(wav)).rows.transpose(1, 2)


def wave(codec: Codec) -> Tensor:
    return oracles.signal(2, 1, 30 * codec.spec.hop_length + 5).double()


def test_pieces_add_up_to_the_offline_calls(codec: Codec) -> None:
    wav = wave(codec)
    encoder, decoder = codec.open_latent_encoder(2), codec.open_latent_decoder(2)
    parts = [encoder.push(wav[..., i : i + 37]) for i in range(0, wav.shape[2], 37)] + [encoder.flush()]
    latents = torch.cat(parts, 2)
    torch.testing.assert_close(latents, offline(codec, wav), rtol=0, atol=1e-9)
    audio = torch.cat([*(decoder.push(part) for part in parts), decoder.flush()], 2)
    with torch.no_grad():
        torch.testing.assert_close(audio, codec.decode_latents(latents), rtol=0, atol=1e-9)


def test_saved_and_copied_streams_go_on_to_the_bit(codec: Codec) -> None:
    wav = wave(codec)
    half = wav.shape[2] // 2
    encoder, decoder = codec.open_latent_encoder(2), codec.open_latent_decoder(2)
    decoder.push(encoder.push(wav[..., :half]))
    encoders = [codec.open_latent_encoder(state=encoder.save()), copy.copy(encoder), encoder]
    decoders = [codec.open_latent_decoder(state=decoder.save()), copy.deepcopy(decoder), decoder]
    tails = []
    for one, other in zip(encoders, decoders, strict=True):
        latents = torch.cat([one.push(wav[..., half:]), one.flush()], 2)
        tails.append((latents, torch.cat([other.push(latents), other.flush()], 2)))
    for latents, audio in tails:
        assert torch.equal(latents, tails[0][0])
        assert torch.equal(audio, tails[0][1])


def test_what_a_stream_cannot_take_leaves_it_as_it_was() -> None:
    codec = mimi_models.small_codec()
    latents = codec.encode_latents(oracles.signal(1, 1, 120)).detach()
    stream, twin = codec.open_latent_decoder(), codec.open_latent_decoder()
    first = stream.push(latents[..., :4])
    assert torch.equal(first, twin.push(latents[..., :4]))
    for wrong, error in (
        (latents.expand(2, -1, -1), ShapeError),
        (latents[:, 1:], ShapeError),
        (latents * torch.inf, NonFiniteError),
        (latents.long(), InputError),
    ):
        with pytest.raises(error):
            stream.push(wrong)
    assert torch.equal(stream.push(latents[..., 4:]), twin.push(latents[..., 4:]))
    stream.flush()
    with pytest.raises(StreamClosedError):
        stream.push(latents)


def test_the_state_of_another_kind_of_stream_is_refused() -> None:
    codec = mimi_models.small_codec()
    with pytest.raises(StateError, match="state is that of the encoder; this is the encoder of latents"):
        codec.open_latent_encoder(state=codec.open_encoder().save())
    with pytest.raises(StateError, match="state is that of the decoder of latents; this is the decoder"):
        codec.open_decoder(state=codec.open_latent_decoder().save())


def test_segments_have_no_stream_of_latents() -> None:
    codec = oracles.small_codec("48khz")
    for call in (codec.open_latent_encoder, codec.open_latent_decoder):
        with pytest.raises(InputError, match="codes each segment by itself"):
            call()


def test_a_primed_start_begins_after_silence() -> None:
    codec = oracles.small_codec()
    wav, frames = wave(codec)[:1], codec.spec.encoder_prefill
    silence = torch.zeros(1, codec.spec.channels, frames * codec.spec.hop_length)
    stream = codec.open_latent_encoder(start="primed")
    latents = torch.cat([stream.push(wav), stream.flush()], 2)
    whole = offline(codec, torch.cat([silence, wav], 2))
    torch.testing.assert_close(latents, whole[..., frames:], rtol=0, atol=1e-9)
    decoder, frames = codec.open_latent_decoder(start="primed"), codec.spec.decoder_prefill
    audio = torch.cat([decoder.push(latents), decoder.flush()], 2)
    before = codec.dequantize(codec.silence(frames))
    with torch.no_grad():
        expected = codec.decode_latents(torch.cat([before, latents], 2))[..., frames * codec.spec.hop_length :]
    torch.testing.assert_close(audio, expected, rtol=0, atol=1e-9)
