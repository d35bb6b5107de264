"""A program's weights as the native library reads them: in panels of columns, in float32, int8 or bfloat16.

Where a matrix is int8 numbers times a scale for each column, it is packed so too: steps of few rows, which wait for
memory, read a quarter of the bytes, and make the same float32 weights of them to the bit.
"""

from typing import TypeGuard

import torch
import torch.nn.functional as F
from streamcodec_kernels.native.library import InstructionSet
from streamcodec_kernels.native.memory import together
from torch import Tensor

from .native_lapped import tables
from .native_support import instruction_set
from .program import (
    Depthwise,
    DepthwiseTransposed,
    GroupedProduct,
    LappedProduct,
    LayerNorm,
    LSTMCell,
    Normalise,
    Op,
    Product,
    Program,
)

__all__ = ["FLOAT", "WIDE", "Packer", "Weights", "in_int8", "lying_together", "pays", "weight_bytes"]

FLOAT = 4  # bytes
# Values of a window that a product in bfloat16 takes at once, and columns of its panels.
WIDE = 32
# Columns by which most matrices are known to be none of int8 weights, and values of a column; and how far a scale may
# be from a 127th of the largest value, in units in the last place.
LOOKED_AT, NEARBY = 16, (0, 1, -1, 2, -2)

Weights = dict[str, Tensor]


def lying_together(weights: list[list[Weights]]) -> list[list[Weights]]:
    """The same, in one stretch of memory: first what steps of few rows read, then what is there in int8 too."""
    named = [(part, name) for op in weights for part in op for name in part]
    named.sort(key=lambda each: each[1] == "weights" and "int8_weights" in each[0])  # else in their order
    tensors = together([part[name] for part, name in named])
    for (part, name), tensor in zip(named, tensors, strict=True):
        part[name] = tensor
    return weights


def in_int8(matrix: Tensor) -> tuple[Tensor, Tensor] | None:
    """A float32 matrix [K, N] as int8 numbers of at most 127, [K, N], and a scale for each column, [N]: the products of
    both are its values to the bit. None where there are no such numbers.
    """
    if matrix.shape[1] > LOOKED_AT and in_int8(matrix[:, :LOOKED_AT]) is None:
        return None
    columns = matrix.t().contiguous()
    most = columns.abs().amax(1)
    near = torch.where(most == 0, 1.0, most / 127)
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
    return (numbers.t(), scales) if bool(usable.all()) else None


def pays(op: Op) -> TypeGuard[Product]:
    """Whether an operation is faster in bfloat16. The last one, to a channel or two of audio, is not."""
    return isinstance(op, Product) and not isinstance(op, LappedProduct) and min(op.matrix.shape) >= WIDE


def weight_bytes(op: Op, rows: float, low: bool = False) -> int:
    """Bytes of each weight that an operation reads for so many rows of all streams together."""
    if isinstance(op, LappedProduct):
        return 0  # but for small tables
    if low and pays(op):
        return 2
    if not isinstance(op, Product) or rows > instruction_set().int8 or in_int8(op.matrix) is None:
        return FLOAT
    return 1


class Packer:
    """Weights as the library reads them."""

    def __init__(self, instruction_set: InstructionSet):
        self.lanes, self.panel = instruction_set.lanes, instruction_set.lanes * instruction_set.panel
        self.set = instruction_set

    def weights(self, op: Op) -> list[Weights]:
        """What each part of an operation multiplies by, by the names of the library's `Operation`."""
        if isinstance(op, LappedProduct):
            return [{"weights": tables(op.hop, self.lanes)}]
        if isinstance(op, Product):
            return [self._product(op.matrix, op.bias)]
        if isinstance(op, GroupedProduct):
            return self._grouped(op)
        if isinstance(op, Depthwise):
            return [self._channels(op.weight, op.bias)]
        if isinstance(op, DepthwiseTransposed):
            return [self._channels(weight, op.bias) for weight in op.weight.unbind(1)]
        if isinstance(op, (Normalise, LayerNorm)):
            return [self._channels(op.weight, op.bias if isinstance(op, LayerNorm) else None)]
        if isinstance(op, LSTMCell):
            w_ih, w_hh, b_ih, b_hh = op.weights
            panels = {"weights": self._panels(w_ih.t()), "recurrent": self._panels(w_hh.t())}
            return [panels | self._bias(b_ih + b_hh)]
        return [{}]

    def low(self, op: Product) -> list[Weights]:
        """In bfloat16: panels of two tiles of 16 columns; a tile has pairs of rows, one after the other."""
        rows, columns = op.matrix.shape
        matrix = F.pad(op.matrix, (0, -columns % WIDE, 0, -rows % WIDE)).to(torch.bfloat16)
        tiles = matrix.view(
            -1, WIDE // 2, 2, matrix.shape[1] // WIDE, 2, WIDE // 2
        )  # [., pair, 2, panel, tile, column]
        packed = tiles.permute(3, 0, 4, 1, 5, 2).flatten().contiguous()
        return [{"low_weights": packed.view(torch.float32)} | self._bias(op.bias)]

    def _grouped(self, op: GroupedProduct) -> list[Weights]:
        if len(op.matrix) == 1:
            return [self._product(op.matrix[0], None if op.bias is None else op.bias.repeat(op.spread))]
        biases = [None] * len(op.matrix) if op.bias is None else op.bias.chunk(len(op.matrix))
        each = zip(op.matrix, biases, strict=True)
        return [self._product(part, bias) for matrix, bias in each for part in matrix.chunk(op.spread, 1)]

    def _channels(self, weight: Tensor, bias: Tensor | None) -> Weights:
        """Weights [..., C] of each channel by itself."""
        return {"weights": self._filled(weight)} | self._bias(bias)

    def snake(self, program: Program, index: int) -> Weights:
        """Its factors, as often as the columns of a window's result repeat the channels."""
        buffer, op = program.buffers[index], program.ops[program.source(index)]
        if buffer.activation is None or buffer.activation.alpha is None or buffer.activation.gain is None:
            return {}
        # One vector more: a part of the columns may begin anywhere.
        factors = {"alpha": buffer.activation.alpha, "inverse": buffer.activation.gain}
        return {name: self._filled(F.pad(each.repeat(op.spread), (0, self.lanes))) for name, each in factors.items()}

    def _product(self, matrix: Tensor, bias: Tensor | None) -> Weights:
        if matrix.shape[1] == 1:
            return {"weights": matrix.flatten().contiguous()} | self._bias(bias)
        return {"weights": self._panels(matrix)} | self._int8(matrix) | self._bias(bias)

    def _int8(self, matrix: Tensor) -> Weights:
        found = in_int8(matrix) if self.set.int8 else None
        if found is None:
            return {}
        numbers = self._panels(found[0])
        packed = F.pad(numbers, (0, -len(numbers) % FLOAT)).view(torch.float32)
        return {"int8_weights": packed, "scales": self._filled(found[1])}

    def _bias(self, bias: Tensor | None) -> Weights:
        return {} if bias is None else {"bias": self._filled(bias)}

    def _filled(self, rows: Tensor) -> Tensor:
        """Rows [..., C], each filled up with zeros to whole vectors."""
        return F.pad(rows, (0, -rows.shape[-1] % self.lanes)).contiguous()

    def _panels(self, matrix: Tensor) -> Tensor:
        """[K, N] as panels of columns; a panel holds its rows one after the other. The last has fewer vectors."""
        whole = matrix.shape[1] // self.panel * self.panel
        panels = matrix[:, :whole].reshape(matrix.shape[0], -1, self.panel).transpose(0, 1)
        return torch.cat([panels.flatten(), self._filled(matrix[:, whole:]).flatten()])
