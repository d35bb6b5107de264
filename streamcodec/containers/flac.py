"""FLAC (RFC 9639): one file, or several joined."""

from typing import BinaryIO

from .part import UNKNOWN_LENGTH, Layout, Part, find_all, joined, read_at, require_few
from .tags import without_tags

__all__ = ["flac_layout"]

MAGIC = b"fLaC"
FIRST = (b"\x00\x00\x00\x22", b"\x80\x00\x00\x22")  # the header of the block that comes first
HEAD = 42  # bytes of all that
TOTAL = 21  # where the 36 bits of the number of samples begin, 4 bits into a byte


def flac_layout(file: BinaryIO, start: int, stop: int, name: str) -> Layout | None:
    """One part a file; None if it is none.

    libsndfile reads as many samples as the header says: it is told that nobody knows, and reads all that are there.
    """
    start, stop = without_tags(file, start, stop)
    if read_at(file, start, 4) != MAGIC:
        return None
    places = [at for at in find_all(file, MAGIC, start, stop) if read_at(file, at + 4, 4) in FIRST]
    if places[:1] != [start]:
        return Layout([Part(start, stop)])  # libsndfile says what is wrong
    parts = []
    for place, end in zip(places, [*places[1:], stop], strict=True):
        head = read_at(file, place, HEAD)
        if len(head) < HEAD:
            return Layout([Part(start, stop)])
        total = int.from_bytes(head[TOTAL : TOTAL + 5], "big") & 0xFFFFFFFFF
        blind = head[:TOTAL] + bytes([head[TOTAL] & 0xF0]) + bytes(4) + head[TOTAL + 5 :]
        begin, finish = without_tags(file, place, end)
        parts.append(Part(begin + HEAD, finish, blind, total or UNKNOWN_LENGTH))
        require_few(parts, name)
    return Layout(parts, joined(len(parts)))
