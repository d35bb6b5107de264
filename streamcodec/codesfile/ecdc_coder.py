"""The arithmetic coder of EnCodec's ``.ecdc`` files with a language model (encodec 0.1.1, `quantization/ac.py`).

A range of whole numbers, from `low` to `high`, stands for all that was coded. Each symbol narrows it to the symbol's
share, by a table of cumulative frequencies that ends at 2**24 or below. Where it has fewer than 2**24 numbers, bits are
added to their ends. Leading bits in which both ends agree are written. The bits of a byte come least significant first.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np

from ..errors import CodesError

__all__ = ["RangeDecoder", "RangeEncoder", "most_symbols"]

TOTAL = 2**24
LEAST = 2  # of a symbol's frequency
MOST_BITS = 62  # of an end: upstream's coder stops beyond them


def most_symbols(size: int, symbols: int) -> int:
    """How many numbers of 0..symbols - 1 a file of `size` bytes can hold: even the likeliest narrows the range."""
    return int((8 * size + 1) / -math.log2(1 - LEAST * (symbols - 1) / TOTAL))


class _Range:
    """See the head of this file. bits: of the ends."""

    def __init__(self) -> None:
        self.low = self.high = self.bits = 0

    def _share(self, symbol: int, table: Sequence[int]) -> tuple[int, int]:
        """The ends of a symbol's range, rounded as upstream's."""
        scale = (self.high - self.low + 1) / TOTAL
        begin, end = table[symbol - 1] if symbol else 0, table[symbol] - 1
        return self.low + math.ceil(begin * scale), self.low + math.floor(end * scale)

    def _widen(self) -> None:
        self.low, self.high, self.bits = 2 * self.low, 2 * self.high + 1, self.bits + 1

    def _agreed(self) -> int | None:
        """The leading bit, taken off, where both ends have the same."""
        if not self.bits:
            return None
        top = self.bits - 1
        bit = self.low >> top
        if bit != self.high >> top:
            return None
        self.low, self.high, self.bits = self.low - (bit << top), self.high - (bit << top), top
        return bit


class RangeEncoder(_Range):
    """Symbols to bytes; up to 7 bits wait for the next call."""

    def __init__(self) -> None:
        super().__init__()
        self._waiting: list[int] = []

    def push(self, symbol: int, table: Sequence[int]) -> None:
        """table: the cumulative frequency after each symbol. Raises CodesError for what upstream's coder refuses."""
        while self.high - self.low + 1 < TOTAL:
            self._widen()
        self.low, high = self._share(symbol, table)
        fits = high <= self.high  # a table of rounded floats may end above 2**24
        self.high = high
        while fits and (bit := self._agreed()) is not None:
            self._waiting.append(bit)
        if not fits or self.bits > MOST_BITS:
            raise CodesError("these codes cannot be coded: the arithmetic coder of .ecdc files has no room for them")

    def take(self) -> bytes:
        """The bytes that are whole now."""
        count = len(self._waiting) // 8 * 8
        whole, self._waiting = self._waiting[:count], self._waiting[count:]
        return np.packbits(np.array(whole, np.uint8), bitorder="little").tobytes()

    def flush(self) -> bytes:
        """The rest, the last byte filled with zeros; what is pushed next begins anew."""
        self._waiting += [self.low >> place & 1 for place in reversed(range(self.bits))]
        last = np.packbits(np.array(self._waiting, np.uint8), bitorder="little").tobytes()
        self._waiting = []
        self.low = self.high = self.bits = 0
        return last


class RangeDecoder(_Range):
    """The inverse. read: gives the next byte, or raises."""

    def __init__(self, read: Callable[[], int]) -> None:
        super().__init__()
        self._read, self._byte, self._left = read, 0, 0
        self._value = 0  # of the bits that were read and not taken off

    def pull(self, table: Sequence[int]) -> int:
        """The next symbol. Raises CodesError where there is none: other tables, or damage."""
        while self.high - self.low + 1 < TOTAL:
            self._widen()
            self._value = 2 * self._value + self._bit()
        symbol = self._find(table)
        while (bit := self._agreed()) is not None:
            self._value -= bit << self.bits
        if self.bits > MOST_BITS:
            raise CodesError("the codes are damaged, or were coded with other probabilities")
        return symbol

    def _bit(self) -> int:
        if not self._left:
            self._byte, self._left = self._read(), 8
        self._left -= 1
        bit, self._byte = self._byte & 1, self._byte >> 1
        return bit

    def _find(self, table: Sequence[int]) -> int:
        """The symbol whose share the value lies in, to which the range is narrowed."""
        first, last = 0, len(table) - 1
        while first <= last:
            symbol = (first + last) // 2
            low, high = self._share(symbol, table)
            if self._value < low:
                last = symbol - 1
            elif self._value > high:
                first = symbol + 1
            else:
                self.low, self.high = low, high
                return symbol
        raise CodesError("the codes are damaged, or were coded with other probabilities")
