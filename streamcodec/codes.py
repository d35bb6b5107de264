"""The value that passes between an encoder and a decoder."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, SupportsIndex, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .errors import DtypeError, InputError, ShapeError
from .scalars import whole

__all__ = ["Codes", "CodesLike", "unchecked"]


@dataclass(frozen=True, eq=False, init=False)
class Codes:
    """Codes of a stretch of audio: a value, equal to another one where all three fields are.

    data: [B, K, T] int64 (batch, codebook, frame), each in 0..codebook_size - 1. They may be given as a torch tensor or
        NumPy array of any integer type.
    scale: [B, T] float, the gain of each frame, for codecs that normalise their input (EnCodec 48 kHz); else None.
    length: samples that these frames stand for; None means all that the frames can hold. Over a stream the lengths add
        up to the length of the audio (without `Codec.pad`, to what comes back of it): only the last ones are shorter
        than their frames.

    Raises DtypeError for data that are not whole numbers, ShapeError for another number of dimensions, InputError.
    """

    data: Tensor
    scale: Tensor | None = None
    length: int | None = None

    def __init__(
        self,
        data: Tensor | NDArray[np.integer[Any]],
        scale: Tensor | NDArray[np.floating[Any]] | None = None,
        length: SupportsIndex | None = None,
    ) -> None:
        if not isinstance(data, Tensor) or data.dtype != torch.int64:
            data = _to_int64(data)
        if data.dim() != 3:
            raise ShapeError(f"codes have shape {list(data.shape)}; they must be [B, K, T]{_hint(data.dim())}")
        if isinstance(scale, np.ndarray):
            scale = torch.from_numpy(scale)
        if length is not None and type(length) is not int:
            length = whole(length, "length", 0)
        self.__dict__.update(data=data, scale=scale, length=length)  # it is frozen

    @property
    def shape(self) -> torch.Size:
        """[B, K, T]: batch, codebooks, frames."""
        return self.data.shape

    def levels(self, counts: Sequence[int]) -> list[Tensor]:
        """Codes of several rates apart, coarsest first: [B, T * counts[0]], [B, T * counts[1]] and so on.

        counts: codes of a frame of each level, `CodecSpec.levels`. As the snac package has them. `of_levels` is the
        inverse. Where there are fewer codebooks than all, as many levels as they are. Raises ShapeError where they end
        within a level.
        """
        levels, left = [], self.data
        for count in counts:
            if left.shape[1] == 0:
                break
            if left.shape[1] < count:
                raise ShapeError(f"codes have {self.data.shape[1]} codebooks; levels of {list(counts)} end elsewhere")
            levels.append(left[:, :count].transpose(1, 2).flatten(1))
            left = left[:, count:]
        if left.shape[1]:
            raise ShapeError(f"codes have {self.data.shape[1]} codebooks; levels of {list(counts)} have {sum(counts)}")
        return levels

    @staticmethod
    def of_levels(
        levels: Sequence[Tensor | NDArray[np.integer[Any]]], counts: Sequence[int], length: SupportsIndex | None = None
    ) -> "Codes":
        """The inverse of `levels`: [B, T * counts[0]], [B, T * counts[1]] and so on, the first levels or all.

        Raises ShapeError where they are not of as many whole frames each.
        """
        parts = [level if isinstance(level, Tensor) else torch.from_numpy(level) for level in levels]
        given = list(zip(parts, counts, strict=False))
        frames = {level.shape[1] / count if level.ndim == 2 else 0.5 for level, count in given}
        if not 1 <= len(parts) <= len(counts) or len(frames) > 1 or not min(frames).is_integer():
            raise ShapeError(
                f"levels have the shapes {[list(level.shape) for level in parts]}; with {list(counts)} codes a frame "
                f"they must be {', '.join(f'[B, {count} T]' for count in counts)}, or the first ones of these"
            )
        columns = torch.cat([level.unflatten(1, (-1, count)) for level, count in given], 2)
        return Codes(columns.transpose(1, 2), length=length)

    def to(self, device: torch.device | str) -> "Codes":
        """The same codes on another device."""
        return Codes(self.data.to(device), None if self.scale is None else self.scale.to(device), self.length)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Codes):
            return NotImplemented
        other = other.to(self.data.device)
        if self.length != other.length or not torch.equal(self.data, other.data):
            return False
        if self.scale is None or other.scale is None:
            return self.scale is other.scale
        return torch.equal(self.scale, other.scale)

    @staticmethod
    def cat(parts: Iterable["CodesLike"]) -> "Codes":
        """The parts one after the other. Raises ShapeError unless batch and number of codebooks agree."""
        pieces = [part if isinstance(part, Codes) else Codes(part) for part in parts]
        if not pieces:
            raise ShapeError("no codes to concatenate; pass at least one Codes")
        shapes = {tuple(piece.data.shape[:2]) for piece in pieces}
        if len(shapes) > 1:
            raise ShapeError(
                f"codes of different batch or number of codebooks {sorted(shapes)} cannot be concatenated; "
                "keep the stretches of different bandwidth apart"
            )
        scales = [piece.scale for piece in pieces if piece.scale is not None]
        lengths = [piece.length for piece in pieces if piece.length is not None]
        return Codes(
            torch.cat([piece.data for piece in pieces], 2),
            torch.cat(scales, 1) if len(scales) == len(pieces) else None,
            sum(lengths) if len(lengths) == len(pieces) else None,
        )


CodesLike: TypeAlias = Codes | Tensor | NDArray[np.integer[Any]]
"""What calls take for codes: Codes, or bare ones [B, K, T] of any integer type."""


def unchecked(data: Tensor, length: int) -> Codes:
    """Codes of what is known to be right: a look at it takes as long as a tenth of a small codec's step."""
    codes = object.__new__(Codes)
    codes.__dict__.update(data=data, scale=None, length=length)
    return codes


def _to_int64(data: object) -> Tensor:
    if isinstance(data, Tensor):
        if not (data.is_floating_point() or data.is_complex() or data.dtype == torch.bool):
            return data.to(torch.int64)
        found = str(data.dtype)
    elif isinstance(data, np.ndarray):
        if data.dtype.kind in "iu":
            return torch.from_numpy(data.astype(np.int64))
        found = str(data.dtype)
    else:
        raise InputError(
            f"codes are {type(data).__name__}; pass Codes, or a torch tensor or NumPy array of integers [B, K, T]"
        )
    raise DtypeError(f"codes are {found}; they must be whole numbers, such as torch.int64 or numpy.int16, [B, K, T]")


def _hint(dimensions: int) -> str:
    if dimensions == 1:
        return ": index it with [None, :, None] if it is one frame, with [None, None] if it is one codebook"
    if dimensions == 2:
        return ": index it with [None] if it is one signal [K, T]"
    if dimensions == 4:
        return (
            ": transformers' EnCodec gives [chunks, B, K, T]; index it with [0] if there is one chunk, or join several "
            "by torch.cat(tuple(codes), 2)"
        )
    return ""
