"""A range coder on whole numbers (Martin 1979): symbols, each a share of a total, to the fewest bytes and back.

The interval [low, low + width) of 0..1 narrows with each symbol. `low` is one long Python integer, so a carry needs no
care; blocks are some kilobytes at most. Bytes after the end count as 0, so the encoder gives the interval's number with
the most zeros at its end, and leaves these out.
"""

from bisect import bisect_right
from collections.abc import Sequence

__all__ = ["MAX_TOTAL", "RangeDecoder", "RangeEncoder"]

BITS = 48  # of the width at most
LEAST = 1 << (BITS - 16)  # below it, two bytes more are taken in
MAX_TOTAL = LEAST  # of the frequencies of one symbol: each then has a part of the width


class RangeEncoder:
    """Symbols to bytes."""

    def __init__(self) -> None:
        self._low, self._width, self._pairs = 0, 1 << BITS, 0

    def put(self, start: int, frequency: int, total: int) -> None:
        """A symbol: the numbers start..start + frequency - 1 of 0..total - 1; 1 <= total <= MAX_TOTAL."""
        part = self._width // total
        self._low += part * start
        self._width = part * frequency
        while self._width < LEAST:
            self._low <<= 16
            self._width <<= 16
            self._pairs += 1

    def finish(self) -> bytes:
        """All bytes, without zeros at the end."""
        last = self._low + self._width - 1
        zeros = self._width.bit_length() + 7  # at the value's end: as many as a number of the interval has
        while (value := -(-self._low >> zeros) << zeros) > last:
            zeros -= 1
        return value.to_bytes((BITS + 16 * self._pairs) // 8, "big").rstrip(b"\0")


class RangeDecoder:
    """Bytes to symbols. Any bytes give some symbols; whether they are the encoder's is for others to check."""

    def __init__(self, data: bytes) -> None:
        self._data, self._place, self._width = data, BITS // 8, 1 << BITS
        self._value = int.from_bytes(data[: BITS // 8].ljust(BITS // 8, b"\0"), "big")  # less the interval's low

    def take(self, ends: Sequence[int]) -> int:
        """The next symbol's number. ends: the running sums of all frequencies, above 0 and rising to the total."""
        part = self._width // ends[-1]
        symbol = min(bisect_right(ends, self._value // part), len(ends) - 1)
        start = ends[symbol - 1] if symbol else 0
        self._value -= part * start
        self._width = part * (ends[symbol] - start)
        while self._width < LEAST:
            pair = self._data[self._place : self._place + 2].ljust(2, b"\0")
            self._value = (self._value << 16) | int.from_bytes(pair, "big")
            self._width <<= 16
            self._place += 2
        return symbol
