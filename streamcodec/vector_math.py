"""Elementary functions of many float32 values on a CPU, by numpy where its vector loops are the faster ones.

With AVX-512, numpy's expm1, sin and tanh take 0.4 ns a value, torch's 1.2 to 2.5 (docs/log.md). They are within 3 units
in the last place, as torch's are within 1. Which one is used depends on the processor, numpy's version and the size
alone, so that the same step gives the same bits in every process of a machine. These are for steps of streams: no
gradient passes through them.
"""

from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["elu", "sin_", "tanh"]

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


def sin_(x: Tensor) -> Tensor:
    """sin(x), any shape, in place."""
    return _apply(np.sin, x) if _by_numpy("sin", x) else x.sin_()


def tanh(x: Tensor) -> Tensor:
    """tanh(x), any shape; `x` is kept."""
    return _apply(np.tanh, x.clone()) if _by_numpy("tanh", x) else torch.tanh(x)


def elu(x: Tensor) -> Tensor:
    """x where it is positive, exp(x) - 1 elsewhere (Clevert et al. 2015), any shape; `x` is kept."""
    if not _by_numpy("expm1", x):
        return F.elu(x)
    below = _apply(np.expm1, x.clamp_max(0))
    # Above 0 that is 0, and x is more; below 0 it is more than x.
    return torch.maximum(below, x, out=below)
