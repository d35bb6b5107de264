import json
import math
import re
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
import soundfile

from streamcodec.cli import main
from streamcodec.evaluate import evaluation as module
from streamcodec.evaluate.evaluation import Evaluation, Results, Score
from streamcodec.evaluate.measured import MeasuredCodec, Usage, usage_line
from streamcodec.evaluate.measures import WORDS, available
from streamcodec.evaluate.opus import Opus, missing_tools
from streamcodec.evaluate.recording import ORIGINAL, Recording, System
from streamcodec.evaluate.spectrogram import panels_of
from streamcodec.evaluate.words import WordErrors

needs_opus = pytest.mark.skipif(bool(missing_tools()), reason="opusenc and opusdec (opus-tools) are not installed")
QUICK = [measure for measure in available() if measure.field in ("stoi", "pesq", "mel", "si_sdr")]


def _scores(recordings: Path, *systems: System, **options: object) -> dict[tuple[str, str], Score]:
    evaluation = Evaluation(systems, [recordings], 24000, every=3, **{"measures": QUICK, **options})
    list(evaluation.run())
    return {(score.group, score.system): score for score in evaluation.scores}


def test_a_better_codec_scores_better(recordings: Path, coarse: object) -> None:
    scores = _scores(recordings, MeasuredCodec(coarse))
    assert len(scores) == 5
    low, high = scores["speech16k", "codec 1"], scores["speech16k", "codec 2"]
    assert high.values["stoi"] > low.values["stoi"]
    assert high.values["mel"] < low.values["mel"]
    assert high.values["si_sdr"] > low.values["si_sdr"]
    assert low.bits == 480 * 2  # frames, at two bits for one of four entries
    assert low.seconds == 2
    assert math.isnan(scores["music", "codec 1"].values["stoi"])
    assert math.isnan(scores["music", "codec 1"].values.get("pesq", math.nan))
    itself = scores["speech16k", ORIGINAL]
    assert (itself.values["mel"], itself.bits) == (0, None)
    assert itself.values["stoi"] == pytest.approx(1)
    assert ("music", ORIGINAL) not in scores


@needs_opus
def test_opus_is_measured_beside_it(recordings: Path) -> None:
    scores = _scores(recordings, Opus((8.0, 32.0)))
    low, high = scores["music", "Opus 8"], scores["music", "Opus 32"]
    assert high.values["mel"] < low.values["mel"]
    assert 4_000 < low.bits / low.seconds < 14_000
    assert 20_000 < high.bits / high.seconds < 45_000


def test_usage_counts_codes(recordings: Path, coarse: object) -> None:
    measured = MeasuredCodec(coarse)
    list(Evaluation([measured], [recordings], 24000, measures=QUICK).run())
    usage = measured.usage()
    assert usage.frames == 6 * 480
    assert usage.shares == pytest.approx((0.5,))
    assert usage_line(usage).endswith("50%; not above 60%: codebook 0.")
    assert usage_line(Usage(5000, 1024, (700.0, 900.0))).endswith("68%, 88%; all above 60%.")
    assert usage_line(Usage(100, 1024, (70.0,))).endswith("too few frames to judge.")


@pytest.mark.parametrize(("english", "said"), [((), None), (("a", "x*"), True), (("[bc]",), False)])
def test_words_are_counted_in_speech_that_is_english(
    recordings: Path, coarse: object, monkeypatch: pytest.MonkeyPatch, english: tuple[str, ...], said: bool | None
) -> None:
    asked = []

    class Words:
        def __init__(self, recording: Recording):
            asked.append((recording.group, recording.english))
            self.words, self.characters = (0, 0) if recording.english is False else (7, 30)

        def errors(self, result: np.ndarray, rate: int) -> WordErrors:
            return WordErrors(0.25, 0.125)

    monkeypatch.setattr(module, "Words", Words)
    scores = _scores(recordings, MeasuredCodec(coarse), english=english, measures=[*WORDS, *QUICK])
    assert asked == [("speech16k", said)]
    score = scores["speech16k", "codec 1"]
    assert (score.words, score.characters) == ((0, 0) if said is False else (7, 30))
    assert score.values["word_errors"] == pytest.approx(math.nan if said is False else 0.25, nan_ok=True)
    assert scores["music", "codec 1"].words == 0


def _run(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert main(["evaluate", *map(str, arguments)]) == 0
    return capsys.readouterr().out


@pytest.mark.slow
def test_the_command(recordings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    decoded = tmp_path / "decoded"
    (decoded / "music").mkdir(parents=True)
    (decoded / "music" / "a.wav").write_bytes((recordings / "music" / "a.wav").read_bytes())
    data = [recordings / "speech16k", recordings / "music"]
    common = [*data, "--every", "3", "--opus", "--anchor", f"Copy={decoded}", "--speech"]
    shown = _run(capsys, *common, "--output", tmp_path / "table.md")
    assert re.search(r"^\| music \| 1 \| codec 6 \| 6\.\d\d \|", shown, re.MULTILINE)  # a frame is counted whole
    assert "| music | 1 | Copy | - | 0.000 | - |" in shown
    assert f"left out: Copy, for want of files in {decoded}: a (" in shown
    assert (tmp_path / "table.md").read_text() == shown
    values = json.loads(_run(capsys, *common, "--json", "--anchors-only"))
    assert [(score["group"], score["system"]) for score in values["scores"]] == [("music", "Copy")]
    assert values["scores"][0]["mel"] == 0
    assert values["scores"][0]["si_sdr"] is None
    assert values["summary"][0]["statistics"]["mel"] == {"value": 0, "mean": 0, "deviation": None, "files": 1}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--opus", "1"], "Opus at 1 kbps"),
        (["--anchor", "EnCodec"], "must be NAME=FOLDER"),
        (["--anchor", "=x"], "must be NAME=FOLDER"),
        (["--anchor", "x=missing"], "missing is no folder"),
        (["--lyra", "missing"], "missing lacks soundstream_encoder.tflite"),
        (["--opus", "--anchors-only"], "leaves the codec out, and there is no"),
        (["--every", "0"], "--every is 0"),
    ],
)
def test_what_cannot_be_compared_is_said_before_anything_is_measured(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", str(tmp_path), *arguments]) == 2
    assert message in capsys.readouterr().err


def test_a_recording_without_samples_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    soundfile.write(tmp_path / "empty.wav", np.zeros(0), 24000)
    assert main(["evaluate", str(tmp_path), "--opus"]) == 2
    assert "empty.wav" in capsys.readouterr().err


@pytest.mark.slow
def test_each_recording_gets_a_picture_of_its_spectrograms(recordings: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="pictures need the package matplotlib")
    arguments = ["evaluate", str(recordings), "--opus", "--spectrograms", str(tmp_path / "pictures"), "--every", "3"]
    assert main([*arguments, "--speech"]) == 0
    pictures = sorted(path.name for path in (tmp_path / "pictures").iterdir())
    assert pictures == ["music_a.png", "speech16k_a.png"]
    assert (tmp_path / "pictures" / "music_a.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_a_picture_has_each_system_once() -> None:
    audio = np.zeros(4, np.float32)
    recording = SimpleNamespace(audio=audio, sample_rate=8000)
    decoded = [(system, audio, None) for system in ("original", "codec 6", "Opus 6")]
    results = cast(Results, SimpleNamespace(recording=recording, decoded=decoded))
    assert list(panels_of(results)) == ["original", "codec 6 kbps", "Opus 6 kbps"]
