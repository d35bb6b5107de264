"""Samples between float32, full scale 1, and what packets of PCM hold."""

import numpy as np

from ..packet import Array
from .messages import PcmFormat

__all__ = ["INT16_SCALE", "from_wire", "to_wire"]

INT16_SCALE = np.float32(1 / 32768)  # int16 -32768 is -1.0, as in `audio`; a power of two, so both ways are exact


def to_wire(samples: Array, pcm: PcmFormat) -> Array:
    """float32 [C, N] as the format has it, [N, C]. s16le rounds to the nearest, ties to even, and clips."""
    if pcm.format == "f32le":
        return samples.T.astype(np.float32)
    rows = samples.T / INT16_SCALE
    np.maximum(rows, -32768, out=rows)  # half the time of np.clip for a packet's few samples
    np.minimum(rows, 32767, out=rows)
    return np.rint(rows, out=np.empty(rows.shape, np.int16), casting="unsafe")


def from_wire(samples: Array) -> Array:
    """[N, C] int16 or float32 as float32 [C, N], full scale 1."""
    if samples.dtype.kind == "i":
        return np.multiply(samples.T, INT16_SCALE, order="C")
    return np.ascontiguousarray(samples.T, dtype=np.float32)
