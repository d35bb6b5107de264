"""The live example of README.md, pasted as it stands, on a virtual sound card."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from virtual_card import RATE, VirtualCard, missing, stop, urgent

from streamcodec.cli.roundtrip import RECORDING

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(missing()), reason=missing() or "-")]

ROOT = Path(__file__).parents[2]
NOTE = "<!-- run by tests/live/test_pasted.py -->\n```python\n"
STEP = RATE // 100  # 10 ms: an envelope's
LONGEST_DELAY = 150  # of these: what two devices' own buffers may add up to on a busy machine


def example() -> str:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return text.partition(NOTE)[2].partition("```")[0]


def envelope(samples: np.ndarray) -> np.ndarray:
    """The loudness of each 10 ms, without its mean."""
    rows = samples[: len(samples) // STEP * STEP].reshape(-1, STEP)
    level = np.log10(np.sqrt(np.mean(rows**2, 1)) + 1e-3)
    return level - level.mean()


def test_the_live_example_plays_what_is_said_into_the_microphone(tmp_path):
    try:
        pytest.importorskip("sounddevice", reason="needs sounddevice")
    except OSError as error:
        pytest.skip(f"needs libportaudio2: {error}")
    assert "sounddevice.Stream" in example()
    recording, rate = soundfile.read(RECORDING, dtype="float32")
    soundfile.write(tmp_path / "speech.wav", np.tile(recording, 4), rate)
    with VirtualCard() as card:
        recorder = card.record(tmp_path / "card.wav")
        card.play(tmp_path / "speech.wav")
        environment = {**card.environment, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            urgent(sys.executable, "-c", example()),
            cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        stop(recorder)
    assert done.returncode == 0, done.stderr
    both, _ = soundfile.read(tmp_path / "card.wav", dtype="float32", always_2d=True)
    microphone, speaker = envelope(both[:, 0]), envelope(both[:, 1])
    heard = np.flatnonzero(np.abs(both[:, 1]) > 1e-3)
    assert len(heard), "nothing was played"
    begin, end = heard[0] // STEP + 50, heard[-1] // STEP - 50
    assert end - begin > 500, "less than five of the ten seconds were played"
    alike = [
        np.corrcoef(speaker[begin:end], microphone[begin - delay : end - delay])[0, 1]
        for delay in range(min(begin, LONGEST_DELAY))
    ]
    assert max(alike) > 0.7, f"what was played does not follow what was said: {max(alike):.2f}"
