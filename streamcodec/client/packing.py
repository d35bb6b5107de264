"""A caller's samples and codes, checked and cut into what fits into packets."""

from collections.abc import Iterator
from typing import SupportsFloat, SupportsIndex

import numpy as np

from ..errors import CodesError, DtypeError, InputError, NonFiniteError, ShapeError
from ..int16 import INT16_SCALE
from ..packet import HEADER_BYTES, Array
from ..protocol import CodecFacts, PcmFormat
from ..scalars import meant, real, whole

__all__ = ["checked_codes", "checked_pcm", "chosen_bandwidth", "frames_of", "pieces", "samples_of"]

MAX_COUNT = 65_535  # of a packet's header
AROUND = HEADER_BYTES + 8 + 4  # bytes beside samples or codes: length and CRC-32


def checked_pcm(samples: Array, pcm: PcmFormat, peak: float) -> Array:
    """[n, C], or [n] where there is one channel, as float32 [C, n]. Raises ShapeError, DtypeError, NonFiniteError."""
    if not isinstance(samples, np.ndarray) or samples.dtype.type not in (np.float32, np.float64, np.int16):
        found = samples.dtype if isinstance(samples, np.ndarray) else type(samples).__name__
        raise DtypeError(f"samples are {found}; they must be a NumPy array of float32, float64 or int16")
    rows = samples[:, None] if samples.ndim == 1 else samples
    if rows.ndim != 2 or rows.shape[1] != pcm.channels:
        raise ShapeError(f"samples have the shape {list(samples.shape)}; it must be [samples, {pcm.channels}]")
    columns: Array = np.ascontiguousarray(rows.T, dtype=np.float32)
    if rows.dtype.kind == "i":
        return columns * INT16_SCALE
    worst = float(np.abs(columns).max(initial=0.0))
    if not worst <= (peak if pcm.format == "f32le" else np.finfo(np.float32).max):
        raise NonFiniteError(f"the greatest sample has a magnitude of {worst:g}; the server takes up to {peak:g}")
    return columns


def checked_codes(codes: Array, scale: Array | None, codec: CodecFacts) -> tuple[Array, Array | None]:
    """codes [K, T] and scale [T] as packets have them. Raises ShapeError, DtypeError, CodesError."""
    if not isinstance(codes, np.ndarray) or codes.dtype.kind not in "iu":
        raise DtypeError("codes must be a NumPy array of integers")
    if codes.ndim != 2 or not 1 <= codes.shape[0] <= codec.num_codebooks:
        raise ShapeError(f"codes have the shape {list(codes.shape)}; it must be [1 to {codec.num_codebooks}, frames]")
    if codes.size and not 0 <= int(codes.min()) <= int(codes.max()) < codec.codebook_size:
        raise CodesError(f"codes from {codes.min()} to {codes.max()}; {codec.name} has 0 to {codec.codebook_size - 1}")
    if (scale is not None) != codec.scaled or (scale is not None and scale.shape != codes.shape[1:]):
        needed = f"a scale for each frame, [{codes.shape[1]}]" if codec.scaled else "no scale"
        raise ShapeError(f"{codec.name} needs {needed}")
    return codes.astype(np.uint16), None if scale is None else scale.astype(np.float32)


def chosen_bandwidth(bandwidth: SupportsFloat | None, num_codebooks: SupportsIndex | None, codec: CodecFacts) -> float:
    """The bandwidth on offer that a caller names in kbps or by its codebooks. Raises InputError."""
    offered, counts = codec.bandwidths, codec.bandwidth_codebooks
    if (bandwidth is None) == (num_codebooks is None):
        raise InputError("give a bandwidth in kbps or num_codebooks, and not both")
    if bandwidth is not None:
        value = real(bandwidth, "bandwidth")
        found = meant(value, offered)
        if found is None:
            raise InputError(f"{value:g} kbps; {codec.name} has {', '.join(f'{one:g}' for one in offered)}")
        return found
    count = whole(0 if num_codebooks is None else num_codebooks, "num_codebooks")
    if count not in counts:
        raise InputError(f"{count} codebooks; {codec.name} has bandwidths of {', '.join(map(str, counts))}")
    return offered[counts.index(count)]


def samples_of(pcm: PcmFormat, message_bytes: int) -> int:
    """Samples a channel that fit into one packet."""
    each = pcm.channels * (2 if pcm.format == "s16le" else 4)
    return max(1, min(MAX_COUNT, (message_bytes - AROUND) // each))


def frames_of(codebooks: int, codec: CodecFacts, message_bytes: int) -> int:
    """Frames that fit into one packet."""
    bits = codebooks * codec.bits + (32 if codec.scaled else 0)
    return max(1, min(MAX_COUNT, 8 * (message_bytes - AROUND) // bits))


def pieces(count: int, most: int) -> Iterator[slice]:
    """Cuts 0 to `count` into parts of `most`."""
    for start in range(0, count, most):
        yield slice(start, min(start + most, count))
