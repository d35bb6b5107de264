"""Streams equal the offline calls, whatever the pieces; and bad input leaves them as they were."""

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch
from bad_input import BAD_AUDIO, assert_one_error
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import KINDS, SMALL, cuts, free_frames, settle, signal, small_codec
from torch import Tensor

from streamcodec import Codes, DecoderStream, EncoderStream
from streamcodec.codecs.encodec import EncodecCodec
from streamcodec.errors import (
    BandwidthError,
    CodesError,
    DtypeError,
    InputError,
    NonFiniteError,
    ShapeError,
    StateError,
    StreamClosedError,
    StreamError,
)

STARTS = st.sampled_from(["exact", "primed"])
VARIANTS: list[dict[str, Any]] = [
    {},
    {"pad_mode": "constant"},
    {"pad_mode": "replicate"},
    {"trim_right_ratio": 0.0},
    {"trim_right_ratio": 0.4, "pad_mode": "constant"},
    {"use_causal_conv": False},
    {"use_causal_conv": False, "pad_mode": "constant", "use_conv_shortcut": False},
    {"use_causal_conv": False, "pad_mode": "replicate"},
    {"use_causal_conv": False, "last_kernel_size": 1, "num_residual_layers": 2},
    {"upsampling_ratios": (5,), "kernel_size": 3, "audio_channels": 2},
    {"upsampling_ratios": (2, 3, 2), "num_residual_layers": 0, "num_lstm_layers": 1},
    {"chunk_length_s": 0.1, "overlap": 0.05},
    {"chunk_length_s": 0.11, "overlap": 0.0, "normalize": True},
    {"chunk_length_s": 0.1, "overlap": 0.6, "normalize": True, "norm_type": "time_group_norm"},
]
# Made when they are drawn: each process of a run imports this file, and one or two have its tests.
codecs_of_any_kind = st.sampled_from([(kind, {}) for kind in KINDS] + [("24khz", variant) for variant in VARIANTS]).map(
    lambda chosen: small_codec(chosen[0], **chosen[1])
)
sizes = st.lists(st.integers(0, 70) | st.integers(0, 7), max_size=12)
frame_sizes = st.lists(st.integers(0, 12), max_size=12)


def some_length(draw: st.DrawFn, codec: EncodecCodec) -> int:
    """0, less than a hop, less than the prefill, around a segment, or many hops and a bit."""
    hop, edge = codec.spec.hop_length, codec.spec.segment_length or codec.spec.prefill_frames * codec.spec.hop_length
    return draw(st.integers(0, hop) | st.integers(0, edge + hop) | st.integers(0, 60 * hop) | st.just(6 * edge + 1))


@st.composite
def recordings(draw: st.DrawFn) -> tuple[EncodecCodec, Tensor, float]:
    codec = draw(codecs_of_any_kind)
    batch, seed = draw(st.integers(1, 3)), draw(st.integers(0, 99))
    wav = signal(batch, codec.spec.channels, some_length(draw, codec), seed)
    return codec, wav, draw(st.sampled_from(codec.spec.bandwidths))


def push_all(encoder: EncoderStream, wav: Tensor, pieces: list[tuple[int, int]]) -> list[Codes]:
    return [*(encoder.push(wav[:, :, start:stop]) for start, stop in pieces), encoder.flush()]


def split(codec: EncodecCodec, codes: Codes, pieces: list[tuple[int, int]]) -> list[Codes]:
    """Codes in pieces, as a packet reader would hand them over: only the last piece knows where the audio ends."""
    frames, parts = codes.data.shape[2], []
    free = frames if codec.segments is None else free_frames(codec.segments, codes.length)
    for start, stop in pieces:
        last = stop == frames or stop > free
        stop = frames if last else stop
        scale = None if codes.scale is None else codes.scale[:, start:stop]
        length = codes.length - codec.spec.samples(start) if last else None
        parts.append(Codes(codes.data[:, :, start:stop], scale, length))
        if last:
            break
    return parts


def close(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-10)


def assert_codes_equal(actual: Codes, expected: Codes) -> None:
    assert torch.equal(actual.data, expected.data)
    assert actual.length == expected.length
    assert (actual.scale is None) == (expected.scale is None)
    if expected.scale is not None:
        close(actual.scale, expected.scale)


# -- streaming equals offline --------------------------------------------------------------------------------------


@settings(max_examples=150)
@given(recordings(), sizes)
def test_an_exact_encoder_equals_encode(recording, pieces):
    codec, wav, bandwidth = recording
    encoder = codec.open_encoder(bandwidth, wav.shape[0])
    parts = push_all(encoder, wav, cuts(wav.shape[2], pieces))
    assert all(part.length >= 0 for part in parts)
    assert all(part.data.dtype == torch.int64 for part in parts)
    assert_codes_equal(Codes.cat(parts), codec.encode(wav, bandwidth))


@settings(max_examples=150)
@given(recordings(), frame_sizes)
def test_an_exact_decoder_equals_decode(recording, pieces):
    codec, wav, bandwidth = recording
    codes = codec.encode(wav, bandwidth)
    decoder = codec.open_decoder(wav.shape[0])
    parts = [decoder.push(part) for part in split(codec, codes, cuts(codes.data.shape[2], pieces))]
    pcm = torch.cat([*parts, decoder.flush()], 2)
    expected = codec.decode(codes)
    assert pcm.shape == expected.shape == wav.shape
    close(pcm, expected)


@settings(max_examples=60)
@given(recordings(), sizes)
def test_what_an_encoder_gives_a_decoder_takes(recording, pieces):
    """The pieces as they come, lengths and all, flush included: the loop of a live session."""
    codec, wav, bandwidth = recording
    encoder, decoder = codec.open_encoder(bandwidth, wav.shape[0]), codec.open_decoder(wav.shape[0])
    parts = [decoder.push(codes) for codes in push_all(encoder, wav, cuts(wav.shape[2], pieces))]
    pcm = torch.cat([*parts, decoder.flush()], 2)
    close(pcm, codec.decode(codec.encode(wav, bandwidth)))


@settings(max_examples=60)
@given(recordings(), sizes)
def test_a_primed_encoder_equals_encode_after_silence(recording, pieces):
    codec, wav, bandwidth = recording
    silent = codec.spec.encoder_prefill
    encoder = codec.open_encoder(bandwidth, wav.shape[0], start="primed")
    parts = push_all(encoder, wav, cuts(wav.shape[2], pieces))
    before = torch.zeros(*wav.shape[:2], silent * codec.spec.hop_length)
    expected = codec.encode(torch.cat([before, wav], 2), bandwidth)
    joined = Codes.cat(parts)
    assert torch.equal(joined.data, expected.data[:, :, silent:])
    assert joined.length == wav.shape[2]


@settings(max_examples=60)
@given(recordings(), frame_sizes)
def test_a_primed_decoder_equals_decode_after_silence(recording, pieces):
    codec, wav, bandwidth = recording
    silent = codec.spec.decoder_prefill
    codes = codec.encode(wav, bandwidth)
    decoder = codec.open_decoder(wav.shape[0], start="primed", bandwidth=bandwidth)
    parts = [decoder.push(part) for part in split(codec, codes, cuts(codes.data.shape[2], pieces))]
    pcm = torch.cat([*parts, decoder.flush()], 2)
    if silent:
        silence = codec.silence(silent, bandwidth).data.expand(wav.shape[0], -1, -1)
        codes = Codes(torch.cat([silence, codes.data], 2), None, wav.shape[2] + silent * codec.spec.hop_length)
    close(pcm, codec.decode(codes)[:, :, silent * codec.spec.hop_length :])


@settings(max_examples=40)
@given(codecs_of_any_kind, st.integers(0, 400), st.integers(1, 40))
def test_codes_come_as_soon_as_the_spec_says(codec, samples, piece):
    spec = codec.spec
    encoder = codec.open_encoder()
    wav = signal(1, spec.channels, samples)
    frames = 0
    for start in range(0, samples, piece):
        frames += encoder.push(wav[:, :, start : start + piece]).data.shape[2]
        heard = min(samples, start + piece)
        if spec.segment_length is not None:
            segments = 0 if heard < spec.segment_length else 1 + (heard - spec.segment_length) // spec.segment_stride
            assert frames == segments * spec.segment_frames
        else:
            ready = max(0, (heard - spec.encoder_delay) // spec.hop_length)
            wait = codec.framing.encoder.at.rows(spec.encoder_prefill) if spec.encoder_prefill else 0
            assert frames == (ready if heard >= wait else 0)


@settings(max_examples=40)
@given(codecs_of_any_kind, st.integers(0, 40), st.integers(1, 7))
def test_audio_comes_as_soon_as_the_spec_says(codec, frames, piece):
    spec = codec.spec
    decoder = codec.open_decoder()
    codes = codec.encode(signal(1, spec.channels, frames * spec.hop_length))
    total, heard = codes.data.shape[2], 0
    for start in range(0, total, piece):
        scale = None if codes.scale is None else codes.scale[:, start : start + piece]
        heard += decoder.push(Codes(codes.data[:, :, start : start + piece], scale)).shape[2]
        pushed = min(total, start + piece)
        if spec.segment_length is not None:
            assert heard == pushed // spec.segment_frames * spec.segment_stride
        else:
            waiting = pushed < spec.decoder_prefill
            assert heard == (0 if waiting else max(0, pushed * spec.hop_length - spec.decoder_delay))


@pytest.mark.parametrize("start", ["exact", "primed"])
@pytest.mark.parametrize("kind", KINDS)
def test_bandwidth_may_change_in_mid_stream(kind, start):
    """Frames that come out after the change use it; the latents do not depend on it."""
    codec = small_codec(kind)
    wav = signal(2, codec.spec.channels, 700)
    encoder, decoder = (codec.open_encoder(0.4, 2, start=start), codec.open_decoder(2))
    full = Codes.cat(push_all(codec.open_encoder(1.6, 2, start=start), wav, [(0, 700)]))
    parts = []
    for bandwidth, (first, last) in zip((0.4, 1.6, 0.8), ((0, 250), (250, 500), (500, 700)), strict=True):
        encoder.bandwidth = bandwidth
        assert encoder.bandwidth == bandwidth
        parts.append(encoder.push(wav[:, :, first:last]))
    parts.append(encoder.flush())
    assert [part.data.shape[1] for part in parts] == [1, 4, 2, 2]
    assert sum(part.length for part in parts) == 700
    at = 0
    for part in parts:
        stop = at + part.data.shape[2]
        assert torch.equal(part.data, full.data[:, : part.data.shape[1], at:stop])
        at = stop
    assert at == full.data.shape[2]
    assert torch.cat([*(decoder.push(part) for part in parts), decoder.flush()], 2).shape == wav.shape


@pytest.mark.parametrize("kind", KINDS)
def test_rows_of_a_batch_are_independent(kind):
    codec = small_codec(kind)
    wav = signal(3, codec.spec.channels, 500)
    together = Codes.cat(push_all(codec.open_encoder(1.6, 3), wav, [(0, 100), (100, 500)]))
    for row in range(3):
        alone = Codes.cat(push_all(codec.open_encoder(1.6), wav[row : row + 1], [(0, 100), (100, 500)]))
        assert torch.equal(together.data[row], alone.data[0])


# As published, and from one to the next no multiple of the hop.
SEGMENTS_OF_A_SECOND = {"48khz": {"chunk_length_s": 1.0, "overlap": 0.0125}}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_ten_minutes_drift_by_nothing(kind):
    """Positions and counts over a long stream in float32: 60,000 frames, in uneven pieces."""
    # Without an LSTM, which counts nothing and would take most of the time.
    codec = small_codec(kind, torch.float32, num_lstm_layers=0, **SEGMENTS_OF_A_SECOND.get(kind, {}))
    piece = signal(1, codec.spec.channels, 100_000)
    encoder, decoder = codec.open_encoder(1.6), codec.open_decoder()
    frames = samples = heard = 0
    for shift in range(6):
        for start, stop in cuts(60_000, [1, 17_003, 5, 29_999]):
            codes = encoder.push(piece[:, :, start + shift : stop + shift])
            frames, samples = frames + codes.data.shape[2], samples + codes.length
            heard += decoder.push(codes).shape[2]
    codes = encoder.flush()
    heard += decoder.push(codes).shape[2] + decoder.flush().shape[2]
    assert samples + codes.length == heard == 6 * 60_000
    assert frames + codes.data.shape[2] >= 60_000


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_minute_in_float32(kind):
    """In float32 the stream and the whole may break a near tie in two ways; audio from the same codes stays close."""
    codec = small_codec(kind, torch.float32, **SEGMENTS_OF_A_SECOND.get(kind, {}))
    wav = signal(1, codec.spec.channels, 61 * codec.spec.sample_rate + 5)
    expected = codec.encode(wav, 1.6)
    parts = push_all(codec.open_encoder(1.6), wav, cuts(wav.shape[2], [997, 1, 4000, 6, 11_111]))
    codes = Codes.cat(parts)
    assert codes.length == expected.length
    assert (codes.data != expected.data).any(1).float().mean() < 2e-3
    decoder = codec.open_decoder()
    pcm = torch.cat(
        [
            *(decoder.push(part) for part in split(codec, codes, cuts(codes.data.shape[2], [7, 500, 1]))),
            decoder.flush(),
        ],
        2,
    )
    torch.testing.assert_close(pcm, codec.decode(codes), rtol=0, atol=1e-5)


# -- what goes in and what comes out -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_int16_is_scaled_and_every_container_gives_the_same(kind):
    codec = small_codec(kind)
    pcm16 = (signal(1, codec.spec.channels, 333) * 32768).round().clamp(-32768, 32767).to(torch.int16)
    wav = pcm16.float() / 32768
    expected = codec.encode(wav, 1.6)
    for audio in (pcm16, pcm16.numpy(), wav, wav.numpy(), wav.double(), wav.double().numpy()):
        assert torch.equal(codec.encode(audio, 1.6).data, expected.data)
        encoder = codec.open_encoder(1.6)
        parts = [encoder.push(audio[:, :, :100]), encoder.push(audio[:, :, 100:]), encoder.flush()]
        assert_codes_equal(Codes.cat(parts), expected)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("start", ["exact", "primed"])
@pytest.mark.parametrize("form", [lambda pcm: pcm, lambda pcm: pcm.numpy()], ids=["torch", "numpy"])
def test_the_callers_arrays_are_neither_changed_nor_kept(kind, start, form):
    codec = small_codec(kind)
    wav = signal(1, codec.spec.channels, 400)
    pieces = cuts(400, [3, 100, 0, 59, 150])
    expected = push_all(codec.open_encoder(1.6, start=start), wav, pieces)
    sound = codec.open_decoder(start=start)
    expected_pcm = torch.cat([*(sound.push(codes) for codes in expected), sound.flush()], 2)
    encoder, decoder = codec.open_encoder(1.6, start=start), codec.open_decoder(start=start)
    given_back, heard = [], []
    for first, last in pieces:
        pcm = form(wav[:, :, first:last].clone())
        before = pcm.copy() if isinstance(pcm, np.ndarray) else pcm.clone()
        given_back.append(encoder.push(pcm))
        assert (pcm == before).all()
        pcm[:] = 9.0
    given_back.append(encoder.flush())
    assert_codes_equal(Codes.cat(given_back), Codes.cat(expected))
    for codes in given_back:
        before = codes.data.clone()
        heard.append(decoder.push(codes))
        assert torch.equal(codes.data, before)
        codes.data.zero_()
        if codes.scale is not None:
            codes.scale.fill_(9.0)
    heard.append(decoder.flush())
    assert torch.equal(torch.cat(heard, 2), expected_pcm)


@pytest.mark.parametrize("kind", KINDS)
def test_results_are_ordinary_tensors(kind):
    """Not inference tensors, not views: they may be written to and may take part in training."""
    codec = small_codec(kind)
    encoder, decoder = codec.open_encoder(1.6), codec.open_decoder()
    wav = signal(1, codec.spec.channels, 200)
    outputs = []
    for codes in (encoder.push(wav), encoder.flush(), codec.encode(wav, 1.6)):
        outputs += [codes.data] if codes.scale is None else [codes.data, codes.scale]
        embedding = torch.nn.Embedding(16, 3)
        embedding(codes.data).square().sum().backward()
        assert embedding.weight.grad is not None
        if codes.length == 200:
            outputs.append(codec.decode(codes))
    outputs += [decoder.push(codec.encode(wav, 1.6)), decoder.flush()]
    for tensor in outputs:
        assert not tensor.is_inference()
        assert not tensor.requires_grad
        assert tensor.is_contiguous()
        spare = codec.spec.hop_length * codec.spec.channels  # of the last frame, of which only a part was asked for
        assert tensor.untyped_storage().nbytes() <= (tensor.numel() + spare) * tensor.element_size()
        if tensor.is_floating_point() and tensor.numel():
            gain = torch.ones((), dtype=tensor.dtype, requires_grad=True)
            (tensor * gain).sum().backward()
            tensor.mul_(2)


@pytest.mark.parametrize("kind", KINDS)
def test_a_stream_holds_at_its_fullest_what_the_spec_says(kind):
    """Measured on storages, so that hidden views count; sample by sample, as a segment stream fills and empties."""
    longer = {"chunk_length_s": 0.3} if kind == "48khz" else {}  # 30 frames: the one that is never held weighs little
    codec = small_codec(kind, torch.float32, num_filters=16, hidden_size=32, **longer)
    encoder, decoder = codec.open_encoder(1.6, 2), codec.open_decoder(2)
    wav = signal(2, codec.spec.channels, 400)
    codes = codec.encode(wav, 1.6)
    encoder.push(wav[:, :, :200])  # a big piece, of which no more may stay behind than is needed
    most = {"encoder": 0, "decoder": 0}
    for i in range(200, 400):
        encoder.push(wav[:, :, i : i + 1])
        most["encoder"] = max(most["encoder"], held(encoder))
    for i in range(codes.data.shape[2] - 5):
        scale = None if codes.scale is None else codes.scale[:, i : i + 1]
        decoder.push(Codes(codes.data[:, :, i : i + 1], scale))
        if i >= codec.spec.decoder_prefill:
            most["decoder"] = max(most["decoder"], held(decoder))
    assert most["encoder"] / 2 == pytest.approx(codec.spec.encoder_bytes, rel=0.1)
    assert most["decoder"] / 2 == pytest.approx(codec.spec.decoder_bytes, rel=0.1)
    assert codec.spec.bytes_per_stream == codec.spec.encoder_bytes + codec.spec.decoder_bytes


def held(stream: EncoderStream | DecoderStream) -> int:
    """Bytes of every tensor storage that the moving part of a stream refers to."""
    storages: dict[int, int] = {}
    todo: list[Any] = [stream._core]
    while todo:
        item = todo.pop()
        if isinstance(item, Tensor):
            storages[item.untyped_storage().data_ptr()] = item.untyped_storage().nbytes()
        elif isinstance(item, (tuple, list)):
            todo += item
        elif isinstance(item, dict):
            todo += item.values()
        elif type(item).__module__.startswith("streamcodec") and not isinstance(item, torch.nn.Module):
            todo += [value for name, value in vars(item).items() if name not in ("network", "segments")]
    return sum(storages.values())


def test_bytes_follow_the_dtype():
    single, double = small_codec("24khz", torch.float32), small_codec("24khz", torch.float64)
    # Less than twice as many: every tensor of a state begins at a multiple of 64 bytes.
    assert single.spec.bytes_per_stream < double.spec.bytes_per_stream <= 2 * single.spec.bytes_per_stream


def test_new_weights_reach_primed_starts_and_the_fingerprint():
    """What a codec keeps for its streams is made again when the weights change in place."""
    torch.manual_seed(1)
    codec = EncodecCodec(SMALL)
    settle(codec)
    wav = signal(1, 1, 300)
    before = Codes.cat(push_all(codec.open_encoder(1.6, start="primed"), wav, [(0, 300)]))
    fingerprint, blob = codec.fingerprint, codec.open_encoder(start="primed").save()
    with torch.no_grad():
        for parameter in codec.encoder.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    after = Codes.cat(push_all(codec.open_encoder(1.6, start="primed"), wav, [(0, 300)]))
    silent = codec.spec.encoder_prefill
    expected = codec.encode(torch.cat([torch.zeros(1, 1, silent * codec.spec.hop_length), wav], 2), 1.6)
    assert (after.data != expected.data[:, :, silent:]).float().mean() < 0.02
    assert (after.data != before.data).float().mean() > 0.2
    assert codec.fingerprint != fingerprint
    with pytest.raises(StateError, match="other weights"):
        codec.open_encoder(state=blob)


# -- bad input -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BAD_AUDIO)
def test_bad_audio_leaves_an_encoder_as_it_was(name):
    bad, kind, message = BAD_AUDIO[name]
    codec = small_codec()
    wav = signal(2, 1, 300)
    encoder, expected = codec.open_encoder(1.6, 2), codec.encode(wav, 1.6)
    parts = []
    for start, stop in cuts(300, [0, 20, 100, 7]):
        assert_one_error(lambda: encoder.push(bad), kind, message)
        parts.append(encoder.push(wav[:, :, start:stop]))
    assert_one_error(lambda: encoder.push(bad), kind, message)
    parts.append(encoder.flush())
    assert_codes_equal(Codes.cat(parts), expected)
    if name != "batch":
        assert_one_error(lambda: codec.encode(bad), kind, message)


def stereo(data: Tensor | None = None, scale: Any = None, length: Any = None) -> Codes:
    return Codes(torch.zeros(2, 1, 3, dtype=torch.int64) if data is None else data, scale, length)


ONES = torch.ones(2, 3)
BAD_CODES = {
    "too high": (stereo(torch.full((2, 1, 3), 16), ONES), CodesError, r"16\.\.16.*0\.\.15"),
    "negative": (stereo(torch.full((2, 1, 3), -1), ONES), CodesError, r"-1\.\.-1.*0\.\.15"),
    "no codebook": (stereo(torch.zeros(2, 0, 3, dtype=torch.int64), ONES), ShapeError, r"\[2, 0, 3\].*1\.\.4"),
    "five codebooks": (stereo(torch.zeros(2, 5, 3, dtype=torch.int64), ONES), ShapeError, r"\[2, 5, 3\].*1\.\.4"),
    "float codes": (torch.zeros(2, 1, 3), DtypeError, "float32.*whole numbers"),
    "NumPy float codes": (np.zeros((2, 1, 3)), DtypeError, "float64.*whole numbers"),
    "truth values": (torch.zeros(2, 1, 3, dtype=torch.bool), DtypeError, "bool.*whole numbers"),
    "one dimension": (torch.zeros(3, dtype=torch.int64), ShapeError, r"\[3\].*\[None, :, None\] if it is one frame"),
    "two dimensions": (torch.zeros(2, 3, dtype=torch.int64), ShapeError, r"\[2, 3\].*index it with \[None\]"),
    "transformers'": (torch.zeros(1, 2, 1, 3, dtype=torch.int64), ShapeError, r"\[1, 2, 1, 3\].*transformers.*\[0\]"),
    "frames first": (torch.zeros(2, 9, 3, dtype=torch.int64), ShapeError, r"\[2, 9, 3\].*swap the last two"),
    "batch": (stereo(torch.zeros(1, 1, 3, dtype=torch.int64), ONES[:1]), ShapeError, "batch 1.*batch=2"),
    "no batch": (stereo(torch.zeros(0, 1, 3, dtype=torch.int64), ONES[:0]), ShapeError, r"\[0, 1, 3\]"),
    "no scale": (stereo(), ShapeError, r"scale \[B, T\], got None"),
    "bare codes": (torch.zeros(2, 1, 3, dtype=torch.int64), ShapeError, r"scale \[B, T\], got None"),
    "scale's shape": (stereo(None, torch.ones(2, 4)), ShapeError, r"\[2, 4\].*\[2, 3\]"),
    "scale's dtype": (stereo(None, torch.ones(2, 3, dtype=torch.int64)), DtypeError, "int64.*floating"),
    "scale is a list": (stereo(None, [[1.0] * 3] * 2), DtypeError, "list"),
    "scale is NaN": (stereo(None, ONES * math.nan), NonFiniteError, "scale"),
    "length below 0": (stereo(None, ONES, -1), CodesError, "-1"),
    "length too high": (stereo(None, ONES, 10_000), CodesError, "3 frames|10000|frames"),
    "a list": ([[0]], InputError, "list.*Codes"),
    "None": (None, InputError, "NoneType.*Codes"),
}


@pytest.mark.parametrize("name", BAD_CODES)
def test_bad_codes_leave_a_decoder_as_it_was(name):
    bad, kind, message = BAD_CODES[name]
    codec = small_codec("48khz")
    codes = codec.encode(signal(2, 2, 300), 1.6)
    decoder, parts = codec.open_decoder(2), []
    for part in split(codec, codes, cuts(codes.data.shape[2], [0, 5, 12, 3])):
        assert_one_error(lambda: decoder.push(bad), kind, message)
        parts.append(decoder.push(part))
    close(torch.cat([*parts, decoder.flush()], 2), codec.decode(codes))
    if name != "batch":
        assert_one_error(lambda: codec.decode(bad), kind, message)


def test_codes_that_claim_more_audio_than_they_hold_are_refused():
    codec = small_codec()
    data = codec.encode(signal(1, 1, 60)).data
    decoder = codec.open_decoder()
    for call in (codec.decode, decoder.push):
        assert_one_error(lambda call=call: call(Codes(data, None, 61)), CodesError, "10 frames.*60 samples, not for 61")
    assert decoder.push(Codes(data, None, 59)).shape[2] + decoder.flush().shape[2] == 59


def test_frames_after_the_last_ones_are_refused():
    codec = small_codec()
    codes = codec.encode(signal(1, 1, 57))
    decoder = codec.open_decoder()
    first = decoder.push(codes)
    assert_one_error(lambda: decoder.push(codes), StreamError, "after the last")
    assert torch.cat([first, decoder.flush()], 2).shape[2] == 57


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("start", ["exact", "primed"])
def test_flush_ends_a_stream(kind, start):
    codec = small_codec(kind)
    encoder, decoder = codec.open_encoder(start=start), codec.open_decoder(start=start)
    wav = signal(1, codec.spec.channels, 100)
    for stream, piece in ((encoder, wav), (decoder, codec.encode(wav))):
        stream.push(piece)
        assert not stream.closed
        stream.flush()
        assert stream.closed
        assert_one_error(lambda s=stream, p=piece: s.push(p), StreamClosedError, "push after flush.*open a new one")
        assert_one_error(stream.flush, StreamClosedError, "flush after flush")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("start", ["exact", "primed"])
def test_a_stream_that_heard_nothing_gives_nothing(kind, start):
    codec = small_codec(kind)
    encoder, decoder = codec.open_encoder(1.6, 2, start=start), codec.open_decoder(2, start=start)
    codes = encoder.flush()
    assert codes.data.shape == (2, 4, 0)
    assert codes.length == 0
    assert decoder.flush().shape == (2, codec.spec.channels, 0)


@pytest.mark.parametrize("value", [0.5, 0, -1.6, math.nan, math.inf, "1.6", None, [1.6]])
def test_a_bandwidth_not_on_offer_changes_nothing(value):
    codec = small_codec()
    encoder = codec.open_encoder(0.8)

    def change() -> None:
        encoder.bandwidth = value

    assert_one_error(change, BandwidthError, r"choose one of 0\.4, 0\.8, 1\.6")
    assert encoder.bandwidth == 0.8
    assert encoder.push(signal(1, 1, 100)).data.shape[1] == 2
    if value is not None:  # which asks for the default
        for call in (
            codec.open_encoder,
            lambda b: codec.encode(signal(1, 1, 9), b),
            lambda b: codec.open_decoder(bandwidth=b),
        ):
            assert_one_error(lambda call=call: call(value), BandwidthError, r"choose one of 0\.4, 0\.8, 1\.6")


@pytest.mark.parametrize("kind", KINDS)
def test_bad_ways_to_open_a_stream(kind):
    codec = small_codec(kind)
    for call in (codec.open_encoder, codec.open_decoder):
        for start in ("x", "", 1):
            assert_one_error(lambda call=call, s=start: call(start=s), InputError, "exact.*primed")
        for batch in (0, -1, 1.0, "2", True):
            assert_one_error(lambda call=call, b=batch: call(batch=b), InputError, "batch is .*at least 1")


# -- copies --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("start", ["exact", "primed"])
@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
def test_a_copied_stream_goes_on_by_itself(kind, start, copied):
    codec = small_codec(kind)
    wav, other = (signal(2, codec.spec.channels, 300, seed) for seed in (1, 2))
    encoder = codec.open_encoder(1.6, 2, start=start)
    decoder = codec.open_decoder(2, start=start)
    decoder.push(encoder.push(wav))
    for stream, opened in ((encoder, codec.open_encoder), (decoder, codec.open_decoder)):
        fork, again = copied(stream), opened(state=stream.save())
        assert fork.codec is codec
        inputs = [other, wav] if stream is encoder else [codec.encode(other, 1.6).data, codec.encode(wav, 0.8).data]
        if stream is decoder and kind == "48khz":
            inputs = [codec.encode(other, 1.6), codec.encode(wav, 0.8)]
            inputs = [Codes(codes.data[:, :, :10], codes.scale[:, :10]) for codes in inputs]
        outputs = [[end.push(inputs[0]), end.flush()] for end in (fork, again)]
        stream.push(inputs[1])  # the one that was copied hears something else
        for one, same in zip(*outputs, strict=True):
            assert one == same if isinstance(one, Codes) else torch.equal(one, same)
        assert fork.closed
        assert not stream.closed


# -- codebooks as another name of a bandwidth ----------------------------------------------------------------------


def test_a_number_of_codebooks_names_a_bandwidth_wherever_one_is_named():
    codec, wav = small_codec(), signal(1, 1, 300)
    expected = codec.encode(wav, 0.8)
    assert codec.encode(wav, num_codebooks=np.int64(2)) == expected
    encoder = codec.open_encoder(num_codebooks=2)
    assert (encoder.bandwidth, encoder.num_codebooks) == (0.8, 2)
    encoder.num_codebooks = 4
    assert encoder.bandwidth == 1.6
    encoder.bandwidth = torch.tensor(0.8)
    assert (encoder.bandwidth, encoder.num_codebooks) == (0.8, 2)
    assert Codes.cat([encoder.push(wav), encoder.flush()]) == expected
    primed = [
        codec.open_decoder(start="primed", **named).push(expected)
        for named in ({"bandwidth": 1.6}, {"num_codebooks": 4})
    ]
    assert torch.equal(*primed)
    for call in (lambda **names: codec.encode(wav, **names), codec.open_encoder, codec.open_decoder):
        with pytest.raises(InputError, match=r"bandwidth=0.8 and num_codebooks=2.*give one"):
            call(bandwidth=0.8, num_codebooks=2)
    with pytest.raises(BandwidthError, match=r"num_codebooks is 3.*choose one of 1, 2, 4"):
        encoder.num_codebooks = 3
    assert encoder.num_codebooks == 2


def test_numbers_of_numpy_and_torch_open_streams():
    codec, wav = small_codec(), signal(2, 1, 100)
    for two, kbps in ((np.int64(2), np.float32(1.6)), (torch.tensor(2), torch.tensor(1.6))):
        encoder = codec.open_encoder(kbps, two)
        assert (encoder.bandwidth, encoder.batch, type(encoder.batch)) == (1.6, 2, int)
        decoder = codec.open_decoder(two, start="primed", bandwidth=kbps)
        decoder.push(encoder.push(wav))
        assert codec.open_encoder(state=encoder.save()).batch == codec.open_decoder(state=decoder.save()).batch == 2


@pytest.mark.parametrize("start", ["exact", "primed"])
def test_a_decoder_takes_integers_of_any_type(start):
    codec = small_codec()
    data = codec.encode(signal(1, 1, 300)).data
    expected = codec.decode(data)
    for some in (data.to(torch.int16), data.to(torch.uint8), data.numpy(), data.numpy().astype(np.uint16)):
        assert torch.equal(codec.decode(some), expected)
        decoder, other = codec.open_decoder(start=start), codec.open_decoder(start=start)
        assert torch.equal(decoder.push(some), other.push(data))
