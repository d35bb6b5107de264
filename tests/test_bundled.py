"""The codec in the package: its size, its start, its words, and that transformers reads it the same way."""

from importlib.resources import files
from pathlib import Path

import pytest
import torch

import streamcodec
from streamcodec.audio import AudioReader

FOLDER = Path(str(files("streamcodec") / "bundled" / "streamcodec_24khz"))
JFK = FOLDER.parent / "jfk.flac"


@pytest.fixture(scope="module")
def codec() -> streamcodec.Codec:
    return streamcodec.load()


@pytest.fixture(scope="module")
def jfk() -> torch.Tensor:
    with AudioReader(JFK, 24_000, 1, 1 << 20) as reader:
        return torch.cat([torch.from_numpy(block) for block in reader], 1)[None]


def test_it_fits_the_package_and_names_its_sources() -> None:
    assert sum(file.stat().st_size for file in FOLDER.iterdir()) <= 8 * 1000**2
    assert {"README.md", "NOTICE", "config.json", "model.safetensors"} <= {file.name for file in FOLDER.iterdir()}
    assert "CC BY" in (FOLDER / "NOTICE").read_text(encoding="utf-8").replace("CC-BY", "CC BY")


def test_it_waits_for_nothing(codec: streamcodec.Codec) -> None:
    spec = codec.spec
    assert (spec.sample_rate, spec.channels, spec.bandwidths[0], spec.bandwidths[-1]) == (24_000, 1, 1.5, 6.0)
    assert (spec.encoder_delay, spec.decoder_delay, spec.prefill_frames) == (0, 0, 0)
    codes = codec.open_encoder().push(torch.zeros(1, 1, spec.hop_length))
    assert codes.data.shape == (1, 8, 1)
    assert codec.open_decoder().push(codes).shape == (1, 1, spec.hop_length)


def test_transformers_gives_the_same_codes_and_audio(jfk: torch.Tensor) -> None:
    transformers = pytest.importorskip("transformers", reason="transformers is not installed (extra [test])")
    model = transformers.EncodecModel.from_pretrained(FOLDER).eval()
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    model, ours = model.double(), streamcodec.load(dtype=torch.float64)
    assert ours.spec.bandwidths == (1.5, 3.0, 6.0)
    for bandwidth in ours.spec.bandwidths:
        with torch.no_grad():
            theirs = model.encode(jfk.double(), bandwidth=bandwidth)
            wav = model.decode(theirs.audio_codes, theirs.audio_scales)[0]
        codes = ours.encode(jfk, bandwidth)
        assert torch.equal(codes.data, theirs.audio_codes[0])
        # Weight norm is merged in float32 here and in float64 there: the weights differ by a rounding.
        torch.testing.assert_close(ours.decode(codes), wav[..., : jfk.shape[-1]], rtol=0, atol=1e-6)


def test_the_words_come_through(codec: streamcodec.Codec, jfk: torch.Tensor) -> None:
    pystoi = pytest.importorskip("pystoi", reason="pystoi is not installed (extra [test])")
    wav = codec.decode(codec.encode(jfk, 6.0))
    assert pystoi.stoi(jfk[0, 0].numpy(), wav[0, 0].numpy(), 24_000) >= 0.70
