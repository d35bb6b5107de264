"""What codecs refuse of what callers give them, and how they say so."""

import torch
from torch import Tensor

from ..codes import Codes, CodesLike
from ..errors import CodesError, DtypeError, InputError, NonFiniteError, ShapeError
from ..spec import CodecSpec

__all__ = ["check_latents", "check_scale", "check_start", "checked_data"]


def check_start(start: str) -> None:
    """Raises InputError for what no stream can start from."""
    if start not in ("exact", "primed"):
        raise InputError(f"start is {start!r}; it must be 'exact' or 'primed'")


def checked_data(codes: CodesLike, spec: CodecSpec, batch: int | None = None) -> Codes:
    """`codes`, where their data are a codec's, of `batch` rows if that is given; scale and length are not looked at.

    Raises InputError: ShapeError, DtypeError, CodesError.
    """
    spec.check_codes()
    codes = codes if isinstance(codes, Codes) else Codes(codes)
    data = codes.data
    if data.shape[0] < 1 or not 1 <= data.shape[1] <= spec.num_codebooks:
        swapped = data.shape[0] and 1 <= data.shape[2] <= spec.num_codebooks
        hint = ": swap the last two dimensions if these are frames before codebooks" if swapped else ""
        raise ShapeError(
            f"codes have shape {list(data.shape)}; {spec.name} takes [B, 1..{spec.num_codebooks}, T]{hint}"
        )
    if batch is not None and data.shape[0] != batch:
        raise ShapeError(f"codes have batch {data.shape[0]}, this stream was opened with batch={batch}")
    if data.numel():
        low, high = (int(value) for value in torch.aminmax(data))
        if low < 0 or high >= spec.codebook_size:
            raise CodesError(f"codes range over {low}..{high}; {spec.name} has entries 0..{spec.codebook_size - 1}")
    return codes


def check_scale(codes: Codes, spec: CodecSpec, wanted: bool) -> None:
    """Raises InputError where the scale is none, or is missing though it is `wanted`."""
    if wanted and codes.scale is None:
        raise ShapeError(f"{spec.name} normalises its input: codes need a scale [B, T], got None")
    scale, shape = codes.scale, (codes.data.shape[0], codes.data.shape[2])
    if scale is None:
        return
    if not isinstance(scale, Tensor) or not scale.is_floating_point():
        kind = scale.dtype if isinstance(scale, Tensor) else type(scale).__name__
        raise DtypeError(f"scale is {kind}; it must be a floating-point tensor [B, T]")
    if tuple(scale.shape) != shape:
        raise ShapeError(f"scale has shape {list(scale.shape)}; with these codes it must be {list(shape)}")
    if not bool(scale.isfinite().all()):
        raise NonFiniteError("scale holds NaN or infinity; the gain of a frame is a finite number")


def check_latents(latents: Tensor, spec: CodecSpec, dimension: int) -> None:
    """Raises InputError (ShapeError, DtypeError, NonFiniteError) for what are no latents [B, dimension, T]."""
    if not isinstance(latents, Tensor) or not latents.is_floating_point():
        kind = latents.dtype if isinstance(latents, Tensor) else type(latents).__name__
        raise DtypeError(f"latents are {kind}; they must be a floating-point tensor [B, D, T]")
    if latents.dim() != 3 or latents.shape[0] < 1 or latents.shape[1] != dimension:
        raise ShapeError(
            f"latents have shape {list(latents.shape)}; those of {spec.name} are [B, {dimension}, T], channels before "
            "frames"
        )
    if not bool(latents.isfinite().all()):
        raise NonFiniteError("latents hold NaN or infinity; they must be finite")
