from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch

import streamcodec
from streamcodec.evaluate.recording import Recording


class Coarse:
    """A stand-in for a codec: rounds samples to a step that its bandwidth decides."""

    spec = SimpleNamespace(sample_rate=24000, channels=1, bandwidths=(1.0, 2.0), num_codebooks=1, codebook_size=4)

    def encode(self, wav: torch.Tensor, bandwidth: float) -> SimpleNamespace:
        frames = torch.arange(wav.shape[-1] // 100) % 2
        return SimpleNamespace(wav=wav, step=0.2 / bandwidth**3, data=frames[None, None])

    def decode(self, codes: SimpleNamespace) -> torch.Tensor:
        return (codes.wav / codes.step).round() * codes.step


@pytest.fixture
def coarse() -> Coarse:
    return Coarse()


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    """Two folders of three recordings: noise in syllables, enough like speech for STOI to have something to compare."""
    rng = np.random.default_rng(0)
    syllables = np.repeat(rng.uniform(0, 1, 16), 3000)
    for name in ("speech16k", "music"):
        (tmp_path / name).mkdir()
        for letter in "abc":
            soundfile.write(tmp_path / name / f"{letter}.wav", 0.2 * syllables * rng.standard_normal(48000), 24000)
    return tmp_path


@pytest.fixture(scope="session")
def jfk() -> Recording:
    """Three seconds of real speech: "And so, my fellow Americans"."""
    audio, rate = soundfile.read(Path(streamcodec.__file__).parent / "bundled" / "jfk.flac", dtype="float32")
    return Recording("speech", "jfk", rate, audio[: 3 * rate], speech=True)
