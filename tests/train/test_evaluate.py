import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch

from streamcodec.train.evaluate import Score, codebook_usage, evaluate, table


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
    for name in ("speech", "music"):
        (tmp_path / name).mkdir()
        soundfile.write(tmp_path / name / "a.wav", 0.2 * syllables * rng.standard_normal(48000), 24000)
    return tmp_path


def test_a_better_codec_scores_better(recordings: Path) -> None:
    scores = {(score.group, score.bandwidth): score for score in evaluate(_Coarse(), recordings)}
    assert set(scores) == {(group, bandwidth) for group in ("speech", "music") for bandwidth in (1.0, 2.0)}
    low, high = scores["speech", 1.0], scores["speech", 2.0]
    assert high.stoi > low.stoi
    assert high.mel < low.mel
    assert high.si_sdr > low.si_sdr
    assert math.isnan(scores["music", 1.0].stoi)


def test_recordings_too_short_for_stoi_have_none(tmp_path: Path) -> None:
    (tmp_path / "speech").mkdir()
    soundfile.write(tmp_path / "speech" / "a.wav", 0.1 * np.random.default_rng(0).standard_normal(4000), 24000)
    assert all(math.isnan(score.stoi) for score in evaluate(_Coarse(), tmp_path))


def test_usage_counts_codes(recordings: Path) -> None:
    usage = codebook_usage(_Coarse(), recordings)
    assert usage.frames == 960
    assert usage.perplexities == pytest.approx((2.0,))


def test_the_table_has_means_and_dashes() -> None:
    shown = table([Score("speech", "a", 6.0, 0.8, 1.0, -1.0), Score("speech", "b", 6.0, math.nan, 2.0, -math.inf)])
    assert shown.splitlines()[-1] == "| speech | 2 | 6 | 0.800 | 1.500 | -1.000 |"
    assert "| - |" in table([Score("noise", "a", 6.0, math.nan, 1.0, 0.0)])
