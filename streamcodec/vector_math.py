"""Activations of steps, in place: of many float32 values on a CPU by numpy, where its vector loops are the faster ones.

With AVX-512, numpy's expm1, sin and tanh take 0.4 ns a value, torch's 1.2 to 2.5 (docs/log.md). They are within 3 units
in the last place, as torch's are within 1. Which one is used depends on the processor, numpy's version and the size
alone, so that the same step gives the same bits in every process of a machine. These are for steps of streams: no
gradient passes through them.
"""

from collections.abc import Callable
from functools import cache, partial
from typing import Any, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = [
    "LEAK",
    "Call",
    "angles",
    "elu_",
    "gelu_",
    "gelu_tanh_",
    "hardtanh_",
    "leaky_relu_",
    "silu_",
    "snake_",
    "tanh",
    "tanh_",
    "turned",
]

Call: TypeAlias = Callable[[], Any]
"""A call with everything bound, whose result lies in memory that it was given."""

# Of a leaky ReLU below 0: TensorFlow's default.
LEAK = 0.3

# Below it, what a call through numpy costs beside torch's is more than it saves.
FROM_VALUES = 4096
# numpy's names of the instruction sets with those loops: from 2.4 on, and before.
LOOPS = ("X86_V4", "AVX512_SKX")


@cache
def _vectorised(name: str) -> bool:
    """Whether numpy runs this function of float32 by AVX-512 here; False where it does not say (numpy before 2.1)."""
    try:
        from numpy.lib.introspect import opt_func_info
    except ImportError:
        return False
    loops = opt_func_info(func_name=f"^{name}$", signature="float32").get(name, {})
    return any(loop["current"].startswith(LOOPS) for loop in loops.values())


def _by_numpy(name: str, x: Tensor) -> bool:
    if x.numel() < FROM_VALUES:
        return False
    return x.dtype == torch.float32 and x.device.type == "cpu" and not x.requires_grad and _vectorised(name)


def _apply(function: np.ufunc, x: Tensor) -> Tensor:
    """In place."""
    values = x.numpy()
    with np.errstate(all="ignore"):  # NaN and infinity pass through as they do in torch
        function(values, out=values)
    return x


def tanh(x: Tensor) -> Tensor:
    """tanh(x), any shape; `x` is kept."""
    return _apply(np.tanh, x.clone()) if _by_numpy("tanh", x) else torch.tanh(x)


def tanh_(x: Tensor) -> Call:
    """The call that replaces `x` by tanh(x)."""
    return partial(_apply, np.tanh, x) if _by_numpy("tanh", x) else x.tanh_


def elu_(x: Tensor) -> Call:
    """The call that replaces `x`, where it is negative, by exp(x) - 1 (Clevert et al. 2015)."""
    if not _by_numpy("expm1", x):
        return partial(F.elu_, x)

    def run() -> None:
        below = _apply(np.expm1, x.clamp_max(0))
        # Above 0 that is 0, and x is more; below 0 it is more than x.
        torch.maximum(below, x, out=x)

    return run


def gelu_(x: Tensor) -> Call:
    """The call that replaces `x` by x times the normal distribution's integral up to it (Hendrycks & Gimpel 2016)."""
    return lambda: x.copy_(F.gelu(x))


def gelu_tanh_(x: Tensor) -> Call:
    """The call that replaces `x` by the same with a tanh in place of the integral (Hendrycks & Gimpel 2016)."""
    return lambda: x.copy_(F.gelu(x, approximate="tanh"))


def hardtanh_(x: Tensor) -> Call:
    """The call that limits `x` to -1..1."""
    return partial(F.hardtanh_, x)


def leaky_relu_(x: Tensor) -> Call:
    """The call that multiplies `x`, where it is negative, by 0.3 (Maas et al. 2013)."""
    return partial(F.leaky_relu_, x, LEAK)


def silu_(x: Tensor) -> Call:
    """The call that replaces `x` by x times its sigmoid (Elfwing et al. 2018): by torch, whose loop is the fastest."""
    return partial(F.silu, x, inplace=True)


def snake_(x: Tensor, alpha: Tensor, gain: Tensor) -> Call:
    """The call that replaces `x` [..., C] by ``x + gain * sin(alpha x)^2``, alpha and gain [C] (Ziyin et al. 2020)."""
    wave = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    sine = partial(_apply, np.sin, wave) if _by_numpy("sin", wave) else wave.sin_

    def run() -> None:
        torch.mul(alpha, x, out=wave)
        sine()
        x.addcmul_(wave.square_(), gain)

    return run


def angles(rows: int, size: int, base: float, device: torch.device) -> Tensor:
    """By which the values of a head of `size` are turned in each of so many rows, [rows, size / 2] float64 (rotary
    positions, Su et al. 2021): values i and i + size / 2 by ``row * base ** (-2 i / size)``.
    """
    half = size // 2
    steps = torch.arange(half, dtype=torch.float64, device=device) / half
    return torch.arange(rows, dtype=torch.float64, device=device)[:, None] * base**-steps


def turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """`x` [..., d] with values i and i + d / 2 turned by an angle, whose cosine and sine are [..., d / 2]."""
    a, b = x.chunk(2, -1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)
