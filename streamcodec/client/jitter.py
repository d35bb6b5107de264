"""A jitter buffer: packets come when the network likes, samples go out at an even pace.

The cushion adapts to how unevenly packets came lately; where it fails, the sound goes on for a moment and fades.
"""

import threading
import time
from collections import deque
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ..continuing import FADE_SECONDS, FADED_SECONDS, HISTORY_SECONDS, KEPT_SECONDS, Gaps, continued, sounding

__all__ = ["JitterBuffer"]

Rows = NDArray[np.float32]  # [n, channels]

WINDOW_SECONDS = 5.0  # of arrivals by which the cushion is chosen; and for which a surplus must last before it is cut
LEAST_SECONDS = 0.010  # for late threads: a desktop's scheduler has 1 to 4 ms slices
MORE_SECONDS = 0.010  # what an underrun adds to the margin
MOST_SECONDS = 0.5  # of cushion: beyond it a conversation is lost anyway
CAPACITY_SECONDS = 2.0  # what may wait: beyond it the oldest samples are left out
MOST_ARRIVALS = 1024  # kept: bounded also where packets are tiny


class JitterBuffer:
    """`push` what comes, `pull` what is played; each may be called from its own thread.

    rate: Hz. block: samples of a `pull`, so that the cushion allows for it. clock: seconds, for when packets came.

    target: samples that must wait before playing begins: one packet and one block, and what covers the jitter: the
    spread of (time of arrival - time of the samples) over the last 5 s, and a margin that an underrun adds 10 ms to.
    Where more than that was left over for 5 s, the surplus is left out under a crossfade.

    Counted: played, samples of the signal; silence, samples in place of it; underruns, times that playing stopped for
    want of samples; dropped, samples left out; missing, samples that `gap` said were lost; concealed, of these two
    those in which the sound before them went on and faded: the rest was silence.
    """

    def __init__(self, rate: int, channels: int, block: int, clock: Callable[[], float] = time.monotonic) -> None:
        if min(rate, channels, block) < 1:
            raise ValueError(f"rate {rate}, channels {channels}, block {block}: each must be at least 1")
        self.rate, self.channels, self.block = rate, channels, block
        self.played = self.silence = self.underruns = self.dropped = self.missing = 0
        self.playing = False
        self._clock, self._lock = clock, threading.Lock()
        self._rows: Rows = np.zeros((0, channels), np.float32)
        self._fade = max(1, round(FADE_SECONDS * rate))
        self._up: Rows = np.linspace(1 / self._fade, 1, self._fade, dtype=np.float32)[:, None]
        self._risen = 0  # samples of the fade-in that are done
        self._heard: Rows = np.zeros((0, channels), np.float32)  # the last that was played
        self._size = round(HISTORY_SECONDS * rate) + 2  # of it that is kept
        self._tail: Rows = self._heard  # what is left of a sound that goes on
        self._gaps, self._went_on = Gaps(rate, channels), 0  # samples that went on where none were there
        self._margin = round(LEAST_SECONDS * rate)
        self._arrivals: deque[tuple[float, float]] = deque(maxlen=MOST_ARRIVALS)
        self._pushed = self._packet = self._spread = 0
        self._lowest, self._watched = 0, 0
        self._ended = False

    @property
    def concealed(self) -> int:
        """See the class."""
        return self._gaps.concealed + self._went_on

    @property
    def waiting(self) -> int:
        """Samples that wait to be played."""
        return len(self._rows)

    @property
    def target(self) -> int:
        """See the class."""
        most = round(MOST_SECONDS * self.rate)
        return self._packet + self.block + min(most, self._spread + self._margin)

    def push(self, samples: Rows) -> None:
        """More of the signal, [n, channels]."""
        if samples.ndim != 2 or samples.shape[1] != self.channels:
            raise ValueError(f"samples of shape {list(samples.shape)}; it must be [n, {self.channels}]")
        if not len(samples):
            return
        with self._lock:
            self._arrived(len(samples))
            self._rows = np.concatenate([self._rows, self._gaps.push(samples)])
            self._shorten(len(self._rows) - round(CAPACITY_SECONDS * self.rate) - self.target)
            self._ended = False

    def gap(self, samples: int) -> None:
        """So many samples are lost: the sound goes on and fades to silence, and time stays where it was."""
        with self._lock:
            self.missing += samples
            self._pushed += samples
            count = min(samples, round(CAPACITY_SECONDS * self.rate))
            self._rows = np.concatenate([self._rows, self._gaps.gap(count)])

    def end(self) -> None:
        """No more comes for now: what waits is played to its end, and its end is no underrun."""
        with self._lock:
            self._ended = True

    def pull(self, count: int) -> Rows:
        """The next `count` samples to be played, [count, channels], all finite."""
        with self._lock:
            out: Rows = np.zeros((count, self.channels), np.float32)
            if not self.playing and len(self._rows) and (self._ended or len(self._rows) >= self.target):
                self.playing, self._risen, self._watched = True, 0, 0
                left = self._tail[: self._fade]
                self._tail = left * (1 - self._up[: len(left)])  # it makes room
            broken_off = 0
            if self.playing:
                broken_off = self._play(out)
            else:
                self.silence += count
            self._fade_out(out[broken_off:])
            return out

    # Inside

    def _arrived(self, count: int) -> None:
        now = self._clock()
        self._packet = count if not self._arrivals else max(count, round(0.99 * self._packet))
        self._pushed += count
        arrivals = self._arrivals
        arrivals.append((now, now - self._pushed / self.rate))
        while arrivals[0][0] < now - WINDOW_SECONDS:
            arrivals.popleft()
        lateness = [late for _, late in arrivals]
        self._spread = round((max(lateness) - min(lateness)) * self.rate)

    def _play(self, out: Rows) -> int:
        """Fill `out`; where what waits ends in it, else 0."""
        count = min(len(out), len(self._rows))
        out[:count] = self._rows[:count]
        self._rows = self._rows[count:]
        self.played += count
        rising = min(count, self._fade - self._risen)
        out[:rising] *= self._up[self._risen : self._risen + rising]
        self._risen += rising
        self._heard = np.concatenate([self._heard, out[:count]])[-self._size :]
        if count < len(out):
            self._stop(out, count)
            return count
        self._watch(count)
        return 0

    def _stop(self, out: Rows, count: int) -> None:
        self.playing = False
        self.silence += len(out) - count
        if self._ended:
            self._arrivals.clear()  # what comes next is another stretch, with times of its own
            self._gaps.restart()
        else:
            self.underruns += 1
            self._margin = min(self._margin + round(MORE_SECONDS * self.rate), round(MOST_SECONDS * self.rate))
        self._fade_out(out[:count])
        left, tail = self._tail, self._goes_on()
        self._tail = np.zeros((max(len(left), len(tail)), self.channels), np.float32)
        self._tail[: len(left)] += left
        self._tail[: len(tail)] += tail
        self._heard = self._heard[:0]

    def _goes_on(self) -> Rows:
        """What is played where nothing more is there: the sound's last period, or at an end its last sample, fading."""
        if self._ended:
            return continued(self._heard[-1:], self._fade, self.rate)
        tail = continued(self._heard, round((KEPT_SECONDS + FADED_SECONDS) * self.rate), self.rate)
        self._went_on += sounding(tail)
        return tail

    def _fade_out(self, out: Rows) -> None:
        count = min(len(out), len(self._tail))
        if count:
            out[:count] += self._tail[:count]
            self._tail = self._tail[count:]

    def _watch(self, count: int) -> None:
        """Cut a cushion that was larger than needed for a whole window."""
        self._lowest = len(self._rows) if not self._watched else min(self._lowest, len(self._rows))
        self._watched += count
        if self._watched >= WINDOW_SECONDS * self.rate:
            self._watched = 0
            needed = min(self._spread + self._margin, round(MOST_SECONDS * self.rate))
            if self._lowest > needed + self.block + self._fade:
                self._shorten(self._lowest - needed)

    def _shorten(self, count: int) -> None:
        """Leave out `count` samples, if above 0: the first ones blend into those that follow."""
        fade = min(self._fade, len(self._rows) - count)
        if count <= 0 or fade < self._fade:
            return
        blend = self._rows[:fade] * (1 - self._up) + self._rows[count : count + fade] * self._up
        self._rows = np.concatenate([blend, self._rows[count + fade :]])
        self.dropped += count
