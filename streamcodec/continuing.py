"""How a sound goes on that breaks off: its last period again and again, fading (ITU-T G.711, appendix I, in short).

`streamcodec/server/page/continuing.js` does the same in a browser.
"""

import numpy as np
from numpy.typing import NDArray

__all__ = ["FADED_SECONDS", "FADE_SECONDS", "HISTORY_SECONDS", "KEPT_SECONDS", "Gaps", "continued", "sounding"]

Rows = NDArray[np.float32]  # [n, channels]

LOWEST, HIGHEST = 66.0, 400.0  # Hz, of a voice
COMPARED_SECONDS = 0.010  # at the end of the sound, to find where it was like this before
HISTORY_SECONDS = COMPARED_SECONDS + 1 / LOWEST  # that is looked at
KEPT_SECONDS, FADED_SECONDS = 0.010, 0.060  # at its full level; and from there to silence

FADE_SECONDS = 0.005  # between two sounds: long enough not to click, too short to be heard as a fade


class Gaps:
    """Fills the gaps of a stream of samples: the sound goes on, fades to silence, and joins what comes after.

    concealed: samples that stand for missing ones and are no silence. size: samples before a gap that are looked at.
    """

    def __init__(self, rate: int, channels: int) -> None:
        self.concealed = 0
        self._rate, self._nothing = rate, np.zeros((0, channels), np.float32)
        self.size = round(HISTORY_SECONDS * rate) + 2
        fade = max(1, round(FADE_SECONDS * rate))
        self._up: Rows = np.linspace(1 / fade, 1, fade, dtype=np.float32)[:, None]
        self.restart()

    def restart(self) -> None:
        """Another stream begins."""
        self._heard = self._goes_on = self._nothing
        self._risen = len(self._up)  # samples that have blended in since the last gap
        self._open = False

    @property
    def joining(self) -> bool:
        """Whether what comes next has to join what stood for missing samples."""
        return self._risen < len(self._up)

    def push(self, samples: Rows) -> Rows:
        """Samples that came, [n, channels]: as float32, and after a gap out of what stood for it."""
        count = min(len(self._up) - self._risen, len(samples))
        rows = samples.astype(np.float32, copy=count > 0)
        if count:
            up = self._up[self._risen : self._risen + count]
            rows[:count] *= up
            left = self._goes_on[:count]
            rows[: len(left)] += left * (1 - up[: len(left)])
            self._goes_on, self._risen = self._goes_on[count:], self._risen + count
        self._open = self._open and not len(samples)
        self._hear(rows)
        return rows

    def gap(self, count: int) -> Rows:
        """What stands for the next `count` samples, which are missing: [count, channels]."""
        if not self._open:
            length = round((KEPT_SECONDS + FADED_SECONDS) * self._rate)
            self._goes_on = continued(self._heard, length, self._rate)
            self._open, self._risen = True, 0
        rows: Rows = np.zeros((count, self._nothing.shape[1]), np.float32)
        now, self._goes_on = self._goes_on[:count], self._goes_on[count:]
        rows[: len(now)] = now
        self.concealed += sounding(now)
        self._hear(rows)
        return rows

    def _hear(self, rows: Rows) -> None:
        recent = rows if len(rows) >= self.size else np.concatenate([self._heard, rows])
        self._heard = recent[-self.size :]


def sounding(rows: Rows) -> int:
    """Samples up to the last that is no silence."""
    loud = np.flatnonzero(rows.any(1))
    return int(loud[-1]) + 1 if len(loud) else 0


def continued(heard: Rows, count: int, rate: int) -> Rows:
    """The next `count` samples of a sound, [count, channels], of its last ones, [n, channels], at `rate` Hz.

    Silence from 70 ms on. Where less was heard than is looked at the last sample fades, within 5 ms.
    """
    out: Rows = np.zeros((count, heard.shape[1]), np.float32)
    period = _period(heard.mean(1), rate) if len(heard) else 0
    if not period:
        fade = max(1, round(FADE_SECONDS * rate))
        level = 1 - np.arange(1, fade + 1, dtype=np.float32)[:count, None] / fade
        out[: len(level)] = heard[-1:] * level if len(heard) else 0
        return out
    kept, faded = round(KEPT_SECONDS * rate), round(FADED_SECONDS * rate)
    count = min(count, kept + faded)
    repeated = np.tile(heard[-period:], (-(-count // period), 1))[:count]
    level = np.clip((kept + faded - np.arange(count)) / faded, 0, 1).astype(np.float32)
    out[:count] = repeated * level[:, None]
    return out


def _period(heard: NDArray[np.float32], rate: int) -> int:
    """Samples after which the end of the sound is most like itself; 0 where too little was heard."""
    compared, least, most = round(COMPARED_SECONDS * rate), round(rate / HIGHEST), round(rate / LOWEST)
    if len(heard) < compared + most or least < 1:
        return 0
    end = heard[-compared:]
    windows = np.lib.stride_tricks.sliding_window_view(heard[-compared - most :], compared)[: most - least + 1]
    energy = np.square(windows).sum(1)
    likeness = windows @ end / np.sqrt(energy + 1e-9)
    return most - int(np.argmax(likeness))
