"""How callers pass signals or codes of unequal lengths: as a list, or as a padded batch with lengths or a mask."""

from collections.abc import Sequence
from typing import Any, Protocol, SupportsIndex, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..codes import Codes, CodesLike
from ..errors import DtypeError, InputError, ShapeError
from ..pcm import AudioLike
from ..scalars import whole

__all__ = ["Lengths", "Mask", "codes_of", "rowwise", "signals_of", "stacked"]

Lengths: TypeAlias = Sequence[SupportsIndex] | Tensor | NDArray[np.integer[Any]]
"""[B]: how much of each row of a batch there is, in what the last dimension counts."""
Mask: TypeAlias = Tensor | NDArray[Any]
"""[B, N]: 1 (or True) where a row of a batch is signal, and 0 where it was padded, on either side."""


class Taking(Protocol):
    """A codec as this module sees it."""

    def as_rows(self, wav: AudioLike, batch: int | None = None) -> Tensor: ...


def signals_of(
    codec: Taking, wav: AudioLike | Sequence[AudioLike], lengths: Lengths | None, mask: Mask | None
) -> list[Tensor] | None:
    """The signals [N, channels] of a list, or of a batch with their extents; None for a batch of whole rows."""
    if isinstance(wav, (list, tuple)):
        _refuse_extents(lengths, mask)
        return [codec.as_rows(_single(each, i, "audio"), 1)[0] for i, each in enumerate(wav)]
    if lengths is None and mask is None:
        return None
    rows = codec.as_rows(wav)  # type: ignore[arg-type]  # what else it may be is refused there
    return [row[first:stop] for row, (first, stop) in zip(rows, _extents(lengths, mask, *rows.shape[:2]), strict=True)]


def codes_of(
    codes: CodesLike | Sequence[CodesLike], lengths: Lengths | None, mask: Mask | None
) -> list[CodesLike] | None:
    """The codes of a list, or the frames of a batch that are some, of batch 1; None for a batch of whole rows."""
    if isinstance(codes, (list, tuple)):
        _refuse_extents(lengths, mask)
        return [one for i, each in enumerate(codes) for one in _singles(each, i)]
    if lengths is None and mask is None:
        return None
    batch = codes if isinstance(codes, Codes) else Codes(codes)  # type: ignore[arg-type]
    extents = _extents(lengths, mask, batch.data.shape[0], batch.data.shape[2])
    return [_cut(one, first, stop) for one, (first, stop) in zip(rowwise(batch), extents, strict=True)]


def rowwise(codes: Codes) -> list[Codes]:
    """Each row of a batch as codes of batch 1."""
    scales = [None] * len(codes.data) if codes.scale is None else codes.scale[:, None]
    return [Codes(data[None], scale, codes.length) for data, scale in zip(codes.data, scales, strict=True)]


def stacked(codes: list[Codes]) -> Codes:
    """The inverse of `rowwise`."""
    scales = [one.scale for one in codes if one.scale is not None]
    return Codes(torch.cat([one.data for one in codes]), torch.cat(scales) if scales else None, codes[0].length)


def _cut(codes: Codes, first: int, stop: int) -> Codes:
    """Those frames, and all that they stand for."""
    return Codes(codes.data[:, :, first:stop], None if codes.scale is None else codes.scale[:, first:stop])


def _singles(codes: CodesLike, index: int) -> list[CodesLike]:
    if isinstance(codes, Codes):
        if codes.data.shape[0] != 1:
            raise ShapeError(
                f"codes {index} of the list have batch {codes.data.shape[0]}; each must be one signal's, [1, K, T]"
            )
        return [codes]
    return [_single(codes, index, "codes")]


def _single(array: Any, index: int, name: str) -> Any:
    """[1, rows, n] of [rows, n], or of [n]. Raises ShapeError for more than one signal."""
    dimensions = getattr(array, "ndim", None)
    if dimensions is None:
        found = f"{name} {index} of the list is a {type(array).__name__}"
        if name == "audio":
            raise DtypeError(f"{found}; it must be a NumPy array or a torch tensor")
        raise InputError(f"{found}; it must be Codes, a NumPy array or a torch tensor")
    least = 1 if name == "audio" else 2
    if not least <= dimensions <= 3 or (dimensions == 3 and array.shape[0] != 1):
        single = "[channels, samples] or [samples]" if name == "audio" else "[codebooks, frames]"
        raise ShapeError(
            f"{name} {index} of the list has the shape {list(array.shape)}; each is one signal's, {single}"
        )
    return array[(None,) * (3 - dimensions)]


def _refuse_extents(lengths: Lengths | None, mask: Mask | None) -> None:
    if lengths is not None or mask is not None:
        name = "lengths" if lengths is not None else "padding_mask"
        raise InputError(
            f"{name} goes with one padded batch; the items of a list have lengths of their own: leave it out"
        )


def _extents(lengths: Lengths | None, mask: Mask | None, batch: int, size: int) -> list[tuple[int, int]]:
    """Where each row of a batch begins and ends."""
    if lengths is not None and mask is not None:
        raise InputError("lengths and padding_mask say the same; give one of them")
    if mask is not None:
        return _masked(torch.as_tensor(mask), batch, size)
    if not isinstance(lengths, (list, tuple, Tensor, np.ndarray)) or np.ndim(lengths) != 1:
        raise InputError(f"lengths are {lengths!r}; they must be a whole number for each row, [B]")
    found = [whole(length, "a length", 0) for length in lengths]
    if len(found) != batch or max(found, default=0) > size:
        raise ShapeError(f"lengths are {found}; the batch takes {batch} of them, each from 0 to {size}")
    return [(0, length) for length in found]


def _masked(mask: Tensor, batch: int, size: int) -> list[tuple[int, int]]:
    if mask.dim() == 3:  # some versions of transformers repeat it for every channel
        if not bool((mask == mask[:, :1]).all()):
            raise InputError("padding_mask differs between channels; it must be one of [B, N]")
        mask = mask[:, 0]
    if tuple(mask.shape) != (batch, size):
        raise ShapeError(f"padding_mask has the shape {list(mask.shape)}; with this batch it must be {[batch, size]}")
    extents = []
    for index, row in enumerate(mask != 0):
        places = row.nonzero()[:, 0]
        first, stop = (int(places[0]), int(places[-1]) + 1) if len(places) else (0, 0)
        if stop - first != len(places):
            raise InputError(f"padding_mask has a hole in row {index}; each row must be one stretch of signal")
        extents.append((first, stop))
    return extents
