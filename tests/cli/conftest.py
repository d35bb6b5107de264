"""Codecs to run, a recording, and the command line in process."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from commands import RATE, save_random_codec

from streamcodec.cli import main


@pytest.fixture(autouse=True)
def unexpected_errors_are_shown(monkeypatch):
    monkeypatch.setenv("STREAMCODEC_TRACEBACK", "1")


@pytest.fixture(scope="session")
def tiny(tmp_path_factory) -> str:
    return str(save_random_codec(tmp_path_factory.mktemp("codec") / "tiny", seed=0))


@pytest.fixture(scope="session")
def other(tmp_path_factory) -> str:
    """Of the same name and sizes, with other weights."""
    return str(save_random_codec(tmp_path_factory.mktemp("codec") / "tiny", seed=1))


@pytest.fixture(scope="session")
def stereo(tmp_path_factory) -> str:
    """Whole segments, normalised, as EnCodec 48 kHz has them; 4 kHz to be quick."""
    return str(
        save_random_codec(
            tmp_path_factory.mktemp("codec") / "stereo",
            seed=2,
            sampling_rate=4000,
            audio_channels=2,
            normalize=True,
            norm_type="time_group_norm",
            use_causal_conv=False,
            chunk_length_s=1.0,
            overlap=0.01,
            target_bandwidths=[0.078, 0.156],
        )
    )


@pytest.fixture
def voice(tmp_path) -> Path:
    """1.23 s of something with harmonics and noise, 24 kHz mono, not a whole number of frames."""
    rng = np.random.default_rng(0)
    time = np.arange(29517) / RATE
    pcm = sum(np.sin(2 * np.pi * 140 * n * time * (1 + 0.1 * time)) / n for n in range(1, 12))
    path = tmp_path / "voice.wav"
    soundfile.write(path, 0.15 * pcm + 0.02 * rng.standard_normal(len(time)), RATE)
    return path


@pytest.fixture
def cli(capsys, tmp_path, monkeypatch):
    """Run a command in `tmp_path`; its exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> tuple[int, str, str]:
        code = main([str(argument) for argument in arguments])
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def result(cli):
    """Run a command that must succeed, with --json; what it prints."""

    def run(*arguments: object) -> dict:
        code, out, err = cli(*arguments, "--json")
        assert code == 0, err
        assert out.count("\n") == 1
        return json.loads(out)

    return run
