"""Matrices in int8: as what they are to the bit, or rounded."""

import ctypes
from typing import NamedTuple, TypeGuard

import torch
import torch.nn.functional as F
from streamcodec_kernels.native import library
from torch import Tensor

from .native_support import floats, instruction_set
from .program import LappedProduct, LSTMCell, Op, Product, Value

__all__ = ["DEPTH", "SCALED", "Int8", "in_int8", "in_tiles", "in_whole_numbers", "is_rounded", "rounded"]

SCALED = 64  # rows of a rounded matrix that have a scale of their own for each column, as in the library's product.h
# Which matrices are rounded: of more weights than this, in layers of at most so many rows a frame. Steps of few frames
# wait for these, and they are nearly all of a decoder. Other layers gain nothing.
FEWEST, MOST_ROWS = 1 << 18, 8
MOST = 127
# On tiles: rows of one, and columns of a panel.
DEPTH, WIDE = 64, 32
# The most rows of a matrix on tiles: the sums of so many products with digits of at most 128 are numbers of 32 bits.
DEEPEST = (2**31 - 1) // (128 * MOST)
HEAD, FLOAT = 64, 4  # bytes


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


def in_whole_numbers(matrix: Tensor) -> bool:
    """Whether products with a matrix [K, N] in int8 are made in whole numbers, on tiles."""
    return instruction_set().tiles and len(matrix) <= DEEPEST


def in_tiles(of: Int8) -> Tensor:
    """A matrix as the library's source/int8_tiles.h reads it: bytes, in a float32 tensor."""
    (height, columns), parts = of.numbers.shape, len(of.scales)
    panels, depth = -(-columns // WIDE), -(-height // DEPTH)
    packed = floats((HEAD + panels * WIDE * (depth * DEPTH + FLOAT * parts)) // FLOAT)
    numbers, scales = of.numbers.contiguous(), of.scales.contiguous()
    addresses = (tensor.data_ptr() for tensor in (numbers, scales, packed))
    instruction_set().in_tiles(ctypes.byref(library.Tiles(height, columns, parts, *addresses)))
    return packed


def in_int8(matrix: Tensor) -> Int8 | None:
    """A float32 matrix [K, N] with one scale for each column, if these are its values to the bit; else None."""
    matrix = matrix if matrix.stride(1) == 1 else matrix.contiguous()
    numbers, scales = torch.empty(matrix.shape, dtype=torch.int8), floats(1, matrix.shape[1])
    addresses = (tensor.data_ptr() for tensor in (matrix, numbers, scales))
    asked = library.Int8(*matrix.shape, matrix.stride(0), *addresses)
    return Int8(numbers, scales) if instruction_set().in_int8(ctypes.byref(asked)) else None
