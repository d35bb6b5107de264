import json
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch

from streamcodec.cli import main
from streamcodec.errors import AudioError
from streamcodec.train import evaluate as module
from streamcodec.train.evaluate import OURS, Evaluation, Score, Usage, skipped, table, usage_line
from streamcodec.train.opus import audio_bytes, missing_tools, opus
from streamcodec.train.scores import pesq, stoi

needs_opus = pytest.mark.skipif(bool(missing_tools()), reason="opusenc and opusdec (opus-tools) are not installed")


class _Coarse:
    """A stand-in for a codec: rounds samples to a step that its bandwidth decides."""

    spec = SimpleNamespace(sample_rate=24000, channels=1, bandwidths=(1.0, 2.0), num_codebooks=1, codebook_size=4)

    def encode(self, wav: torch.Tensor, bandwidth: float) -> SimpleNamespace:
        frames = torch.arange(wav.shape[-1] // 100) % 2
        return SimpleNamespace(wav=wav, step=0.2 / bandwidth**3, data=frames[None, None])

    def decode(self, codes: SimpleNamespace) -> torch.Tensor:
        return (codes.wav / codes.step).round() * codes.step


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    # Noise in syllables: enough like speech for STOI to have something to compare.
    syllables = np.repeat(rng.uniform(0, 1, 16), 3000)
    for name in ("speech16k", "music"):
        (tmp_path / name).mkdir()
        for letter in "abc":
            soundfile.write(tmp_path / name / f"{letter}.wav", 0.2 * syllables * rng.standard_normal(48000), 24000)
    return tmp_path


def _scores(recordings: Path, **options: object) -> dict[tuple[str, str, float], Score]:
    evaluation = Evaluation(_Coarse(), [recordings], every=3, **options)
    list(evaluation.run())
    return {(score.group, score.system, score.nominal): score for score in evaluation.scores}


def test_a_better_codec_scores_better(recordings: Path) -> None:
    scores = _scores(recordings)
    assert len(scores) == 4
    low, high = scores["speech16k", OURS, 1.0], scores["speech16k", OURS, 2.0]
    assert high.stoi > low.stoi
    assert high.mel < low.mel
    assert high.si_sdr > low.si_sdr
    assert low.bits == 480 * 2  # frames, at two bits for one of four entries
    assert low.seconds == 2
    assert math.isnan(scores["music", OURS, 1.0].stoi)
    assert math.isnan(scores["music", OURS, 1.0].pesq)


@needs_opus
def test_opus_is_measured_beside_it(recordings: Path) -> None:
    scores = _scores(recordings, opus_rates=(8.0, 32.0))
    low, high = scores["music", "Opus", 8.0], scores["music", "Opus", 32.0]
    assert high.mel < low.mel
    assert 4_000 < low.bits / low.seconds < 14_000
    assert 20_000 < high.bits / high.seconds < 45_000


@needs_opus
def test_opus_comes_back_aligned_and_as_long_as_it_was() -> None:
    time = np.arange(30001) / 24000
    tone = (0.3 * np.sin(2 * np.pi * (300 + 200 * time) * time)).astype(np.float32)
    result = opus(tone, 24000, 64.0)
    assert result.audio.shape == tone.shape
    middle = slice(6000, 24000)
    error = result.audio[middle] - tone[middle]
    assert np.mean(error**2) < 0.01 * np.mean(tone[middle] ** 2)


def _page(*packets: bytes, unfinished: bool = False) -> bytes:
    lacing = b"".join(bytes([255] * (len(p) // 255) + [len(p) % 255]) for p in packets)
    if unfinished:
        lacing = lacing[:-1]
    return b"OggS" + bytes(22) + bytes([len(lacing)]) + lacing + b"".join(packets)


def test_bytes_of_audio_are_those_of_the_packets() -> None:
    head = _page(b"OpusHead") + _page(b"OpusTags" + bytes(300))
    assert audio_bytes(head + _page(bytes(10), bytes(255), bytes(600)) + _page(bytes(7))) == 872
    # A packet that goes on in the next page.
    assert audio_bytes(head + _page(bytes(255), unfinished=True) + _page(bytes(5))) == 260
    with pytest.raises(AudioError, match="Ogg page"):
        audio_bytes(head + b"noise")


def test_recordings_too_short_for_stoi_and_pesq_have_none() -> None:
    short = np.random.default_rng(0).uniform(-0.1, 0.1, 2000).astype(np.float32)
    assert math.isnan(stoi(short, short, 24000))
    pytest.importorskip("pesq", reason="PESQ needs the package pesq")
    assert math.isnan(pesq(short, short, 24000))
    assert math.isnan(pesq(np.zeros(48000, np.float32), np.zeros(48000, np.float32), 24000))


def test_usage_counts_codes(recordings: Path) -> None:
    evaluation = Evaluation(_Coarse(), [recordings])
    list(evaluation.run())
    usage = evaluation.usage()
    assert usage.frames == 6 * 480
    assert usage.shares == pytest.approx((0.5,))
    assert usage_line(usage).endswith("50%; not above 60%: codebook 0.")
    assert usage_line(Usage(5000, 1024, (700.0, 900.0))).endswith("68%, 88%; all above 60%.")
    assert usage_line(Usage(100, 1024, (70.0,))).endswith("too few frames to judge.")


def test_the_table_has_means_true_bitrates_and_dashes() -> None:
    nan = math.nan
    scores = [
        Score("speech", "a", OURS, 6.0, 1.0, 6000, 1.0, -1.0, 0.8, 2.0),
        Score("speech", "b", OURS, 6.0, 3.0, 10000, 2.0, -math.inf, nan, 3.0),
        Score("speech", "a", "Opus", 6.0, 1.0, 5210, 0.5, 2.0, 0.9, nan),
    ]
    rows = table(scores).splitlines()
    assert rows[0] == "| folder | files | system | kbps | mel distance | SI-SDR (dB) | STOI | PESQ |"
    assert rows[2] == "| speech | 2 | codec 6 | 4.00 | 1.500 | -1.00 | 0.800 | 2.50 |"
    assert rows[3] == "| speech | 1 | Opus 6 | 5.21 | 0.500 | 2.00 | 0.900 | - |"


def test_what_is_missing_is_named_and_left_out(recordings: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "missing_tools", lambda: ["opusenc"])
    monkeypatch.setattr(module, "missing_metrics", lambda: {"PESQ": "pesq"})
    sentences = skipped((6.0, 8.0))
    assert "PESQ is left out: the package pesq is missing" in sentences
    assert "Opus at 6, 8 kbps is left out" in sentences[-1]
    assert {system for _, system, _ in _scores(recordings, opus_rates=(6.0,))} == {OURS}
    assert all(math.isnan(score.pesq) for score in _scores(recordings).values())


@pytest.mark.slow
def test_the_command(recordings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    common = ["evaluate", str(recordings), "--every", "3", "--opus"]
    assert main([*common, "--output", str(tmp_path / "table.md")]) == 0
    shown = capsys.readouterr().out
    assert "| music | 1 | codec 6 |" in shown
    assert (tmp_path / "table.md").read_text() == shown
    assert main([*common, "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert len(values["scores"]) == 6
    assert values["scores"][0]["stoi"] is None
    assert main([*common, "1"]) == 2
    assert main(["evaluate", str(tmp_path / "nothing"), "--opus"]) == 2


@pytest.mark.slow
def test_pictures(recordings: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="pictures need the package matplotlib")
    arguments = ["evaluate", str(recordings), "--opus", "--spectrograms", str(tmp_path / "pictures"), "--every", "3"]
    assert main(arguments) == 0
    pictures = sorted(path.name for path in (tmp_path / "pictures").iterdir())
    assert pictures == ["music_a.png", "speech16k_a.png"]
    assert (tmp_path / "pictures" / "music_a.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
