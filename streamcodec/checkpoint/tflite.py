"""The weights in TensorFlow Lite files, as plain tensors: what a codec's convolutions and tables are made of.

Such a file is a flatbuffer: tables that say where their fields lie, relative to themselves. The fields are those of
``tensorflow/compiler/mlir/lite/schema/schema.fbs``. Nothing is run. Weights in int8 are taken as the numbers that they
stand for.
"""

import math
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import CheckpointError

__all__ = ["SUFFIX", "read_folder"]

SUFFIX = ".tflite"
LARGEST = 1 << 28  # bytes of a file: those of codecs have a few million
MOST_TIMES = 4  # that its bytes may be read: networks of one file share tables
IDENTIFIER = b"TFL3"
# Operators whose second input is a weight, and the input that is their bias.
_WEIGHTED = {3: ("conv", 2), 4: ("depthwise", 2), 67: ("transposed", 3)}
_TYPES: dict[int, np.dtype[Any]] = {0: np.dtype("<f4"), 2: np.dtype("<i4"), 9: np.dtype("i1")}


def read_folder(folder: Path) -> dict[str, Tensor]:
    """Every file's weights: ``<file>.<n>.<kind>.weight`` and ``.bias`` of its n-th convolution, in the order in which
    they run; and ``<file>.<name>`` of its tables, the constants of two dimensions. float32.

    kind: "conv" [out, kernel, 1, in / groups], "depthwise" [1, kernel, 1, C] or "transposed" [out, kernel, 1, in].
    Raises CheckpointError.
    """
    tensors: dict[str, Tensor] = {}
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        try:
            if path.stat().st_size > LARGEST:
                raise CheckpointError(f"{path}: larger than the {LARGEST >> 20} MiB that a codec's .tflite may have")
            found = dict(_Model(path.read_bytes()).tensors())
        except OSError as error:
            raise CheckpointError(f"{path}: cannot be read ({error})") from error
        except (struct.error, ValueError, IndexError, KeyError, OverflowError, UnicodeDecodeError) as error:
            raise CheckpointError(f"{path}: no TensorFlow Lite file, or a damaged one ({error})") from error
        tensors |= {f"{path.stem}.{name}": tensor for name, tensor in found.items()}
    return tensors


class _Table:
    """A table of the file: fields by number."""

    def __init__(self, data: bytes, place: int):
        self.data, self.place = data, place
        self.fields = place - self._read("<i", place)
        self.size = self._read("<H", self.fields)

    def _read(self, form: str, place: int) -> int:
        if place < 0:
            raise ValueError("a place before the beginning")
        number: int = struct.unpack_from(form, self.data, place)[0]
        return number

    def _at(self, field: int) -> int | None:
        slot = 4 + 2 * field
        offset = self._read("<H", self.fields + slot) if slot < self.size else 0
        return self.place + offset if offset else None

    def number(self, field: int, form: str = "<I") -> int:
        at = self._at(field)
        return 0 if at is None else self._read(form, at)

    def table(self, field: int) -> "_Table | None":
        at = self._at(field)
        return None if at is None else _Table(self.data, at + self._read("<I", at))

    def vector(self, field: int, kind: str) -> np.ndarray:
        """The numbers of a list."""
        at = self._at(field)
        if at is None:
            return np.zeros(0, kind)
        start = at + self._read("<I", at)
        return np.frombuffer(self.data, kind, self._read("<I", start), start + 4)

    def tables(self, field: int) -> "list[_Table]":
        at = self._at(field)
        if at is None:
            return []
        first = at + self._read("<I", at) + 4
        places = (first + 4 * i for i in range(len(self.vector(field, "<u4"))))
        return [_Table(self.data, place + self._read("<I", place)) for place in places]


class _Model:
    """A file: its networks, and their constants."""

    def __init__(self, data: bytes):
        if data[4:8] != IDENTIFIER:
            raise ValueError("its first bytes are others")
        root = _Table(data, struct.unpack_from("<I", data)[0])
        # A code beyond 127 stands in a later field; smaller ones in both, or in the older alone.
        codes = [max(code.number(0, "<b"), code.number(3, "<i")) for code in root.tables(1)]
        self.networks, self.buffers, self.codes = root.tables(2), root.tables(4), codes
        self.left = MOST_TIMES * len(data)

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """As `read_folder` names them, without the file."""
        count = 0
        for network in self.networks:
            known = network.tables(0)
            for operator in network.tables(3):
                kind, bias = _WEIGHTED.get(self.codes[operator.number(0)], ("", 0))
                inputs = operator.vector(1, "<i4")
                if not kind:
                    continue
                weight = self._constant(known[inputs[1]])
                if weight is not None:
                    yield f"{count:02d}.{kind}.weight", weight
                    offset = self._constant(known[inputs[bias]]) if len(inputs) > bias else None
                    if offset is not None:
                        yield f"{count:02d}.{kind}.bias", offset
                    count += 1
            for tensor in known:
                if len(tensor.vector(0, "<i4")) == 2 and (values := self._constant(tensor)) is not None:
                    yield bytes(tensor.vector(3, "u1")).decode(), values

    def _constant(self, tensor: _Table) -> Tensor | None:
        """The values of a tensor that the file holds; None where it holds none, or not of a type of weights."""
        raw = self.buffers[tensor.number(2)].vector(0, "u1")
        kind = _TYPES.get(tensor.number(1, "<b"))
        shape = tuple(int(size) for size in tensor.vector(0, "<i4"))
        if kind is None or not len(raw) or not shape:
            return None
        self.left -= len(raw)
        if self.left < 0:
            raise ValueError("it names the same bytes many times over")
        if min(shape) < 1 or math.prod(shape) * kind.itemsize != len(raw):
            raise ValueError(f"a tensor {list(shape)} in {len(raw)} bytes")
        values = raw.view(kind).reshape(shape).astype(np.float64)
        if kind != _TYPES[0]:
            values = _dequantised(values, tensor.table(4))
        return torch.from_numpy(values.astype(np.float32))


def _dequantised(values: np.ndarray, how: _Table | None) -> np.ndarray:
    """What whole numbers stand for: scale times their distance from the zero point."""
    if how is None or not len(scale := how.vector(2, "<f4").astype(np.float64)):
        return values
    zero, axis = how.vector(3, "<i8"), how.number(6, "<i")
    if len(scale) == 1:
        return (values - (zero[0] if len(zero) else 0)) * scale[0]
    shape = [1] * values.ndim
    shape[axis] = -1
    return (values - (zero.reshape(shape) if len(zero) else 0)) * scale.reshape(shape)
