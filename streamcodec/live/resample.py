"""Sample rates for live use: a short filter, so that little is withheld.

soxr, which files go through, works on long blocks: it was seen to withhold 38 ms at 48 to 24 kHz.
"""

import math

import numpy as np
from numpy.typing import NDArray

from .ring import Rows

__all__ = ["Resampler"]

# Zero crossings of the sinc on each side, at the lower rate. With the Kaiser window below the filter is 70 dB down and
# its transition band is 4.3 / 24 = 18 % of the lower rate's half wide (Kaiser 1974: width = (A - 8) / (2.285 * taps)).
CROSSINGS = 24
BETA = 6.76  # Kaiser's 0.1102 * (A - 8.7) for A = 70 dB
CUTOFF = 0.91  # of the lower rate's half: half the transition band below it, so that what aliases is 70 dB down


class Resampler:
    """Windowed-sinc resampling, streamed: the results of the pushes do not depend on how the signal was cut.

    Sample m of the output is the input at the time m / target; it comes once `delay` seconds of input beyond it are in.
    The signal before the first sample is taken as silence.
    """

    def __init__(self, source: int, target: int, channels: int) -> None:
        common = math.gcd(source, target)
        self._up, self._down = target // common, source // common
        lower = min(1.0, target / source)  # the lower rate, relative to the source's
        self._half = math.ceil(CROSSINGS / lower)  # input samples on each side
        self._taps = _taps(self._up, self._half, CUTOFF * lower)
        self._rows: Rows = np.zeros((self._half - 1, channels), np.float32)
        self._numerator = 0  # of the next output's place after the first held row's centre, in 1 / up input samples
        self.delay = 0.0 if source == target else self._half / source
        self._same = source == target

    def push(self, rows: Rows) -> Rows:
        """More input [n, channels]; returns the output now final, [m, channels]."""
        if self._same:
            return rows
        held = np.concatenate([self._rows, rows])
        # An output at x input samples after the centre uses held[floor(x) : floor(x) + 2 * half].
        last = len(held) - 2 * self._half
        count = 0 if last < 0 else ((last + 1) * self._up - 1 - self._numerator) // self._down + 1
        if count <= 0:
            self._rows = held
            return held[:0]
        places = self._numerator + self._down * np.arange(count)
        base, phase = places // self._up, places % self._up
        windows = np.lib.stride_tricks.sliding_window_view(held, 2 * self._half, axis=0)[base]
        out: Rows = np.einsum("mck,mk->mc", windows, self._taps[phase]).astype(np.float32)
        self._numerator += count * self._down
        done = min(self._numerator // self._up, len(held))
        self._numerator -= done * self._up
        self._rows = held[done:]
        return out


def _taps(up: int, half: int, cutoff: float) -> NDArray[np.float64]:
    """One filter for each of the `up` places between input samples, [up, 2 * half]; each passes a constant as is."""
    offset = np.arange(1 - half, half + 1)[None] - np.arange(up)[:, None] / up
    window = np.i0(BETA * np.sqrt(np.clip(1 - (offset / half) ** 2, 0, 1))) / np.i0(BETA)
    taps = np.sinc(cutoff * offset) * window
    return taps / taps.sum(axis=1, keepdims=True)
