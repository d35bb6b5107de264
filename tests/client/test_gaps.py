"""The jitter buffer of a client: where samples are lost or late, the sound before them goes on and fades."""

import numpy as np
import pytest

from streamcodec.client import JitterBuffer
from streamcodec.continuing import FADED_SECONDS, KEPT_SECONDS

RATES = [8000, 24000, 48000]
END_SECONDS = KEPT_SECONDS + FADED_SECONDS


def voice(seconds, rate, pitch=137.0, channels=1):
    """Harmonics of one pitch, [n, channels]."""
    time = np.arange(round(seconds * rate)) / rate
    sound = sum(np.sin(2 * np.pi * k * pitch * time + k) / k for k in range(1, 6)) * 0.2
    return np.tile(sound.astype(np.float32)[:, None], (1, channels))


def played(rate, gap_seconds, pitch=137.0):
    """A voice with a gap of so many seconds after 0.2 s, through a jitter buffer: buffer, what is played, the voice."""
    block = rate // 100
    buffer, sound = JitterBuffer(rate, 1, block, clock=lambda: 0.0), voice(0.6, rate, pitch)
    start, gap = round(0.2 * rate), round(gap_seconds * rate)
    buffer.push(sound[:start])
    buffer.gap(gap)
    buffer.push(sound[start + gap :])
    buffer.end()
    return buffer, np.concatenate([buffer.pull(block) for _ in range(60)]), sound


@pytest.mark.parametrize("rate", RATES)
def test_a_short_gap_is_filled_without_a_jump_and_counted(rate):
    buffer, out, sound = played(rate, 0.02)
    start, end = round(0.2 * rate), round(0.22 * rate)
    assert np.square(out[start:end]).mean() > 0.5 * np.square(sound[start:end]).mean()
    assert np.abs(np.diff(out[start - 5 : end + 200, 0])).max() < 2 * np.abs(np.diff(sound[:, 0])).max()
    assert buffer.missing == buffer.concealed == end - start


def test_of_a_long_gap_the_rest_is_silence():
    buffer, out, _ = played(8000, 0.2)
    assert buffer.missing == 1600
    assert 0.9 * END_SECONDS * 8000 < buffer.concealed <= round(END_SECONDS * 8000)
    assert not out[round((0.2 + END_SECONDS) * 8000) + 1 : 3200].any()


def test_where_packets_are_late_the_sound_goes_on_and_makes_room_when_they_come():
    now, rate, out = [0.0], 8000, []
    buffer, sound = JitterBuffer(rate, 1, 80, clock=lambda: now[0]), voice(1.0, rate)
    for number in range(25):  # 20 ms each
        now[0] += 0.02
        buffer.push(sound[160 * number : 160 * (number + 1)])
        out += [buffer.pull(80), buffer.pull(80)]
    while buffer.playing:
        out.append(buffer.pull(80))
    out += [buffer.pull(80) for _ in range(3)]
    assert buffer.underruns == 1
    whole = np.concatenate(out)
    late = whole[np.flatnonzero(whole)[0] + 4000 - 1 :]  # what is played when all that came has been
    assert np.square(late[:80]).mean() > 0.5 * np.square(sound[:4000]).mean()
    assert buffer.concealed > 0
    buffer.push(sound[4000:])
    buffer.end()
    after = np.concatenate([buffer.pull(80) for _ in range(20)])
    fade = round(0.005 * rate)
    np.testing.assert_array_equal(after[fade:], sound[4000 + fade : 4000 + 1600])
    assert np.abs(np.diff(np.concatenate([late, after])[:, 0])).max() < 2 * np.abs(np.diff(sound[:, 0])).max()
