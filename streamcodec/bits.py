"""Whole numbers of a fixed width as bits one after the other, the least significant first, as EnCodec packs them."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["MAX_WIDTH", "BitPacker", "pack_bits", "unpack_bits"]

MAX_WIDTH = 16


def pack_bits(numbers: NDArray[Any], width: int) -> bytes:
    """numbers: any shape, in C order, each in 0..2**width - 1. The last byte is filled with zeros."""
    return np.packbits(_bits(numbers, width), None, "little").tobytes()


def unpack_bits(data: "bytes | memoryview", width: int, count: int, skip: int = 0) -> NDArray[np.uint16]:
    """`count` numbers of `width` bits from bit `skip` of `data` on, which must hold them: [count]."""
    bits = np.unpackbits(np.frombuffer(data, np.uint8), None, skip + count * width, "little")[skip:]
    wide = np.zeros((count, MAX_WIDTH), np.uint8)
    wide[:, :width] = bits.reshape(count, width)
    return np.packbits(wide, None, "little").view("<u2")


def _bits(numbers: NDArray[Any], width: int) -> NDArray[np.uint8]:
    values = np.ascontiguousarray(numbers, dtype="<u2").reshape(-1, 1)
    return np.unpackbits(values.view(np.uint8), 1, width, "little")


class BitPacker:
    """Numbers of `width` bits (1..16) to bytes; up to 7 bits wait for the next call."""

    def __init__(self, width: int) -> None:
        self.width = width
        self._waiting = np.zeros(0, np.uint8)

    def push(self, numbers: NDArray[Any]) -> bytes:
        """The bytes that are now whole. numbers: as for `pack_bits`."""
        bits = np.concatenate([self._waiting, _bits(numbers, self.width).ravel()])
        whole = len(bits) - len(bits) % 8
        self._waiting = bits[whole:]
        return np.packbits(bits[:whole], bitorder="little").tobytes()

    def flush(self) -> bytes:
        """The last byte, filled with zeros, if any bits wait."""
        last, self._waiting = self._waiting, self._waiting[:0]
        return np.packbits(last, bitorder="little").tobytes()
