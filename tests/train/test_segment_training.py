"""EnCodec 48 kHz's layout in training: two channels, whole segments, each normalised; transformers reads the export."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from train_small import run_of, small
from transformers import EncodecModel

from streamcodec import Codes
from streamcodec.checkpoint import load
from streamcodec.codecs.encodec import EncodecCodec
from streamcodec.errors import ConfigError
from streamcodec.train.build import export_run
from streamcodec.train.loop import Run
from streamcodec.train.model import Networks

RATE, SEGMENT = 8000, 1600
CODEC: dict[str, Any] = {
    "audio_channels": 2,
    "sampling_rate": RATE,
    "upsampling_ratios": [5, 4, 4, 2],
    "target_bandwidths": [1.0, 2.0],
    "default_bandwidth": 2.0,
    "normalize": True,
    "norm_type": "time_group_norm",
    "use_causal_conv": False,
    "pad_mode": "reflect",
    "use_conv_shortcut": True,
    "chunk_length_s": SEGMENT / RATE,
    "num_filters": 4,
}
SECTIONS: dict[str, dict[str, Any]] = {
    "codec": CODEC,
    "data": {"crop_samples": SEGMENT},
    "run": {"steps": 40},
    "optimizer": {"learning_rate": 4e-3},
    "loss": {"mel": 6.0, "adversarial": 0.0, "feature": 0.0},
}


@pytest.fixture(scope="module")
def sides(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tone on the left, another one on the right."""
    folder = tmp_path_factory.mktemp("segments")
    time = np.arange(2 * RATE) / RATE
    tones = np.stack([0.2 * np.sin(2 * np.pi * 200 * time), 0.05 * np.sin(2 * np.pi * 1500 * time)], 1)
    soundfile.write(folder / "tones.wav", tones, RATE)
    return folder


@pytest.fixture(scope="module")
def run(sides: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished training; `heard` are its figures."""
    made = run_of(sides, tmp_path_factory.mktemp("segment_run"), **SECTIONS)
    made.heard = list(made.updates())
    return made


def test_it_learns_in_seconds(run: Run) -> None:
    mel = [figures["mel"] for figures in run.heard]
    assert sum(mel[-10:]) / 10 < 0.6 * mel[0], (mel[0], mel[-10:])
    assert all(math.isfinite(value) for figures in run.heard for value in figures.values())


def test_the_export_streams_and_gives_the_same_codes_here_and_in_transformers(run: Run, tmp_path: Path) -> None:
    folder = export_run(run.folder, tmp_path / "codec")
    ours, theirs = load(folder), EncodecModel.from_pretrained(folder).eval()
    assert ours.segments is not None
    assert (ours.segments.length, ours.segments.normalize) == (SEGMENT, True)
    assert ours.segments.stride is not None
    wav = 0.1 * torch.randn(1, 2, 3 * ours.segments.stride + 480, generator=torch.Generator().manual_seed(0))
    codes = ours.encode(wav, 2.0)
    with torch.no_grad():
        expected = theirs.encode(wav, bandwidth=2.0)
        audio = theirs.decode(**expected).audio_values[:, :, : wav.shape[2]]
    found = torch.cat(list(expected.audio_codes), 2)
    assert torch.equal(codes.data, found[:, :, : codes.data.shape[2]])
    torch.testing.assert_close(ours.decode(codes), audio, rtol=1e-4, atol=1e-5)
    stream = ours.open_encoder(bandwidth=2.0)
    pieces = [stream.push(wav[..., :1900]), stream.push(wav[..., 1900:]), stream.flush()]
    assert torch.equal(Codes.cat(pieces).data, codes.data)


def test_training_sees_a_segment_as_the_codec_does() -> None:
    torch.manual_seed(0)
    codec, same = (EncodecCodec(small(**SECTIONS).codec_config()) for _ in range(2))
    same.load_state_dict(codec.state_dict())
    trained = Networks(same, torch.device("cpu"), bfloat16=False)
    audio = 0.1 * torch.randn(3, 2, SEGMENT, generator=torch.Generator().manual_seed(1))
    trained.initialise(audio.flatten(0, 1))
    assert codec.segments is not None
    with torch.no_grad():
        latents, scale, _ = codec.segments.encode_one(audio.transpose(1, 2), codec.encoder)
        heard = trained.encode(audio.flatten(0, 1))
        torch.testing.assert_close(heard.values, latents, rtol=1e-4, atol=1e-5)
        wanted = codec.segments.decode_one(latents, scale, codec.decoder).transpose(1, 2).flatten(0, 1)
        torch.testing.assert_close(trained.decode(heard.values, heard.scale), wanted, rtol=1e-4, atol=1e-5)


def test_mistakes_are_told(sides: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=rf"crop must be one of them: set data\.crop_samples = {SEGMENT}"):
        run_of(sides, tmp_path, **SECTIONS | {"data": {"crop_samples": 3200}})
    with pytest.raises(ConfigError, match=r"set codec\.chunk_length_s = 1\.0"):
        small(codec=CODEC | {"chunk_length_s": 0.0})
    with pytest.raises(ConfigError, match=r"norm_type 'batch' is not known"):
        small(codec=CODEC | {"norm_type": "batch"})
    with pytest.raises(ConfigError, match=r"codec\.overlap 1\.0"):
        small(codec=CODEC | {"overlap": 1.0})
    with pytest.raises(ConfigError, match="knows no norms"):
        small(codec=CODEC | {"audio_channels": 1, "start": "transform"})
    with pytest.raises(ConfigError, match=r"leave teacher\.codec out"):
        run_of(sides, tmp_path, **SECTIONS | {"teacher": {"codec": "bundled"}})
