"""The jitter buffer on a clock of its own, against arrivals of every kind."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamcodec.client import JitterBuffer, Missing, Mixer, Pcm
from streamcodec.client.jitter import CAPACITY_SECONDS, MOST_SECONDS

RATE, PACKET, BLOCK = 8000, 160, 80  # 20 ms and 10 ms


def simulate(arrivals, seconds, rate=RATE, signal=None):
    """Packets that come at the times of `arrivals`, and what is played at each block's time; buffer, output."""
    now = [0.0]
    buffer = JitterBuffer(rate, 1, BLOCK, clock=lambda: now[0])
    signal = np.ones(PACKET * len(arrivals), np.float32) if signal is None else signal
    events = [(time, 0, number) for number, time in enumerate(arrivals)]
    events += [((number + 1) * BLOCK / rate, 1, number) for number in range(int(seconds * rate / BLOCK))]
    out = []
    for time, kind, number in sorted(events):
        now[0] = time
        if kind == 0:
            buffer.push(signal[number * PACKET : (number + 1) * PACKET, None])
        else:
            out.append(buffer.pull(BLOCK))
    return buffer, np.concatenate(out)[:, 0]


def even(count):
    return (np.arange(count) + 1) * PACKET / RATE


def noise(count, seed=0):
    return np.random.default_rng(seed).uniform(0.5, 1, count).astype(np.float32)


def test_even_arrivals_are_played_whole_and_at_once():
    signal = noise(PACKET * 100)
    buffer, out = simulate(even(100), 2.0, signal=signal)
    assert buffer.underruns == buffer.dropped == 0
    start = np.flatnonzero(out)[0]
    assert start <= PACKET + BLOCK + 0.010 * RATE + 2 * BLOCK
    fade = round(0.005 * RATE)
    np.testing.assert_array_equal(out[start + fade :], signal[fade : len(out) - start])
    assert np.abs(np.diff(out[: start + fade])).max() < 0.55  # no jump from silence to the signal, beyond its own


@given(seed=st.integers(0, 10**6), jitter=st.floats(0, 0.1))
def test_nothing_is_lost_without_count_and_all_is_finite(seed, jitter):
    rng = np.random.default_rng(seed)
    arrivals = np.maximum.accumulate(even(150) + rng.uniform(0, jitter, 150))
    buffer, out = simulate(arrivals, 3.0 + jitter, signal=noise(PACKET * 150, seed))
    assert np.isfinite(out).all()
    assert np.abs(out).max() <= 2.0  # where a fade-out meets a fade-in both are heard
    assert buffer.played + buffer.waiting + buffer.dropped == PACKET * 150
    assert buffer.played + buffer.silence == len(out)


@given(seed=st.integers(0, 10**6), jitter=st.floats(0.005, 0.08))
def test_jitter_that_it_has_seen_no_longer_hurts(seed, jitter):
    """Over 20 s with the same jitter all underruns come early."""
    rng = np.random.default_rng(seed)
    count = 1000
    arrivals = np.maximum.accumulate(even(count) + rng.uniform(0, jitter, count))
    now = [0.0]
    buffer = JitterBuffer(RATE, 1, BLOCK, clock=lambda: now[0])
    events = sorted([(t, 0) for t in arrivals] + [((n + 1) * BLOCK / RATE, 1) for n in range(1990)])
    late = 0
    for time, kind in events:
        now[0] = time
        before = buffer.underruns
        buffer.push(np.ones((PACKET, 1), np.float32)) if kind == 0 else buffer.pull(BLOCK)
        late += buffer.underruns - before if time > 6.0 else 0
    assert buffer.underruns <= 6
    assert late <= 1
    assert buffer.target <= PACKET + BLOCK + (jitter + 0.010 + 0.010 * buffer.underruns + 0.002) * RATE


def test_a_stall_is_one_underrun_that_fades_out_and_in():
    arrivals = even(200)
    arrivals[100:115] = arrivals[115]  # 300 ms of nothing, then all at once
    buffer, out = simulate(arrivals, 3.9)
    assert buffer.underruns == 1
    assert np.abs(np.diff(out)).max() <= 1 / (0.005 * RATE) + 1e-6  # a signal of ones has no jump but the fades'
    silent = np.flatnonzero(out[2000:] == 0)
    assert 0.1 * RATE < len(silent) < 0.35 * RATE


def test_a_surplus_is_left_out_after_a_while_and_the_target_comes_down():
    """A stall leaves a cushion that nobody needs any more."""
    arrivals = even(1200)
    arrivals[50:70] = arrivals[70]
    now = [0.0]
    buffer = JitterBuffer(RATE, 1, BLOCK, clock=lambda: now[0])
    events = sorted([(t, 0) for t in arrivals] + [((n + 1) * BLOCK / RATE, 1) for n in range(2390)])
    fills = {}
    for time, kind in events:
        now[0] = time
        buffer.push(np.ones((PACKET, 1), np.float32)) if kind == 0 else buffer.pull(BLOCK)
        fills[round(time, 2)] = buffer.waiting, buffer.target
    assert buffer.underruns == 1
    assert fills[3.0][0] > 0.3 * RATE
    assert fills[23.0][0] < 0.1 * RATE
    assert fills[3.0][1] > 0.4 * RATE > 0.1 * RATE > fills[23.0][1]
    assert buffer.dropped > 0.2 * RATE


def test_memory_is_bounded_whatever_comes():
    buffer = JitterBuffer(RATE, 2, BLOCK, clock=lambda: 0.0)
    for _ in range(100):
        buffer.push(np.ones((RATE, 2), np.float32))
        buffer.gap(10**9)
    assert buffer.waiting <= (CAPACITY_SECONDS * 2 + MOST_SECONDS + 2) * RATE
    assert buffer.missing == 10**11


def test_the_end_of_a_stretch_is_no_underrun():
    buffer = JitterBuffer(RATE, 1, BLOCK, clock=lambda: 0.0)
    buffer.push(np.ones((10, 1), np.float32))  # less than a cushion: played all the same, since no more comes
    buffer.end()
    out = buffer.pull(200)
    assert buffer.underruns == 0
    assert np.count_nonzero(out) >= 10
    assert not buffer.pull(50).any()


@pytest.mark.parametrize("shape", [(5,), (5, 2), (1, 5, 1)])
def test_wrong_shapes_are_refused(shape):
    buffer = JitterBuffer(RATE, 1, BLOCK)
    with pytest.raises(ValueError, match=r"\[n, 1\]"):
        buffer.push(np.zeros(shape, np.float32))
    with pytest.raises(ValueError, match="at least 1"):
        JitterBuffer(RATE, 0, BLOCK)


def test_a_mixer_adds_up_its_streams():
    mixer = Mixer(RATE, 1, BLOCK, clock=lambda: 0.0)
    for stream, level in ((1, 0.25), (7, 0.5)):
        mixer.take(Pcm(0, np.full((400, 1), level, np.float32), stream, last=True))
    assert mixer.waiting == 400
    out = mixer.pull(400)
    assert out.max() == 0.75
    mixer.take(Missing(400, 50, 7))
    assert mixer.buffers[7].missing == 50
    assert mixer.underruns == 0
    assert not mixer.pull(200)[100:].any()
