"""Sample rates for live use: a short filter, streamed, so that little is withheld.

soxr, which files go through, works on long blocks: its streams withhold up to 38 ms at 48 to 24 kHz, and 73 ms at 8 to
24 kHz. This filter withholds 24 samples of the lower rate: 1 ms at 24 kHz, 3 ms at 8 kHz.
"""

import math

import numpy as np
from numpy.typing import NDArray

__all__ = ["Resampler"]

Rows = NDArray[np.float32]

# Zero crossings of the sinc on each side, at the lower rate. With the Kaiser window below the filter is 70 dB down and
# its transition band is 4.3 / 24 = 18 % of the lower rate's half wide (Kaiser 1974: width = (A - 8) / (2.285 * taps)).
CROSSINGS = 24
BETA = 6.76  # Kaiser's 0.1102 * (A - 8.7) for A = 70 dB
CUTOFF = 0.91  # of the lower rate's half: half the transition band below it, so that what aliases is 70 dB down
# Up to so many phases each is computed by itself, from a view without copies; with more the windows are gathered.
FEW_PHASES = 4


class Resampler:
    """Windowed-sinc resampling, streamed; what comes does not depend on how the signal was cut, to the bit.

    Sample m of the output is the input at the time m / target; it comes once `delay` samples of input beyond it are in.
    The signal before the first sample is silence.
    """

    def __init__(self, source: int, target: int, channels: int) -> None:
        common = math.gcd(source, target)
        self._up, self._down = target // common, source // common
        lower = min(1.0, target / source)
        self._half = math.ceil(CROSSINGS / lower)  # input samples on each side
        self._taps = _taps(self._up, self._half, CUTOFF * lower)
        self._same = source == target
        self.channels = channels
        self.source, self.target = source, target
        self.delay = 0 if self._same else self._half
        self._reset()

    def _reset(self) -> None:
        self._held: Rows = np.zeros((self.channels, self._half - 1), np.float32)
        self._numerator = 0  # of the next output's place after the first held sample's centre, in 1 / up input samples
        self._taken = self._given = 0

    def push(self, samples: Rows) -> Rows:
        """More input, [C, n]; returns the output that is final now, [C, m]."""
        if self._same:
            return samples
        self._taken += samples.shape[1]
        held = np.concatenate([self._held, samples], axis=1)
        # An output at x input samples after the centre uses held[floor(x) : floor(x) + 2 * half].
        last = held.shape[1] - 2 * self._half
        count = 0 if last < 0 else ((last + 1) * self._up - 1 - self._numerator) // self._down + 1
        if count <= 0:
            self._held = held
            return held[:, :0]
        out = self._filtered(held, count)
        self._numerator += count * self._down
        done = min(self._numerator // self._up, held.shape[1])
        self._numerator -= done * self._up
        self._held = held[:, done:].copy()
        self._given += count
        return out

    def finish(self) -> Rows:
        """The rest of the output, [C, m], as if silence followed; then a new signal begins.

        In all there are as many samples as the input has at the target's rate, rounded half up, as files have it.
        """
        total = self.length(self._taken)
        rest = total - self._given
        tail = self.push(np.zeros((self.channels, 0 if self._same else 2 * self._half), np.float32))[:, :rest]
        self._reset()
        return tail

    def length(self, samples: int) -> int:
        """Samples of output for a whole signal of as many of input."""
        return (2 * samples * self.target + self.source) // (2 * self.source)

    def _filtered(self, held: Rows, count: int) -> Rows:
        out = np.empty((held.shape[0], count), np.float32)
        up, down, width = self._up, self._down, 2 * self._half
        for channel, row in enumerate(held):
            windows = np.lib.stride_tricks.as_strided(
                row, (row.shape[0] - width + 1, width), (row.strides[0], row.strides[0]), writeable=False
            )
            # einsum without BLAS: a sum's bits do not depend on how many others are computed beside it.
            if up <= FEW_PHASES:
                for j in range(min(up, count)):
                    base, phase = divmod(self._numerator + j * down, up)
                    views = windows[base::down][: (count - j + up - 1) // up]
                    out[channel, j::up] = np.einsum("mk,k->m", views, self._taps[phase])
            else:
                places = self._numerator + down * np.arange(count)
                out[channel] = np.einsum("mk,mk->m", windows[places // up], self._taps[places % up])
        return out


def _taps(up: int, half: int, cutoff: float) -> Rows:
    """One filter for each of the `up` places between input samples, [up, 2 * half]; each passes a constant as is."""
    offset = np.arange(1 - half, half + 1)[None] - np.arange(up)[:, None] / up
    window = np.i0(BETA * np.sqrt(np.clip(1 - (offset / half) ** 2, 0, 1))) / np.i0(BETA)
    taps = np.sinc(cutoff * offset) * window
    return np.ascontiguousarray((taps / taps.sum(axis=1, keepdims=True)).astype(np.float32))
