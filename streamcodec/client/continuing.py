"""How a sound goes on that breaks off: its last period again and again, fading (ITU-T G.711, appendix I, in short)."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["HISTORY_SECONDS", "continued"]

Rows = NDArray[np.float32]  # [n, channels]

LOWEST, HIGHEST = 66.0, 400.0  # Hz, of a voice
COMPARED_SECONDS = 0.010  # at the end of the sound, to find where it was like this before
HISTORY_SECONDS = COMPARED_SECONDS + 1 / LOWEST  # that is looked at
KEPT_SECONDS, FADED_SECONDS = 0.010, 0.060  # at its full level; and from there to silence


def continued(heard: Rows, count: int, rate: int) -> Rows:
    """The next `count` samples of a sound, [count, channels], of its last ones, [n, channels], at `rate` Hz.

    Silence from 70 ms on, and all of it where less was heard than is looked at.
    """
    out: Rows = np.zeros((count, heard.shape[1]), np.float32)
    period = _period(heard.mean(1), rate)
    if not period:
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
