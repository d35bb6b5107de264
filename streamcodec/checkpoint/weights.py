"""Checks the entries of a state dict and merges weight norm and the scales of int8 weights.

Knows neither files nor codecs.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..errors import CheckpointError

__all__ = ["SCALE", "plain"]

# Of a weight in int8: `<name>_scale`, of its last dimension, is what one step of its numbers is worth.
SCALE = "_scale"

# The half-precision formats are storage only: merging weight norm in them would round the weights a second time.
_STORED_AS_FLOAT32 = (torch.float16, torch.bfloat16)
_KEPT = (torch.float32, torch.float64, torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool)

# The (magnitude g, direction v) pairs as torch.nn.utils.weight_norm and torch.nn.utils.parametrizations.weight_norm
# spell them; both stand for the entry "<module>.weight".
_WEIGHT_NORM_SUFFIXES = (
    (".weight_g", ".weight_v"),
    (".parametrizations.weight.original0", ".parametrizations.weight.original1"),
)


def plain(entries: Mapping[Any, Any], origin: str) -> dict[str, Tensor]:
    """The state dict `entries` of the file `origin` as plain, finite CPU tensors, weight norm merged.

    Half-precision floats become float32, and int8 weights with a scale beside them what they stand for; every other
    dtype stays. Weight norm is w = g * v / ||v|| (Salimans & Kingma 2016, eq. 2), computed by torch's own kernel so
    that it equals the module's to the bit.

    Raises CheckpointError, naming the entry: a value that is no dense CPU tensor of a usual dtype, half of a weight
    norm pair, a scale of the wrong shape, NaN or infinity.
    """
    if not entries:
        raise CheckpointError(f"{origin} holds no tensors")
    tensors = _merge_scales({name: _tensor(name, value, origin) for name, value in entries.items()}, origin)
    merged = _merge_weight_norm(tensors, origin)
    for name, tensor in merged.items():
        if not _is_finite(tensor):
            raise CheckpointError(
                f"{origin}: the weights of {name!r} hold NaN or infinity (or a weight-norm direction of length 0); "
                "the file is damaged or comes from a training run that diverged"
            )
    return merged


def _is_finite(tensor: Tensor) -> bool:
    """Whether all values are: by the least and the largest, since `torch.isfinite` takes as much memory again."""
    if not tensor.is_floating_point() or not tensor.numel():
        return True
    return all(map(math.isfinite, (bound.item() for bound in tensor.aminmax())))


def _tensor(name: Any, value: Any, origin: str) -> Tensor:
    if not isinstance(name, str) or not isinstance(value, Tensor):
        raise CheckpointError(
            f"{origin}: entry {name!r} is of type {type(value).__name__}; a flat state dict is expected, "
            "names (str) to tensors"
        )
    value = value.detach()
    if value.layout is not torch.strided or value.device.type != "cpu":
        raise CheckpointError(f"{origin}: entry {name!r} is a {value.layout} tensor on {value.device}, not plain data")
    if value.numel() * value.element_size() > value.untyped_storage().nbytes():
        # A stride of 0 makes any size of a few bytes; reading it out would fill the memory.
        raise CheckpointError(f"{origin}: entry {name!r} has shape {tuple(value.shape)}, but fewer values are stored")
    if value.dtype in _STORED_AS_FLOAT32:
        return value.to(torch.float32)
    if value.dtype not in _KEPT:
        raise CheckpointError(
            f"{origin}: entry {name!r} has dtype {value.dtype}; allowed: "
            + ", ".join(str(dtype) for dtype in (*_STORED_AS_FLOAT32, *_KEPT))
        )
    return value


def _merge_scales(tensors: dict[str, Tensor], origin: str) -> dict[str, Tensor]:
    merged = dict(tensors)
    for name, tensor in tensors.items():
        scale = tensors.get(name + SCALE)
        if tensor.dtype is torch.int8 and scale is not None:
            if tensor.ndim == 0 or scale.shape != tensor.shape[-1:] or not scale.is_floating_point():
                raise CheckpointError(
                    f"{origin}: {name + SCALE!r} has shape {list(scale.shape)}; a scale for each of the last dimension "
                    f"of {list(tensor.shape)} is needed"
                )
            # Not the product of both: torch would make floats of the numbers first, in memory of their own.
            merged[name] = tensor.to(scale.dtype).mul_(merged.pop(name + SCALE))
    return merged


def _merge_weight_norm(tensors: dict[str, Tensor], origin: str) -> dict[str, Tensor]:
    merged: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        pair = _pair_of(name)
        if pair is None:
            target = name
        else:
            target, magnitude, direction = pair
            if name == direction and magnitude in tensors:
                continue  # the pair is merged where its magnitude stands
            tensor = _merge(tensors, magnitude, direction, origin)
        if target in merged:
            raise CheckpointError(f"{origin}: the entry {target!r} is there twice, plain and as a weight-norm pair")
        merged[target] = tensor
    return merged


def _pair_of(name: str) -> tuple[str, str, str] | None:
    """(merged name, name of g, name of v) when `name` is half of a weight-norm pair."""
    for g_suffix, v_suffix in _WEIGHT_NORM_SUFFIXES:
        for suffix in (g_suffix, v_suffix):
            if name.endswith(suffix):
                module = name.removesuffix(suffix)
                return f"{module}.weight", module + g_suffix, module + v_suffix
    return None


def _merge(tensors: dict[str, Tensor], magnitude: str, direction: str, origin: str) -> Tensor:
    for there, missing in ((magnitude, direction), (direction, magnitude)):
        if missing not in tensors:
            raise CheckpointError(
                f"{origin}: {there!r} is there without the other half of its weight norm, {missing!r}"
            )
    g, v = tensors[magnitude], tensors[direction]
    for axis in (0, v.ndim - 1):  # g keeps the one axis that was not normed: 0 everywhere but in HuBERT's positions
        if v.ndim > 0 and g.dtype == v.dtype and g.shape == _all_ones_but(axis, v):
            return torch._weight_norm(v, g, axis)
    raise CheckpointError(
        f"{origin}: {magnitude!r} {tuple(g.shape)} {g.dtype} is no weight-norm magnitude of {direction!r} "
        f"{tuple(v.shape)} {v.dtype}; the norm is over all dimensions but the first (or the last)"
    )


def _all_ones_but(axis: int, v: Tensor) -> tuple[int, ...]:
    return tuple(size if i == axis else 1 for i, size in enumerate(v.shape))
