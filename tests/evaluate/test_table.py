import math

import numpy as np
import pytest

from streamcodec.evaluate.evaluation import Score
from streamcodec.evaluate.table import ALL_SPEECH, summary, table

NAN = math.nan


def score(group: str, name: str, system: str, bits: int | None = 6000, words: int = 0, **values: float) -> Score:
    return Score(group, name, group.startswith("speech"), system, 1.0, bits, words, 5 * words, values)


def test_cells_have_median_mean_and_deviation_and_bitrates_are_counted() -> None:
    scores = [
        score("speech", "a", "codec 6", 6000, mel=1.0, stoi=0.8, si_sdr=-math.inf),
        score("speech", "b", "codec 6", 6600, mel=2.0, stoi=NAN, si_sdr=-1.0),
        score("speech", "c", "codec 6", 6600, mel=6.0, stoi=0.9, si_sdr=-2.0),
        score("speech", "a", "Opus 6", 5210, mel=0.5, stoi=0.9, si_sdr=2.0),
        score("speech", "a", "EnCodec", None, mel=0.4, stoi=NAN, si_sdr=NAN),
    ]
    rows = table(summary(scores)).splitlines()
    assert rows[0] == "| folder | files | system | kbps | STOI | mel distance | SI-SDR (dB) |"
    assert rows[2] == (
        "| speech | 3 | codec 6 | 6.40 | 0.850 (0.850 ± 0.071) | 2.000 (3.000 ± 2.646) | -1.50 (-1.50 ± 0.71) |"
    )
    assert rows[3] == "| speech | 1 | Opus 6 | 5.21 | 0.900 | 0.500 | 2.00 |"
    assert rows[4] == "| speech | 1 | EnCodec | - | - | 0.400 | - |"


def test_errors_are_counted_over_all_words_and_characters() -> None:
    scores = [
        score("speech", "a", "codec 6", words=90, word_errors=0.1, character_errors=0.2),
        score("speech", "b", "codec 6", words=10, word_errors=1.0, character_errors=0.4),
        score("speech", "c", "codec 6", word_errors=NAN),  # not English
    ]
    (row,) = summary(scores)
    errors = row.statistics["word_errors"]
    assert errors.value == pytest.approx(0.19)
    assert errors[1:] == pytest.approx((0.55, np.std([0.1, 1.0], ddof=1), 2))
    assert row.statistics["character_errors"].value == pytest.approx(0.22)
    assert row.files == 3


def test_all_speech_comes_first_and_what_is_no_speech_has_a_table_of_its_own() -> None:
    scores = [
        score("speech", "a", "codec 6", mel=1.0, stoi=0.8),
        score("speech16k", "a", "codec 6", mel=2.0, stoi=0.9),
        score("music", "a", "codec 6", mel=3.0, stoi=NAN),
    ]
    rows = summary(scores)
    assert [(row.group, row.files) for row in rows] == [(ALL_SPEECH, 2), ("music", 1), ("speech", 1), ("speech16k", 1)]
    first, second = table(rows).split("\n\n")
    assert first.splitlines()[2].startswith(f"| {ALL_SPEECH} | 2 | codec 6 | 6.00 | 0.850 (")
    assert second.splitlines()[0] == "| folder | files | system | kbps | mel distance |"
    assert second.splitlines()[2:] == ["| music | 1 | codec 6 | 6.00 | 3.000 |"]
    assert [row.group for row in summary(scores[:1])] == ["speech"]


def test_systems_keep_their_order() -> None:
    scores = [score("music", name, system, mel=1.0) for name in "ab" for system in ("z 10", "z 9", "a 1")]
    assert [row.system for row in summary(scores)] == ["z 10", "z 9", "a 1"]
