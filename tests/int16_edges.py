"""Samples where rounding to int16 could go wrong, and what they are."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["EDGES", "INFINITE", "expected"]


def _edges() -> NDArray[np.float32]:
    """Every half step, which is where what comes out changes, from beyond one end to beyond the other; the numbers next
    to each; and small and large ones.
    """
    halves = (np.arange(-2 * 32770, 2 * 32770 + 1) / 65536).astype(np.float32)
    around = np.nextafter(halves, np.float32(-np.inf)), halves, np.nextafter(halves, np.float32(np.inf))
    others = np.array([-0.0, 1e-45, -1e-45, 1e-38, 1.5, -1.5, 100, -100, 1e9, -1e9, 1e30, -1e30], np.float32)
    return np.concatenate([*around, others])


EDGES = _edges()
INFINITE = np.array([np.inf, -np.inf, 3e38, -3e38], np.float32)  # so is the last pair, times 32768


def expected(samples: NDArray[np.float32]) -> NDArray[np.int16]:
    """By Python's own rounding, which takes ties to even, of products that are exact in float64."""
    steps = [max(-32768.0, min(32767.0, 32768.0 * float(sample))) for sample in samples]
    return np.array([round(step) for step in steps], np.int16)
