"""The ring between two threads."""

import sys
import threading
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamcodec.live.ring import Ring


@given(
    capacity=st.integers(1, 40),
    channels=st.integers(1, 3),
    calls=st.lists(st.tuples(st.sampled_from(["write", "read", "skip"]), st.integers(0, 50)), max_size=60),
)
def test_a_ring_is_a_queue_of_bounded_length(capacity, channels, calls):
    ring, queue, count = Ring(capacity, channels), [], 0
    lost = overruns = underruns = 0
    for call, n in calls:
        if call == "write":
            rows = np.arange(count, count + n, dtype=np.float32)[:, None] + 0.25 * np.arange(channels, dtype=np.float32)
            count += n
            fits = len(queue) + n <= capacity
            assert ring.write(rows) == fits
            queue += list(rows) if fits else []
            lost, overruns = lost + (0 if fits else n), overruns + (not fits)
        elif call == "read":
            out = np.full((n, channels), np.nan, np.float32)
            got = ring.read(out)
            assert got == min(n, len(queue))
            underruns += got < n
            np.testing.assert_array_equal(out[:got], np.reshape(queue[:got], (got, channels)))
            assert np.isnan(out[got:]).all()
            del queue[:got]
        else:
            n = min(n, len(queue))
            ahead = np.empty((len(queue) - n, channels), np.float32)
            ring.peek(n, ahead)
            np.testing.assert_array_equal(ahead, np.reshape(queue[n:], ahead.shape))
            ring.skip(n)
            del queue[:n]
        assert ring.fill == len(queue)
    assert (ring.lost, ring.overruns, ring.underruns) == (lost, overruns, underruns)


@pytest.fixture
def impatient_threads():
    """Threads that are interrupted every few operations."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.usefixtures("impatient_threads")
def test_two_threads_at_once_lose_and_repeat_nothing():
    ring, total, rng = Ring(97, 1), 50_000, np.random.default_rng(0)
    blocks = rng.integers(1, 40, total)

    def write() -> None:
        at = 0
        for n in blocks.tolist():
            rows = np.arange(at, min(at + n, total), dtype=np.float32)[:, None]
            while not ring.write(rows):
                time.sleep(0)
            at += len(rows)
            if at == total:
                return

    thread = threading.Thread(target=write)
    thread.start()
    got, out = [], np.empty((31, 1), np.float32)
    while sum(map(len, got)) < total and (thread.is_alive() or ring.fill):
        n = ring.read(out)
        if n:
            got.append(out[:n, 0].copy())
        else:
            time.sleep(0)
    thread.join()
    np.testing.assert_array_equal(np.concatenate(got), np.arange(total, dtype=np.float32))


@pytest.mark.parametrize("sizes", [(0, 1), (1, 0), (-1, 1)])
def test_an_impossible_ring_is_refused(sizes):
    with pytest.raises(ValueError, match="at least 1"):
        Ring(*sizes)
