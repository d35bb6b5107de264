"""The codec in the package: its size, its delay, its work, its words, and what it makes of extreme input."""

import math
from importlib.resources import files
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import Tensor

import streamcodec
from streamcodec.audio import AudioReader
from streamcodec.entropy import FrameDecoder, FrameEncoder, Predictor, model_beside

FOLDER = Path(str(files("streamcodec") / "bundled" / "streamcodec_24khz"))
JFK = FOLDER.parent / "jfk.flac"

# What these weights reach on the recording in the package, less a little: what is below was broken by a change.
STOI = {1.0: 0.63, 1.5: 0.68, 3.0: 0.76, 6.0: 0.82}
LEVEL_DB = 2.5  # how far the level of the output may be from that of the input
PEAK, CLIPPED_PEAK = 1.6, 2.6  # of the output, over that of speech and of clipped speech
SILENCE_PEAK, SILENCE_LATER = 1e-3, 1e-5  # of what it makes of zeros, and of their second second


@pytest.fixture(scope="module")
def codec() -> streamcodec.Codec:
    return streamcodec.load()


@pytest.fixture(scope="module")
def jfk() -> Tensor:
    with AudioReader(JFK, 24_000, 1, 1 << 20) as reader:
        return torch.cat([torch.from_numpy(block) for block in reader], 1)[None]


def level(wav: Tensor) -> float:
    """Decibels below a full-scale square wave."""
    return 20 * math.log10(float(wav.square().mean().sqrt()) + 1e-9)


def test_it_fits_the_package_and_names_its_sources() -> None:
    assert sum(file.stat().st_size for file in FOLDER.iterdir()) <= 20 * 1000**2
    assert {"README.md", "NOTICE", "config.json", "model.safetensors"} <= {file.name for file in FOLDER.iterdir()}
    notice = (FOLDER / "NOTICE").read_text(encoding="utf-8")
    assert "Creative Commons Attribution 4.0" in notice
    assert "Lyra" in notice  # its teacher


def test_it_lags_by_one_frame_and_waits_for_nothing_else(codec: streamcodec.Codec) -> None:
    spec = codec.spec
    assert (spec.sample_rate, spec.channels, spec.hop_length, spec.frame_rate) == (24_000, 1, 480, 50.0)
    assert spec.bandwidths == (1.0, 1.5, 3.0, 6.0)
    assert [spec.codebooks(kbps) for kbps in spec.bandwidths] == [2, 3, 6, 12]
    assert spec.default_bandwidth == 6.0
    assert (spec.encoder_delay, spec.decoder_delay, spec.prefill_frames, spec.delay) == (0, 480, 0, 960)
    encoder, decoder = codec.open_encoder(), codec.open_decoder()
    pushed = [encoder.push(torch.zeros(1, 1, 480)) for _ in range(3)]
    assert [codes.data.shape for codes in pushed] == 3 * [(1, 12, 1)]
    assert [decoder.push(codes).shape[2] for codes in pushed] == [0, 480, 480]
    assert decoder.push(encoder.flush()).shape[2] + decoder.flush().shape[2] == 480


def test_its_card_has_its_sizes(codec: streamcodec.Codec) -> None:
    """GFLOP a second of audio, of the networks and of the search of all codebooks; weights; bytes."""
    spec, entries = codec.spec, codec.quantizer.codebooks.numel()
    networks, search = (2e-9 * spec.frame_rate * count for count in (sum(codec.framing.multiply_adds()), entries))
    weights = sum(parameter.numel() for parameter in codec.parameters())
    assert networks + search <= 1.2
    card = (FOLDER / "README.md").read_text(encoding="utf-8")
    for fact in (
        f"{networks:.2f} GFLOP a second of audio in the networks, {search:.2f} at most in the search",
        f"{weights / 1e6:.1f} M in the networks, {entries / 1e6:.2f} M in the codebooks",
        f"in the file ({(FOLDER / 'model.safetensors').stat().st_size / 1e6:.1f} MB)",
        f"{spec.bytes_per_stream / 1e3:.0f} kB a stream",
        f"{spec.delay / spec.sample_rate * 1000:.0f} ms: a frame, and one frame by which the decoder lags",
    ):
        assert fact in card, fact


def test_a_stream_of_any_pieces_equals_the_offline_run(jfk: Tensor) -> None:
    double, wav = streamcodec.load(dtype=torch.float64), jfk[..., :48_123]
    cuts = [0, 7, 967, 968, 5000, 5001, 17_346, 30_000, 48_123]
    encoder, decoder = double.open_encoder(3.0), double.open_decoder()
    codes = streamcodec.Codes.cat([*(encoder.push(wav[..., a:b]) for a, b in pairwise(cuts)), encoder.flush()])
    audio = torch.cat(
        [*map(decoder.push, codes.data.split([1, 5, 20, codes.data.shape[2] - 26], 2)), decoder.flush()], 2
    )
    offline = double.encode(wav, 3.0)
    assert torch.equal(codes.data, offline.data)
    wanted = double.decode(offline)
    torch.testing.assert_close(audio[..., : wanted.shape[2]], wanted, rtol=0, atol=1e-10)


@pytest.mark.parametrize("kbps", STOI)
def test_the_words_come_through(codec: streamcodec.Codec, jfk: Tensor, kbps: float) -> None:
    pystoi = pytest.importorskip("pystoi", reason="pystoi is not installed (extra [test])")
    wav = codec.decode(codec.encode(jfk, kbps))
    assert pystoi.stoi(jfk[0, 0].numpy(), wav[0, 0].numpy(), 24_000) >= STOI[kbps]


@pytest.mark.parametrize("peak_db", [0, -20, -40])
def test_quiet_and_loud_speech_keep_their_level(codec: streamcodec.Codec, jfk: Tensor, peak_db: float) -> None:
    wav = jfk[..., :96_000]
    wav = wav / wav.abs().max() * 10 ** (peak_db / 20)
    audio = codec.decode(codec.encode(wav))
    assert abs(level(audio) - level(wav)) < LEVEL_DB
    assert audio.abs().max() < PEAK * wav.abs().max()


def test_silence_stays_silent_and_what_is_clipped_stays_bounded(codec: streamcodec.Codec, jfk: Tensor) -> None:
    silence = codec.decode(codec.encode(torch.zeros(1, 1, 48_000))).abs()
    assert silence.max() < SILENCE_PEAK
    assert silence[..., 24_000:].max() < SILENCE_LATER
    clipped = (8 * jfk[..., :96_000]).clamp(-1, 1)
    audio = codec.decode(codec.encode(clipped))
    assert abs(level(audio) - level(clipped)) < LEVEL_DB
    assert audio.abs().max() < CLIPPED_PEAK


def test_an_entropy_model_beside_it_is_for_its_weights_and_saves_bits(codec: streamcodec.Codec, jfk: Tensor) -> None:
    model = model_beside(None)
    assert model is None or model.fingerprint == codec.fingerprint, "train it anew: docs/entropy.md"
    if model is None:
        return  # the codec is trained first
    for bandwidth in codec.spec.bandwidths:
        codes = codec.encode(jfk, bandwidth=bandwidth).data[0].numpy()
        coded = FrameEncoder(Predictor(model)).encode(codes)
        assert 8 * len(coded.data) < 0.96 * 10 * codes.size  # an old recording with noise: speech of today saves more
    assert (FrameDecoder(Predictor(model)).decode(coded, *codes.shape) == codes).all()
