"""Recordings to train on."""

from pathlib import Path

import numpy as np
import pytest
import soundfile


@pytest.fixture(scope="session")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two folders of tones in noise."""
    folder = tmp_path_factory.mktemp("train")
    rng = np.random.default_rng(0)
    for name, frequency in (("speech", 200), ("music", 440)):
        (folder / name).mkdir()
        time = np.arange(24000) / 24000
        tone = 0.2 * np.sin(2 * np.pi * frequency * time) + 0.01 * rng.standard_normal(24000)
        soundfile.write(folder / name / "tone.wav", tone, 24000)
    return folder
