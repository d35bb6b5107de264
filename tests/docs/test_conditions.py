"""The script that makes hard conditions of recordings."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

SCRIPT = Path(__file__).parents[2] / "docs" / "conditions.py"


def test_each_condition_is_what_it_says(tmp_path: Path) -> None:
    pytest.importorskip("soxr", reason="soxr is not installed (extra [test])")
    pytest.importorskip("scipy", reason="scipy is not installed (extra [evaluate])")
    time = np.arange(16_000) / 16_000
    (tmp_path / "in").mkdir()
    for name, frequency in (("a", 1000), ("b", 100)):
        soundfile.write(tmp_path / "in" / f"{name}.wav", 0.3 * np.sin(2 * np.pi * frequency * time), 16_000)
    subprocess.run([sys.executable, SCRIPT, tmp_path / "in", tmp_path / "out"], check=True)
    made = {
        folder.name: {path.stem: soundfile.read(path)[0] for path in folder.iterdir()}
        for folder in (tmp_path / "out").iterdir()
    }
    assert all(set(folder) == {"a", "b"} and len(folder["a"]) == 24_000 for folder in made.values())
    peaks = {name: 20 * np.log10(np.abs(folder["a"]).max()) for name, folder in made.items()}
    assert peaks["speech_0_dbfs"] == pytest.approx(0, abs=0.1)
    assert peaks["speech_20_dbfs_below"] == pytest.approx(-20, abs=0.1)
    assert peaks["speech_40_dbfs_below"] == pytest.approx(-40, abs=0.1)
    levels = {name: np.sqrt(np.mean(folder["b"] ** 2)) for name, folder in made.items()}
    assert levels["speech_telephone"] < 0.05 * levels["speech_20_dbfs_below"] * 10  # 100 Hz does not pass
    assert np.mean(np.abs(made["speech_clipped"]["a"]) > 0.49) > 0.5
    spectrum = np.abs(np.fft.rfft(made["speech_two_voices"]["a"]))
    assert set(np.argsort(spectrum)[-2:]) == {100, 1000}
