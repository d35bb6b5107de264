"""The value that passes between an encoder and a decoder."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from .errors import ShapeError

__all__ = ["Codes"]


@dataclass(frozen=True)
class Codes:
    """Codes of a stretch of audio.

    data: [B, K, T] int64 (batch, codebook, frame), each in 0..codebook_size - 1.
    scale: [B, T] float, the gain of each frame, for codecs that normalise their input (EnCodec 48 kHz); else None.
    length: samples that these frames stand for; None means all that the frames can hold. Over a stream the lengths add
        up to the length of the audio (of what comes back of it, where a codec drops an unfilled last frame: DAC): only
        the last one is shorter than its frames.
    """

    data: Tensor
    scale: Tensor | None = None
    length: int | None = None

    @staticmethod
    def cat(parts: Iterable["Codes"]) -> "Codes":
        """The parts one after the other. Raises ShapeError unless batch and number of codebooks agree."""
        parts = list(parts)
        if not parts:
            raise ShapeError("no codes to concatenate; pass at least one Codes")
        shapes = {tuple(part.data.shape[:2]) for part in parts}
        if len(shapes) > 1:
            raise ShapeError(
                f"codes of different batch or number of codebooks {sorted(shapes)} cannot be concatenated; "
                "keep the stretches of different bandwidth apart"
            )
        scales = [part.scale for part in parts if part.scale is not None]
        lengths = [part.length for part in parts if part.length is not None]
        return Codes(
            torch.cat([part.data for part in parts], 2),
            torch.cat(scales, 1) if len(scales) == len(parts) else None,
            sum(lengths) if len(lengths) == len(parts) else None,
        )
