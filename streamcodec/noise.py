"""Random numbers that are a function of a seed and a place, so that no two ways to get there give different ones.

A stream, an offline run and a batch all draw the number of a place by itself: there is no generator that moves on.
"""

import math

import torch
from torch import Tensor

__all__ = ["normal_at", "seed_of"]

# Steele et al. 2014, "Fast splittable pseudorandom number generators": SplitMix64, in signed 64-bit integers.
_STEP = 0x9E3779B97F4A7C15 - (1 << 64)
_ROUNDS = ((30, 0xBF58476D1CE4E5B9 - (1 << 64)), (27, 0x94D049BB133111EB - (1 << 64)))
_HALF = 0xFFFFFFFF  # the lower 32 bits


def seed_of(seed: int, stream: int) -> int:
    """A seed of its own for each of several streams of numbers, as a signed 64-bit integer."""
    return int(_mixed(torch.tensor([seed * 1_000_003 + stream], dtype=torch.int64, device="cpu")))


def normal_at(seed: int, place: Tensor) -> Tensor:
    """What stands at each place of an endless row of normal numbers (mean 0, variance 1): [...] float64.

    place: [...] int64. By Box & Muller 1958, of the two halves of 64 random bits.
    """
    bits = _mixed(_mixed(place) + seed)
    first = ((bits >> 32) & _HALF).double().add_(0.5).mul_(2.0**-32)
    angle = (bits & _HALF).double().mul_(math.tau * 2.0**-32)
    return first.log_().mul_(-2).sqrt_().mul_(angle.cos_())


def _mixed(number: Tensor) -> Tensor:
    """64 bits that depend on all bits of `number`, each on about half of them."""
    bits = number + 1
    bits = bits * _STEP
    for shift, factor in _ROUNDS:
        bits = (bits ^ _shifted(bits, shift)) * factor
    return bits ^ _shifted(bits, 31)


def _shifted(bits: Tensor, shift: int) -> Tensor:
    """To the right, with zeros on the left (`>>` repeats the sign)."""
    return (bits >> shift) & ((1 << (64 - shift)) - 1)
