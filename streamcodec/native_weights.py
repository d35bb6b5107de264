"""A program's weights as the native library reads them: in panels of columns, in float32, int8 or bfloat16.

Where a matrix is int8 numbers times a scale for each column, it is packed so too: steps of few rows, which wait for
memory, read a quarter of the bytes, and make the same float32 weights of them to the bit. One that is rounded to int8
(`native_int8`) is packed so alone, and the library makes floats of it in every step.
"""

import threading
from collections.abc import Mapping
from typing import TypeGuard

import torch
import torch.nn.functional as F
from streamcodec_kernels.native.library import InstructionSet
from streamcodec_kernels.native.memory import together
from torch import Tensor

from .native_int8 import SCALED, Int8, in_int8, in_tiles, in_whole_numbers, rounded
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
    Value,
)

__all__ = [
    "FLOAT",
    "TERMS",
    "WIDE",
    "FloatPanels",
    "Packer",
    "Weights",
    "is_split",
    "lying_together",
    "matrices",
    "pays",
    "terms_of",
    "weight_bytes",
]

FLOAT = 4  # bytes
# Precisions on tiles, and as the sum of how many numbers in bfloat16 a value and a weight are multiplied in them.
TERMS = {"bfloat16": 1, "bfloat16x3": 2}
# Terms of which float32 numbers are the exact sum. Products in float32 are made of these in layers of at least so many
# rows a frame and values of a window: arithmetic takes longer there than reading half as many bytes again.
EXACT = 3
FEWEST_ROWS, FEWEST_VALUES = 32, 128
# Layers of fewer rows wait for memory: in those of at least so many rows and values weights stay float32, and each step
# splits them. In smaller ones single frames would take longer.
FEWEST_TALL, TALL = 8, 2048
# Values of a window that a product in bfloat16 takes at once, and columns of its panels.
WIDE = 32
# What the library's `Operation` calls weights in int8 on tiles.
TILES = {"weights": "int8_tiles", "recurrent": "recurrent_tiles"}

Weights = dict[str, Tensor]


def lying_together(weights: list[list[Weights]]) -> list[list[Weights]]:
    """The same, in one stretch of memory: first what steps of few rows read, then what is there in int8 too."""
    named = [(part, name) for op in weights for part in op for name in part]
    named.sort(key=lambda each: f"int8_{each[1]}" in each[0])  # else in their order
    tensors = together([part[name] for part, name in named])
    for (part, name), tensor in zip(named, tensors, strict=True):
        part[name] = tensor
    return weights


def pays(op: Op) -> TypeGuard[Product]:
    """Whether an operation is faster in bfloat16. The last one, to a channel or two of audio, is not."""
    return isinstance(op, Product) and not isinstance(op, LappedProduct) and min(op.matrix.shape) >= WIDE


def terms_of(op: Op, value: Value, precision: str) -> int:
    """Of how many numbers in bfloat16 an operation, whose result is `value`, sees each value and weight as the sum; 0
    where it multiplies floats. It depends on nothing but the network, the precision and the instruction set.
    """
    if not pays(op):
        return 0
    terms = TERMS.get(precision) or (EXACT if _in_six(op, value) else 0)
    return 0 if terms > 1 and in_int8(op.matrix) is not None else terms  # int8 is read in fewer bytes


def _in_six(op: Product, value: Value) -> bool:
    """Whether a product in float32 is made of three terms: where that is faster, and as exact."""
    rows, values = value.at.rate // op.spread, len(op.matrix)
    if not (rows >= FEWEST_ROWS and values >= FEWEST_VALUES) and not (rows >= FEWEST_TALL and values >= TALL):
        return False
    # A weight that no bfloat16 number is near would become infinite.
    return instruction_set().tiles and bool(op.matrix.abs().amax() <= torch.finfo(torch.bfloat16).max)


def is_split(op: Op, value: Value, terms: int) -> TypeGuard[Product]:
    """Whether the weights of an operation, which sees them as so many terms, lie as floats, which each step splits."""
    return terms == EXACT and value.at.rate // op.spread < FEWEST_ROWS


def weight_bytes(op: Op, rows: float, terms: int = 0, rounds: bool = False, split: bool = False) -> int:
    """Bytes of each weight that an operation reads for so many rows of all streams together.

    terms: as `terms_of` has them. rounds: as for `Packer.weights`. split: as `is_split` has it.
    """
    if isinstance(op, LappedProduct):
        return 0  # but for small tables
    if terms:
        return FLOAT if split else 2 * terms
    most, each = instruction_set().int8, matrices(op)
    if rounds:
        return 1 if most else FLOAT
    reads = each and all(in_whole_numbers(matrix) or rows <= most for matrix in each)
    return 1 if reads and all(in_int8(matrix) is not None for matrix in each) else FLOAT


def matrices(op: Op) -> list[Tensor]:
    """Those that may be in int8, [K, N]."""
    if isinstance(op, LSTMCell):
        return [weight.t() for weight in op.weights[:2]]
    return [op.matrix] if isinstance(op, Product) else []


class Packer:
    """Weights as the library reads them."""

    def __init__(self, instruction_set: InstructionSet):
        self.lanes, self.panel = instruction_set.lanes, instruction_set.lanes * instruction_set.panel
        self.set = instruction_set

    def weights(self, op: Op, rounds: bool = False) -> list[Weights]:
        """What each part of an operation multiplies by, by the names of the library's `Operation`.

        rounds: whether its matrices are rounded to int8 (`is_rounded`).
        """
        if isinstance(op, LappedProduct):
            return [{"weights": tables(op.hop, self.lanes)}]
        if isinstance(op, Product):
            return [self._product(op.matrix, op.bias, rounds, floats=False)]
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
            inputs, recurrent = self._matrix(w_ih.t(), "weights", rounds), self._matrix(w_hh.t(), "recurrent", rounds)
            return [inputs | recurrent | self._bias(b_ih + b_hh)]
        return [{}]

    def low(self, op: Product, terms: int) -> list[Weights]:
        """In so many terms of bfloat16, each the nearest to what the terms before it leave: panels of two tiles of 16
        columns, term after term from the last one on; a tile has pairs of rows, one after the other.
        """
        rows, columns = op.matrix.shape
        left, each = F.pad(op.matrix, (0, -columns % WIDE, 0, -rows % WIDE)), list[Tensor]()
        for _ in range(terms):
            each.append(left.to(torch.bfloat16))
            left = left - each[-1]
        # [term, ., pair, 2, panel, tile, column]
        tiles = torch.stack(each[::-1]).view(terms, -1, WIDE // 2, 2, left.shape[1] // WIDE, 2, WIDE // 2)
        packed = tiles.permute(4, 1, 0, 5, 2, 6, 3).flatten().contiguous()
        return [{"low_weights": packed.view(torch.float32)} | self._bias(op.bias)]

    def split(self, op: Product) -> list[Weights]:
        """As they are, to be split in a step: panels of two tiles of columns, which hold row after row."""
        rows, columns = op.matrix.shape
        filled = F.pad(op.matrix, (0, -columns % WIDE, 0, -rows % WIDE))
        return [{"weights": torch.cat([panel.flatten() for panel in filled.split(WIDE, 1)])} | self._bias(op.bias)]

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

    def _product(self, matrix: Tensor, bias: Tensor | None, rounds: bool = False, floats: bool = True) -> Weights:
        if matrix.shape[1] == 1:
            return {"weights": matrix.flatten().contiguous()} | self._bias(bias)
        return self._matrix(matrix, "weights", rounds, floats) | self._bias(bias)

    def _matrix(self, matrix: Tensor, name: str, rounds: bool, floats: bool = True) -> Weights:
        """[K, N] by its name: in floats, in int8 too where that is the same, and rounded in int8 alone.

        floats: whether what is there in int8 is packed in floats at once, and not by `FloatPanels`.
        """
        found = rounded(matrix) if rounds else in_int8(matrix) if self.set.int8 else None
        if found is None:
            return {name: self.panels(matrix)}
        if in_whole_numbers(matrix):
            return {TILES[name]: in_tiles(found)}
        if not self.set.int8:
            return {name: self.panels(found.matrix)}
        numbers = {f"int8_{name}": self._int8_panels(found)}
        return numbers if rounds or not floats else numbers | {name: self.panels(matrix)}

    def _bias(self, bias: Tensor | None) -> Weights:
        return {} if bias is None else {"bias": self._filled(bias)}

    def _filled(self, rows: Tensor) -> Tensor:
        """Rows [..., C], each filled up with zeros to whole vectors."""
        return F.pad(rows, (0, -rows.shape[-1] % self.lanes)).contiguous()

    def panels(self, matrix: Tensor) -> Tensor:
        """[K, N] as panels of columns; a panel holds its rows one after the other. The last has fewer vectors."""
        whole = matrix.shape[1] // self.panel * self.panel
        panels = matrix[:, :whole].reshape(matrix.shape[0], -1, self.panel).transpose(0, 1)
        return torch.cat([panels.flatten(), self._filled(matrix[:, whole:]).flatten()])

    def _int8_panels(self, of: Int8) -> Tensor:
        """Likewise, as bytes in a float32 tensor: in each panel so many rows at a time lie behind their scales."""
        numbers, scales = self._filled(of.numbers).split(SCALED), self._filled(of.scales)
        panels = (panel.contiguous().view(torch.int8) for panel in scales.split(self.panel, 1))
        lines = torch.cat([panel.view(len(scales), FLOAT, -1) for panel in panels], 2)
        lines = lines.expand(len(numbers), -1, -1)  # of each part those of its scales
        rows = torch.cat([part for pair in zip(lines, numbers, strict=True) for part in pair])
        packed = self.panels(rows)
        return F.pad(packed, (0, -len(packed) % FLOAT)).view(torch.float32)


class FloatPanels:
    """The panels in float32 of products that are read in int8 by steps of few rows. Longer steps read these: they are
    made when the first one asks, so that a stream of single frames starts without.
    """

    def __init__(self, packer: Packer, matrices: Mapping[int, Tensor]):
        """matrices: by operation."""
        self._packer, self._matrices, self._lock = packer, matrices, threading.Lock()
        self._made: dict[int, Tensor] = {}

    @property
    def are_made(self) -> bool:
        """Whether a step has asked."""
        return bool(self._made)

    def of(self, operation: int) -> Tensor | None:
        """Those of one; None where it has its own."""
        if operation not in self._matrices:
            return None
        with self._lock, torch.inference_mode(False), torch.no_grad():
            if not self._made:
                each = together([self._packer.panels(matrix) for matrix in self._matrices.values()])
                self._made = dict(zip(self._matrices, each, strict=True))
        return self._made[operation]
