"""A sound that breaks off goes on for a moment, at its own pitch, and fades; what comes after a gap joins it."""

import numpy as np
import pytest

from streamcodec.continuing import FADE_SECONDS, FADED_SECONDS, HISTORY_SECONDS, KEPT_SECONDS, Gaps, continued

RATES = [8000, 24000, 48000]
END_SECONDS = KEPT_SECONDS + FADED_SECONDS


def voice(seconds, rate, pitch=137.0, channels=1):
    """Harmonics of one pitch, [n, channels]."""
    time = np.arange(round(seconds * rate)) / rate
    sound = sum(np.sin(2 * np.pi * k * pitch * time + k) / k for k in range(1, 6)) * 0.2
    return np.tile(sound.astype(np.float32)[:, None], (1, channels))


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("pitch", [70.0, 137.0, 390.0])
def test_a_voice_goes_on_at_its_pitch(rate, pitch):
    sound = voice(0.2, rate, pitch)
    heard, rest = sound[: round(0.15 * rate)], sound[round(0.15 * rate) :]
    kept = round(KEPT_SECONDS * rate)
    goes_on = continued(heard, kept, rate)
    assert np.square(goes_on - rest[:kept]).sum() < 0.1 * np.square(rest[:kept]).sum()


@pytest.mark.parametrize("rate", RATES)
def test_it_is_silence_after_70_milliseconds_and_never_louder_than_it_was(rate):
    heard = voice(0.1, rate, channels=2)
    goes_on = continued(heard, rate, rate)
    assert goes_on.shape == (rate, 2)
    assert not goes_on[round(END_SECONDS * rate) :].any()
    assert np.abs(goes_on).max() <= np.abs(heard).max()


@pytest.mark.parametrize("count", [0, 1, round(HISTORY_SECONDS * 8000) - 20])
def test_of_too_little_the_last_sample_fades(count):
    heard = voice(1, 8000)[:count]
    goes_on = continued(heard, 400, 8000)
    assert not goes_on[round(FADE_SECONDS * 8000) :].any()
    last = heard[-1, 0] if count else 0
    steps = np.diff(np.concatenate([[last], goes_on[:, 0]]))
    assert np.abs(steps).max() <= abs(last) / round(FADE_SECONDS * 8000) + 1e-7


@pytest.mark.parametrize("level", [0.0, 1e-30, 1.0])
def test_silence_and_a_constant_are_no_trouble(level):
    goes_on = continued(np.full((4000, 1), level, np.float32), 800, 8000)
    assert np.isfinite(goes_on).all()
    assert np.abs(goes_on).max() <= level


@pytest.mark.parametrize("seed", range(5))
def test_gaps_are_the_same_however_they_and_what_comes_are_cut(seed):
    """And samples that are 5 ms from a gap are those that came."""
    rng, rate = np.random.default_rng(seed), 8000
    whole, cut, sound = Gaps(rate, 2), Gaps(rate, 2), voice(1.0, rate, channels=2)
    wanted, found = [], []
    for start, stop, missing in ((0, 1500, False), (1500, 1700, True), (1700, 5000, False), (5000, 6500, True),
                                 (6500, 8000, False)):  # fmt: skip
        wanted.append(whole.gap(stop - start) if missing else whole.push(sound[start:stop]))
        places = np.sort(rng.integers(start, stop, 5))
        for part in np.split(np.arange(start, stop), places - start):
            found.append(cut.gap(len(part)) if missing else cut.push(sound[part]))
    np.testing.assert_allclose(np.concatenate(found), np.concatenate(wanted), atol=1e-7)
    assert cut.concealed == whole.concealed
    fade = round(FADE_SECONDS * rate)
    for start, stop in ((0, 1500), (1700 + fade, 5000), (6500 + fade, 8000)):
        np.testing.assert_array_equal(np.concatenate(found)[start:stop], sound[start:stop])
    jumps = np.abs(np.diff(np.concatenate(found), axis=0)).max()
    assert jumps < 2 * np.abs(np.diff(sound, axis=0)).max()
