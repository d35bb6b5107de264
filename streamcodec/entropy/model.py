"""The weights of a predictor: whole numbers in a safetensors file, and the file's hash. `predictor` computes with them.

Sizes: K codebooks, N entries each, in G groups of I places (G * I >= N); D dimensions of an entry's vector, H of the
state of the past, S of a stage. A row of a layer has int8 weights w, an exponent e and an int32 bias b: of inputs x it
makes (w . x + b) / 2**e, rounded down. All values are whole numbers that stand for 64ths.

| tensor | shape | |
|---|---|---|
| ``vectors`` | [K, N, D] int8 | what an entry is to the predictor |
| ``places`` | [K, N] uint16 | where an entry stands in the groups: group * I + place in the group |
| ``past.*`` | [2H, D + H] | the last frame and the state, to the gates and the candidates of the new state |
| ``stage.*`` | [K, S, H + D + D] | the state, the last frame, and this frame's codes so far, to a stage's features |
| ``group.*`` | [K, G, S] | a stage's features to the logarithms of the groups' frequencies |
| ``item.*`` | [K, G * I, S] | and those of the places within each group |
| ``sigmoid``, ``tanh`` | [1024] int16 | of -512..511 64ths: in 256ths; 127 * 128 times |
| ``frequencies`` | [1024] int32 | of 0..1023 64ths of a bit below the likeliest |

The tables are part of the file since a computed exponential may differ from machine to machine in its last bit.
"""

import hashlib
import json
import math
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import CheckpointError

__all__ = ["TABLE", "UNIT", "EntropyModel", "Layer"]

UNIT = 64  # a value of 1 is 64 of these
TABLE = 1024
FORMAT = "streamcodec-entropy"
VERSION = "1"
MAX_BYTES = 2**28  # of a model's file
MAX_EXPONENT = 20
_DTYPES = {"I8": "<i1", "U16": "<u2", "I16": "<i2", "I32": "<i4"}
_LAYERS = ("past", "stage", "group", "item")

Array = NDArray[Any]


@dataclass(frozen=True)
class Layer:
    """weights: [..., rows, columns] int8; exponents: [..., rows] int8; biases: [..., rows] int32."""

    weights: Array
    exponents: Array
    biases: Array


@dataclass(frozen=True, eq=False)
class EntropyModel:
    """A predictor of one codec's codes: whole numbers, and nothing that a machine could round otherwise.

    codec: the name of the codec whose codes it knows; fingerprint: of that codec's configuration and weights; tensors:
    by name, as at the head of this file. `read` and `write` make it from a file and the reverse.
    """

    codec: str
    fingerprint: str
    tensors: Mapping[str, Array]

    def __post_init__(self) -> None:
        _check(self.tensors)

    @property
    def codebooks(self) -> int:
        """K: the most that it can predict; any number of the first ones will do."""
        return int(self.tensors["vectors"].shape[0])

    @property
    def codebook_size(self) -> int:
        """N."""
        return int(self.tensors["vectors"].shape[1])

    def layer(self, name: str) -> Layer:
        """One of past, stage, group and item."""
        return Layer(*(self.tensors[f"{name}.{part}"] for part in ("weights", "exponents", "biases")))

    @cached_property
    def hash(self) -> str:
        """SHA-256 of the file, hexadecimal: codes coded with one model are decoded with that model alone."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    def to_bytes(self) -> bytes:
        """The file: the same for the same model."""
        layout: dict[str, Any] = {
            "__metadata__": {
                "format": FORMAT, "version": VERSION, "codec": self.codec, "fingerprint": self.fingerprint,
            }
        }  # fmt: skip
        blocks, end = [], 0
        for name, (dtype, _) in _SHAPES.items():
            tensor = np.ascontiguousarray(self.tensors[name], _DTYPES[dtype])
            layout[name] = {
                "dtype": dtype, "shape": list(tensor.shape), "data_offsets": [end, end + tensor.nbytes],
            }  # fmt: skip
            blocks.append(tensor.tobytes())
            end += tensor.nbytes
        text = json.dumps(layout).encode()
        text += b" " * (-len(text) % 8)
        return struct.pack("<Q", len(text)) + text + b"".join(blocks)

    def write(self, path: "str | os.PathLike[str]") -> None:
        """Write the file. Raises CheckpointError where it cannot be written."""
        try:
            Path(path).write_bytes(self.to_bytes())
        except OSError as error:
            raise CheckpointError(f"cannot write {path}: {error.strerror}") from error

    @staticmethod
    def read(path: "str | os.PathLike[str]") -> "EntropyModel":
        """The model in a file. Raises CheckpointError for one that is missing, damaged or no such model."""
        try:
            if Path(path).stat().st_size > MAX_BYTES:
                raise CheckpointError(f"{path} is no entropy model: it has more than {MAX_BYTES} bytes")
            return EntropyModel.parse(Path(path).read_bytes(), str(path))
        except OSError as error:
            raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error

    @staticmethod
    def parse(data: bytes, name: str = "the file") -> "EntropyModel":
        """The inverse of `to_bytes`. Raises CheckpointError."""
        try:
            count = int.from_bytes(data[:8], "little")
            layout = json.loads(data[8 : 8 + count])
            about = layout["__metadata__"]
            if (about["format"], about["version"]) != (FORMAT, VERSION):
                raise ValueError(f"it is {about['format']} {about['version']}, not {FORMAT} {VERSION}")
            tensors = {name: _tensor(data, 8 + count, name, layout[name]) for name in _SHAPES}
            model = EntropyModel(str(about["codec"]), str(about["fingerprint"]), tensors)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise CheckpointError(f"{name} is no entropy model, or is damaged: {error}") from error
        if model.to_bytes() != data:  # else the hash would not be the file's
            raise CheckpointError(f"{name} is damaged: it is not what a model of these weights is written as")
        return model


# Name: type, and shape as the sizes of the head of this file.
_SHAPES: dict[str, tuple[str, str]] = {
    "vectors": ("I8", "K N D"),
    "places": ("U16", "K N"),
    "past.weights": ("I8", "H2 DH"),
    "past.exponents": ("I8", "H2"),
    "past.biases": ("I32", "H2"),
    "stage.weights": ("I8", "K S HDD"),
    "stage.exponents": ("I8", "K S"),
    "stage.biases": ("I32", "K S"),
    "group.weights": ("I8", "K G S"),
    "group.exponents": ("I8", "K G"),
    "group.biases": ("I32", "K G"),
    "item.weights": ("I8", "K GI S"),
    "item.exponents": ("I8", "K GI"),
    "item.biases": ("I32", "K GI"),
    "sigmoid": ("I16", "table"),
    "tanh": ("I16", "table"),
    "frequencies": ("I32", "table"),
}


def _tensor(data: bytes, base: int, name: str, entry: Any) -> Array:
    start, end = (int(each) for each in entry["data_offsets"])
    shape = tuple(int(size) for size in entry["shape"])
    dtype = np.dtype(_DTYPES[_SHAPES[name][0]])
    if (
        entry["dtype"] != _SHAPES[name][0]
        or min(shape, default=1) < 1
        or math.prod(shape) * dtype.itemsize != end - start
    ):
        raise ValueError(f"its tensor {name} is not of the type {_SHAPES[name][0]}, or not of its size")
    return np.frombuffer(data, dtype, math.prod(shape), base + start).reshape(shape)


def _check(tensors: Mapping[str, Array]) -> None:
    """Raises ValueError where shapes do not agree or a number is outside what `predictor` is exact for."""
    (codebooks, size, width), groups = tensors["vectors"].shape, tensors["group.weights"].shape[1]
    state, stage, places = (
        len(tensors["past.weights"]) // 2,
        tensors["stage.weights"].shape[1],
        tensors["item.weights"].shape[1],
    )
    sizes = {
        "K": codebooks, "N": size, "D": width, "H2": 2 * state, "DH": width + state, "S": stage,
        "HDD": state + 2 * width, "G": groups, "GI": places, "table": TABLE,
    }  # fmt: skip
    for name, (dtype, shape) in _SHAPES.items():
        wanted = tuple(sizes[each] for each in shape.split())
        if tensors[name].shape != wanted or tensors[name].dtype != np.dtype(_DTYPES[dtype]):
            raise ValueError(f"{name} is {tensors[name].dtype} {tensors[name].shape}, not {dtype} {wanted}")
    if places % groups or places < size or places > 2**16:
        raise ValueError(f"{groups} groups of {places} places together do not hold {size} entries")
    for name in _LAYERS:
        exponents = tensors[f"{name}.exponents"]
        if exponents.min() < 0 or exponents.max() > MAX_EXPONENT:
            raise ValueError(f"{name}.exponents are not in 0..{MAX_EXPONENT}")
    for row in tensors["places"]:
        if len(np.unique(row)) != size or row.max() >= places:
            raise ValueError("places are not those of different entries")
    for name, least, most in (("sigmoid", 0, 256), ("tanh", -127 * 128, 127 * 128), ("frequencies", 1, 2**15)):
        if tensors[name].min() < least or tensors[name].max() > most:
            raise ValueError(f"the table {name} is not in {least}..{most}")
