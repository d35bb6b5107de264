"""Matrices in int8: as what they are to the bit, or rounded."""

from typing import NamedTuple, TypeGuard

import torch
import torch.nn.functional as F
from torch import Tensor

from .program import LappedProduct, LSTMCell, Op, Product, Value

__all__ = ["SCALED", "Int8", "in_int8", "is_rounded", "rounded"]

SCALED = 64  # rows of a rounded matrix that have a scale of their own for each column, as in the library's product.h
# Which matrices are rounded: of more weights than this, in layers of at most so many rows a frame. Steps of few frames
# wait for these, and they are nearly all of a decoder. Other layers gain nothing.
FEWEST, MOST_ROWS = 1 << 18, 8
MOST = 127
# Columns by which most matrices are known to be none of int8 weights, and values of a column; and how far a scale may
# be from a 127th of the largest value, in units in the last place.
LOOKED_AT, NEARBY = 16, (0, 1, -1, 2, -2)


class Int8(NamedTuple):
    """numbers: [K, N] of at most 127; scales: [1, N], or one row for each SCALED of them."""

    numbers: Tensor
    scales: Tensor

    @property
    def matrix(self) -> Tensor:
        """The weights, [K, N] float32: as the library makes them."""
        scales = self.scales.repeat_interleave(SCALED, 0) if len(self.scales) > 1 else self.scales
        return self.numbers * scales[: len(self.numbers)]


def is_rounded(op: Op, value: Value) -> TypeGuard[Product | LSTMCell]:
    """Whether the precision int8 rounds an operation, whose result is `value`."""
    if isinstance(op, LappedProduct) or not isinstance(op, (Product, LSTMCell)):
        return False
    return op.multiply_adds > FEWEST and value.at.rate // op.spread <= MOST_ROWS


def rounded(matrix: Tensor) -> Int8:
    """A finite float32 matrix [K, N] rounded; what is in int8 already stays as it is."""
    found = in_int8(matrix)
    if found is not None:
        return found
    parts = F.pad(matrix, (0, 0, 0, -len(matrix) % SCALED)).unflatten(0, (-1, SCALED))  # [., SCALED, N]
    scales = (parts.abs().amax(1) / MOST).clamp_min_(torch.finfo(torch.float32).tiny)
    numbers = (parts / scales[:, None]).round_().to(torch.int8)
    return Int8(numbers.flatten(0, 1)[: len(matrix)], scales)


def in_int8(matrix: Tensor) -> Int8 | None:
    """A float32 matrix [K, N] with one scale for each column, if these are its values to the bit; else None."""
    if matrix.shape[1] > LOOKED_AT and in_int8(matrix[:, :LOOKED_AT]) is None:
        return None
    columns = matrix.t().contiguous()
    most = columns.abs().amax(1)
    near = torch.where(most == 0, 1.0, most / MOST)
    below = (columns.view(torch.int32) == torch.iinfo(torch.int32).min).any(1)  # a zero has a sign, that of its scale
    sign = torch.where(below, -1.0, 1.0)
    numbers = (columns / (near * sign)[:, None]).round_().to(torch.int8)
    scales = torch.zeros_like(near)
    for ulps in NEARBY:
        tried = (near.view(torch.int32) + ulps).view(torch.float32) * sign
        left = (scales == 0).nonzero()[:, 0]
        for count in (LOOKED_AT, columns.shape[1]):  # some values tell of most scales that they are wrong
            again = numbers[left, :count].float().mul_(tried[left, None])
            left = left[(again.view(torch.int32) == columns[left, :count].view(torch.int32)).all(1)]
        scales[left] = tried[left]
    # The library takes scales below the least normal number for 0, and the weights that they make may be above it.
    usable = scales.isfinite() & (scales.abs() >= torch.finfo(torch.float32).tiny)
    return Int8(numbers.t(), scales[None]) if bool(usable.all()) else None
