"""Writes TensorFlow Lite files with convolutions and tables: only what a reader of weights looks at."""

import struct
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

__all__ = ["Constant", "Operator", "model"]

CODES = {"conv": 3, "depthwise": 4, "transposed": 67, "other": 0}


class Constant(NamedTuple):
    """values: float32, int32 or int8; scales, zeros, axis: of what they stand for."""

    values: np.ndarray
    name: str = ""
    scales: Sequence[float] = ()
    zeros: Sequence[int] = ()
    axis: int = 0


class Operator(NamedTuple):
    kind: str
    weight: Constant
    bias: Constant


class _Numbers(NamedTuple):
    values: np.ndarray


class _List(NamedTuple):
    items: list[Any]


class _Writer:
    """Tables (lists of fields: None, ints, or what follows), each before what it refers to."""

    def __init__(self) -> None:
        self.data = bytearray(b"\0\0\0\0TFL3")

    def place(self) -> int:
        self.data += bytes(-len(self.data) % 8)
        return len(self.data)

    def refer(self, at: int, item: Any) -> None:
        place = self.write(item)
        struct.pack_into("<I", self.data, at, place - at)

    def write(self, item: Any) -> int:
        if isinstance(item, _Numbers):
            place = self.place()
            self.data += struct.pack("<I", item.values.size) + item.values.tobytes()
            return place
        if isinstance(item, _List):
            place = self.place()
            self.data += struct.pack("<I", len(item.items)) + bytes(4 * len(item.items))
            written: dict[int, int] = {}
            for i, one in enumerate(item.items):
                if id(one) not in written:
                    written[id(one)] = self.write(one)
                struct.pack_into("<I", self.data, place + 4 + 4 * i, written[id(one)] - (place + 4 + 4 * i))
            return place
        fields: list[Any] = item
        slots = self.place()
        self.data += struct.pack("<HH", 4 + 2 * len(fields), 4 + 4 * len(fields))
        self.data += b"".join(struct.pack("<H", 0 if one is None else 4 + 4 * i) for i, one in enumerate(fields))
        place = self.place()
        self.data += struct.pack("<i", place - slots) + bytes(4 * len(fields))
        for i, one in enumerate(fields):
            at = place + 4 + 4 * i
            if isinstance(one, int):
                struct.pack_into("<i", self.data, at, one)
            elif one is not None:
                self.refer(at, one)
        return place


def model(operators: Sequence[Operator], tables: Sequence[Constant] = (), networks: int = 1) -> bytes:
    """The bytes of a file with one network, or with as many that share all their buffers."""
    kinds, tensors, buffers, steps = list(CODES), [], [[None]], []

    def add(constant: Constant | None) -> int:
        buffer, quantization, kind, shape, name = 0, None, 0, [1, 320], "activations"
        if constant is not None:
            buffers.append([_Numbers(np.frombuffer(constant.values.tobytes(), "u1"))])
            buffer, shape, name = len(buffers) - 1, list(constant.values.shape), constant.name
            kind = {"f": 0, "i": 2 if constant.values.dtype.itemsize == 4 else 9}[constant.values.dtype.kind]
            if constant.scales:
                scales, zeros = np.array(constant.scales, "<f4"), np.array(constant.zeros, "<i8")
                quantization = [None, None, _Numbers(scales), _Numbers(zeros), None, None, constant.axis]
        letters = _Numbers(np.frombuffer(name.encode(), "u1"))
        tensors.append([_Numbers(np.array(shape, "<i4")), kind, buffer, letters, quantization])
        return len(tensors) - 1

    for one in operators:
        passing, weight, bias = add(None), add(one.weight), add(one.bias)
        inputs = [passing, weight, passing, bias] if one.kind == "transposed" else [passing, weight, bias]
        steps.append([kinds.index(one.kind), _Numbers(np.array(inputs, "<i4")), None])
        steps.append([kinds.index("other"), _Numbers(np.array([passing], "<i4")), None])
    for table in tables:
        add(table)
    writer = _Writer()
    codes = _List([[CODES[kind], None, 1, CODES[kind]] for kind in kinds])
    network = [_List(tensors), None, None, _List(steps), None]
    root = writer.write([3, codes, _List([network] * networks), None, _List(buffers)])
    struct.pack_into("<I", writer.data, 0, root)
    return bytes(writer.data)
