"""Samples from callers: checked, and as one kind of tensor."""

import math
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .errors import DtypeError, NonFiniteError, ShapeError
from .int16 import INT16_SCALE

__all__ = ["AudioLike", "as_float", "as_int16"]

AudioLike: TypeAlias = Tensor | NDArray[np.float32] | NDArray[np.float64] | NDArray[np.int16]
"""What calls take for audio: samples [B, C, N], float (full scale is -1..1) or int16."""

# Of samples that are all finite.
_INT16 = frozenset({torch.int16, np.dtype(np.int16)})


def as_float(pcm: AudioLike, *, channels: int | None = None, name: str = "pcm", grad: bool = False) -> Tensor:
    """Samples as float32, [B, C, N].

    pcm: [B, C, N], a NumPy array or torch tensor of float32, float64 (rounded to float32) or int16 (scaled by 1/32768);
        N may be 0.
    channels: the C that is allowed, or None for any.
    name: what the error messages call it.
    grad: whether gradients reach `pcm`.

    The result is on the device of `pcm` and never shares memory with it, so that a caller may reuse its buffer.
    Raises DtypeError, ShapeError or NonFiniteError.
    """
    tensor = _to_float(pcm, name, grad)
    shape = tensor.shape
    if len(shape) != 3 or shape[0] == 0 or shape[1] != (channels or max(shape[1], 1)):
        raise ShapeError(
            f"{name} has the shape {list(tensor.shape)}; "
            f"it must be [batch, {channels or 'channels'}, samples]{_shape_hint(tensor, channels)}"
        )
    if pcm.dtype in _INT16:
        return tensor
    # One sum is cheaper than looking at each sample, and finite only if all are; large finite samples can overflow it.
    total = tensor.detach().sum() if tensor.requires_grad else tensor.sum()
    if not math.isfinite(total.item()):
        _require_finite(tensor, name)
    return tensor


def as_int16(wav: Tensor) -> Tensor:
    """Samples of full scale 1 as int16, as `int16.rounded` has them; as they are, where they are that."""
    if wav.dtype == torch.int16:
        return wav
    with torch.inference_mode(False):
        return (wav / float(INT16_SCALE)).round_().clamp_(-32768, 32767).to(torch.int16)


def _to_float(pcm: object, name: str, grad: bool) -> Tensor:
    if isinstance(pcm, Tensor):
        if pcm.dtype in (torch.float32, torch.float64):
            pcm = pcm.detach() if pcm.requires_grad and not grad else pcm
            return pcm.clone() if pcm.dtype == torch.float32 else pcm.to(torch.float32)
        if pcm.dtype == torch.int16:
            return pcm.to(torch.float32) * float(INT16_SCALE)
        found = str(pcm.dtype)
    elif isinstance(pcm, np.ndarray):
        if pcm.dtype.type in (np.float32, np.float64):
            with np.errstate(over="ignore"):  # the infinity it makes is reported as such
                return torch.from_numpy(np.array(pcm, dtype=np.float32, order="C"))
        if pcm.dtype.type is np.int16:
            return torch.from_numpy(np.multiply(pcm, INT16_SCALE, dtype=np.float32, order="C"))
        found = str(pcm.dtype)
    else:
        raise DtypeError(f"{name} is a {type(pcm).__name__}; it must be a NumPy array or a torch tensor")
    raise DtypeError(f"{name} is {found}; it must be float32, float64 or int16")


def _shape_hint(tensor: Tensor, channels: int | None) -> str:
    if tensor.ndim == 1 and channels in (None, 1):
        return ": index it with [None, None] if it is one mono signal"
    if tensor.ndim == 2:
        return ": index it with [None] if it is one signal [channels, samples], with [:, None] if it is a mono batch"
    if tensor.ndim == 3 and channels and tensor.shape[2] == channels:
        return ": swap the last two dimensions"
    return ""


def _require_finite(tensor: Tensor, name: str) -> None:
    bad = (~torch.isfinite(tensor)).nonzero()
    if len(bad):
        row, channel, sample = bad[0].tolist()
        raise NonFiniteError(
            f"{name} holds {len(bad)} samples that are NaN or infinite, the first at row {row}, channel {channel}, "
            f"sample {sample}; every sample must be finite"
        )
