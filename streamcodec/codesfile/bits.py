"""Whole numbers of a fixed width as bits one after the other, the least significant first, as EnCodec packs them."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["BitPacker", "unpack"]

Numbers = NDArray[np.integer[Any]]


class BitPacker:
    """Numbers of `width` bits (1..16) to bytes; up to 7 bits wait for the next call."""

    def __init__(self, width: int) -> None:
        self.width = width
        self._waiting = np.zeros(0, np.uint8)

    def push(self, numbers: Numbers) -> bytes:
        """The bytes that are now whole. numbers: any shape, in C order, each in 0..2**width - 1."""
        pairs = numbers.astype("<u2").reshape(-1, 1).view(np.uint8)
        bits = np.unpackbits(pairs, axis=1, bitorder="little")[:, : self.width].ravel()
        bits = np.concatenate([self._waiting, bits])
        whole = len(bits) - len(bits) % 8
        self._waiting = bits[whole:]
        return np.packbits(bits[:whole], bitorder="little").tobytes()

    def flush(self) -> bytes:
        """The last byte, filled with zeros, if any bits wait."""
        last, self._waiting = self._waiting, self._waiting[:0]
        return np.packbits(last, bitorder="little").tobytes()


def unpack(data: bytes, width: int, skip: int, count: int) -> NDArray[np.uint16]:
    """`count` numbers of `width` bits from bit `skip` of `data` on, which must hold them."""
    bits = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")[skip : skip + count * width]
    padded = np.zeros((count, 16), np.uint8)
    padded[:, :width] = bits.reshape(count, width)
    return np.packbits(padded, axis=1, bitorder="little").view("<u2").ravel()
