"""What is measured of steps: how long one takes in most cases, and the input that it is given."""

from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from ..codecs import Codec
from ..codes import Codes

__all__ = ["Clock", "codes_of_chance", "exceptions", "noise", "p99"]

Clock: TypeAlias = Callable[[], float]  # seconds


def exceptions(count: int) -> int:
    """How many of `count` times may be longer than the 99th percentile; of fewer than a hundred, none."""
    return count // 100


def p99(times: Sequence[float]) -> float:
    """The 99th percentile of some times, one of them: the longest where there are fewer than a hundred."""
    return sorted(times)[-1 - exceptions(len(times))]


def noise(codec: Codec, count: int, batch: int = 1) -> Tensor:
    """[batch, C, count] that swells and fades: what is in it does not change what it costs."""
    generator = torch.Generator().manual_seed(1)
    swell = 0.05 + 0.05 * torch.sin(torch.arange(count) * (6.283 / codec.spec.sample_rate))
    return (torch.randn(batch, codec.spec.channels, count, generator=generator) * swell).to(codec.device, codec.dtype)


def codes_of_chance(codec: Codec, frames: int, bandwidth: float, batch: int = 1) -> Codes:
    """Codes [batch, K, frames] that mean nothing: which entries they name does not change what they cost."""
    generator = torch.Generator().manual_seed(1)
    shape = (batch, codec.spec.codebooks(bandwidth), frames)
    return Codes(torch.randint(codec.spec.codebook_size, shape, generator=generator).to(codec.device))
