"""Samples in float32, full scale 1, and as packets of PCM hold them."""

import numpy as np

from ..int16 import INT16_SCALE, rounded
from ..packet import Array
from .messages import PcmFormat

__all__ = ["from_wire", "to_float", "to_wire"]


def to_wire(samples: Array, pcm: PcmFormat) -> Array:
    """[C, N], float32 or int16 (see `int16.rounded`), as the format has it, [N, C]."""
    if pcm.format == "f32le":
        return to_float(samples).T
    return (samples if samples.dtype.kind == "i" else rounded(samples)).T


def from_wire(rows: Array) -> Array:
    """[N, C] int16 or float32 as float32 [C, N], full scale 1."""
    return to_float(rows.T)


def to_float(samples: Array) -> Array:
    """int16 or float32 as float32, full scale 1."""
    if samples.dtype.kind == "i":
        return np.multiply(samples, INT16_SCALE, order="C")
    return np.ascontiguousarray(samples, dtype=np.float32)
