"""Sun's and NeXT's AU: a header with the size of the samples, which may be unknown."""

from typing import BinaryIO, Literal

from ..errors import AudioError
from .heads import au_heads
from .part import Layout, Part, beyond, is_unknown, joined, read_at, require_few

__all__ = ["au_layout"]

LONGEST_HEAD = 1 << 20
ORDERS: dict[bytes, Literal["little", "big"]] = {b".snd": "big", b"dns.": "little"}


def au_layout(file: BinaryIO, start: int, stop: int, name: str) -> Layout | None:
    """The samples of a file, and of those that are joined to it; None if it is none.

    Raises AudioError where there are fewer than it says.
    """
    layout, count = Layout([]), 0
    while start < stop and (order := ORDERS.get(read_at(file, start, 4))):
        head = read_at(file, start, 24)
        offset, declared = (int.from_bytes(head[at : at + 4], order) for at in (4, 8))
        begin = start + offset
        if not 24 <= offset <= LONGEST_HEAD or begin >= stop:
            return Layout([Part(start, stop)])  # libsndfile says what is wrong
        there, end = stop - begin, begin + declared
        if declared > there and not is_unknown(declared):
            raise AudioError(f"{name} is cut short: {there} of {declared} bytes of samples are there")
        if declared == 0 or declared > there:
            end = stop
        elif stop - end >= 8 and read_at(file, end, 4) not in ORDERS:
            size, notes = beyond(declared, there)
            end, layout.notes = begin + size, layout.notes + notes
        layout.parts += au_heads(read_at(file, start, offset), order).parts(begin, end, name)
        require_few(layout.parts, name)
        start, count = end, count + 1
    layout.notes += joined(count)
    return layout if layout.parts else None
