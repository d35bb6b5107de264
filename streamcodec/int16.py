"""Samples of full scale 1 as int16, by one rule: times 32768, to the nearest, ties to even, and clipped.

So what was int16 comes back with its bits. `pcm.as_int16` is the same for torch, and `give_int16` in C++.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["INT16_SCALE", "rounded"]

INT16_SCALE = np.float32(1 / 32768)  # int16 -32768 is -1.0; a power of two, so both ways are exact


def rounded(samples: NDArray[Any]) -> NDArray[np.int16]:
    """Samples of any shape, float, as int16; none may be NaN."""
    scaled = samples / INT16_SCALE
    np.rint(scaled, out=scaled)
    np.maximum(scaled, -32768, out=scaled)  # half the time of np.clip for a packet's few samples
    return np.minimum(scaled, 32767, out=scaled).astype(np.int16)
