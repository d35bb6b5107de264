"""Frames of codes to bytes and back, each block given those before it.

Both ends remember what went before, and a 16-bit check of all codes since the start goes with each block. So a block
that was damaged, or coded by another model or after other blocks, is refused, and leaves the decoder as it was.
"""

import zlib
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import CodesError, ShapeError
from .predictor import Past, Predictor
from .rangecoder import RangeDecoder, RangeEncoder

__all__ = ["Coded", "FrameDecoder", "FrameEncoder"]

Array = NDArray[Any]
CHECK = 2**16 - 1


class Coded(NamedTuple):
    """A block. data: its bytes; check: 16 bits, of the model and all codes since the start."""

    data: bytes
    check: int


class _Course:
    """What both ends keep. predictor: may serve any number of them."""

    def __init__(self, predictor: Predictor) -> None:
        self.predictor = predictor
        self.restart()

    def restart(self) -> None:
        """Forget what was coded: the next block needs nothing before it. Both ends must do it at the same block."""
        self._past: Past = self.predictor.start()
        self._sum = zlib.crc32(bytes.fromhex(self.predictor.model.hash))

    def _summed(self, codes: Array, data: bytes) -> int:
        """The running CRC-32 with these codes and the bytes that they became: other bytes may stand for them, too."""
        sizes = np.array(codes.shape, "<u2").tobytes()
        return zlib.crc32(data, zlib.crc32(np.ascontiguousarray(codes, "<u2").tobytes(), zlib.crc32(sizes, self._sum)))


class FrameEncoder(_Course):
    """Codes to bytes, block by block."""

    def encode(self, codes: Array) -> Coded:
        """codes: [K, T] integers, K from 1 to the model's `codebooks`, T >= 1. Raises ShapeError, CodesError."""
        self._check(codes)
        codes = codes.astype(np.intp)
        intervals, self._past = self.predictor.intervals(self._past, codes)
        coder = RangeEncoder()
        for symbol in zip(*(each.ravel().tolist() for each in intervals), strict=True):
            coder.put(*symbol)
        data = coder.finish()
        self._sum = self._summed(codes, data)
        return Coded(data, self._sum & CHECK)

    def _check(self, codes: Array) -> None:
        model = self.predictor.model
        if codes.ndim != 2 or not 1 <= len(codes) <= model.codebooks or not codes.shape[1]:
            raise ShapeError(f"codes have the shape {list(codes.shape)}; it must be [1..{model.codebooks}, T], T >= 1")
        if codes.min() < 0 or codes.max() >= model.codebook_size:
            raise CodesError(f"codes from {codes.min()} to {codes.max()}; they must be in 0..{model.codebook_size - 1}")


class FrameDecoder(_Course):
    """Bytes to codes, block by block."""

    def decode(self, coded: Coded, codebooks: int, frames: int) -> Array:
        """The codes [codebooks, frames] int64 of a block, given those before it.

        Raises CodesError, and is as before, where the bytes do not fit: damaged, of another model, or after a block
        that is missing here. It takes time in proportion to `frames`, whatever `data` is: bound what strangers ask for.
        """
        if not 1 <= codebooks <= self.predictor.codebooks or frames < 1:
            raise ShapeError(
                f"{frames} frames of {codebooks} codebooks; the model has 1 to {self.predictor.codebooks} codebooks"
            )
        source, past, rows = RangeDecoder(coded.data), self._past, []
        for _ in range(frames):
            frame = self._frame(source, past, codebooks)
            past = self.predictor.after(past, frame)
            rows.append(frame)
        codes = np.stack(rows, 1)
        total = self._summed(codes, coded.data)
        if total & CHECK != coded.check:
            raise CodesError(
                f"{len(coded.data)} coded bytes do not give what was coded: they were damaged, are of another model "
                "than this end has, or follow codes that this end does not have"
            )
        self._past, self._sum = past, total
        return codes

    def _frame(self, source: RangeDecoder, past: Past, codebooks: int) -> Array:
        predictor, codes = self.predictor, np.zeros(codebooks, np.int64)
        context, so_far = predictor.context(past), predictor.so_far()
        for stage in range(codebooks):
            features = predictor.features(stage, context, so_far)
            group = source.take(list(accumulate(predictor.group_frequencies(stage, features).tolist())))
            place = source.take(list(accumulate(predictor.place_frequencies(stage, group, features).tolist())))
            code = predictor.entry(stage, group, place)
            if code < 0:
                raise CodesError("the coded bytes name an entry that does not exist: they were damaged")
            codes[stage] = code
            so_far = so_far + predictor.vector(stage, code)
        return codes
