import dataclasses

import numpy as np
import pytest

from streamcodec.evaluate.measures import WORDS
from streamcodec.evaluate.recording import Recording
from streamcodec.evaluate.words import Words, plain

for module in WORDS[0].modules:
    pytest.importorskip(module, reason=f"word errors need the package {module} (extra whisper)")


def test_case_and_punctuation_are_no_words() -> None:
    assert plain(" Well-known:  it's\n12 o'clock! ") == "well known it's 12 o'clock"
    assert plain("…") == ""


@pytest.mark.slow
def test_words_are_lost_in_noise_and_not_in_the_recording_itself(jfk: Recording) -> None:
    words = Words(jfk)  # Whisper finds out that it is English
    assert words.reference == "and so my fellow americans"
    assert (words.words, words.characters) == (5, 26)
    assert words.errors(jfk.audio, jfk.sample_rate) == (0, 0)
    noise = np.random.default_rng(0).standard_normal(len(jfk.audio)).astype(np.float32)
    lost = words.errors(0.1 * jfk.audio + 0.3 * noise, jfk.sample_rate)
    assert lost.word_errors >= 0.8
    assert lost.character_errors >= 0.5


def test_what_is_said_not_to_be_english_has_no_words(jfk: Recording) -> None:
    words = Words(dataclasses.replace(jfk, english=False))
    assert (words.words, words.characters) == (0, 0)
    empty = Words(dataclasses.replace(jfk, audio=jfk.audio[:0], english=True))
    assert (empty.words, empty.characters) == (0, 0)
