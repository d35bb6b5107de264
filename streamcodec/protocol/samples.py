"""Samples in float32, full scale 1, and as packets of PCM hold them."""

import numpy as np

from ..packet import Array
from .messages import PcmFormat

__all__ = ["INT16_SCALE", "from_wire", "rounded", "to_float", "to_wire"]

INT16_SCALE = np.float32(1 / 32768)  # int16 -32768 is -1.0, as in `audio`; a power of two, so both ways are exact


def to_wire(samples: Array, pcm: PcmFormat) -> Array:
    """[C, N], float32 or int16 (see `rounded`), as the format has it, [N, C]."""
    if pcm.format == "f32le":
        return to_float(samples).T
    return (samples if samples.dtype.kind == "i" else rounded(samples)).T


def from_wire(rows: Array) -> Array:
    """[N, C] int16 or float32 as float32 [C, N], full scale 1."""
    return to_float(rows.T)


def rounded(samples: Array) -> Array:
    """float32 as int16: to the nearest, ties to even, and clipped."""
    scaled = samples / INT16_SCALE
    np.rint(scaled, out=scaled)
    np.maximum(scaled, -32768, out=scaled)  # half the time of np.clip for a packet's few samples
    return np.minimum(scaled, 32767, out=scaled).astype(np.int16)


def to_float(samples: Array) -> Array:
    """int16 or float32 as float32, full scale 1."""
    if samples.dtype.kind == "i":
        return np.multiply(samples, INT16_SCALE, order="C")
    return np.ascontiguousarray(samples, dtype=np.float32)
