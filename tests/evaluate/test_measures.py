import importlib.util
import math
import sys

import numpy as np
import pytest

from streamcodec.evaluate import measures
from streamcodec.evaluate.measures import Measure, available, distillmos, left_out, pesq, stoi, visqol
from streamcodec.evaluate.recording import Recording

RATE = 24000
SPEECH = {"STOI": stoi, "PESQ": pesq, "ViSQOL": visqol, "DistillMOS": distillmos}


def _needs(name: str) -> None:
    measure = next(measure for measure in measures.MEASURES if measure.heading == name)
    if any(importlib.util.find_spec(module) is None for module in measure.modules):  # what imports them has its ways
        pytest.skip(f"{name} needs {' and '.join(measure.modules)} (extra {measure.extra})")


@pytest.mark.slow
@pytest.mark.parametrize("name", SPEECH)
def test_what_sounds_worse_has_a_lower_mark(name: str, jfk: Recording, capfd: pytest.CaptureFixture[str]) -> None:
    _needs(name)
    noise = np.random.default_rng(0).standard_normal(len(jfk.audio)).astype(np.float32)
    results = [jfk.audio, jfk.audio + 0.01 * noise, np.zeros_like(jfk.audio)]
    marks = [SPEECH[name](jfk.audio, result, jfk.sample_rate) for result in results]
    assert marks[0] > marks[1] > marks[2]
    assert capfd.readouterr().out == ""  # --json has standard output


@pytest.mark.slow
def test_marks_are_those_of_the_packages_own_scales(jfk: Recording) -> None:
    """Where a package falls back to something else, or hears another rate, these leave their ranges."""
    for name in SPEECH:
        _needs(name)
    itself = {name: measure(jfk.audio, jfk.audio, jfk.sample_rate) for name, measure in SPEECH.items()}
    assert itself["STOI"] == pytest.approx(1)
    assert itself["PESQ"] == pytest.approx(4.644, abs=0.001)
    assert 4.4 < itself["ViSQOL"] < 4.7  # 5.0 without the lattice
    assert 2.5 < itself["DistillMOS"] < 3.5  # a recording of 1961
    assert "torchaudio" not in sys.modules or sys.modules["torchaudio"].__file__


@pytest.mark.parametrize("name", SPEECH)
def test_what_cannot_be_judged_has_no_mark(name: str) -> None:
    _needs(name)
    measure = SPEECH[name]
    noise = np.random.default_rng(0).uniform(-0.1, 0.1, RATE).astype(np.float32)
    for short in (0, 1, 100, 2000, 9000):
        assert math.isnan(measure(noise[:short], noise[:short], RATE)) or short == 9000
    if name != "STOI":
        silence = np.zeros(RATE, np.float32)
        assert math.isnan(measure(silence, noise, RATE))
        assert measure(noise, silence, RATE) == 1


def test_what_is_missing_is_named_with_what_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    absent = (
        Measure("a", "Alpha", 1, stoi, ("no_such_package",), "visqol"),
        Measure("b", "Beta", 1, stoi, ("no_such_package", "json"), "visqol"),
        Measure("c", "Gamma", 1, stoi, ("json",), "whisper"),
    )
    monkeypatch.setattr(measures, "MEASURES", absent)
    assert [measure.field for measure in available()] == ["c"]
    (sentence,) = left_out()
    assert sentence.startswith("left out: Alpha and Beta, for want of no_such_package (pip install '.[visqol]'")
