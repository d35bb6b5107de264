"""Ogg: the pages of a file, and the recordings that follow each other in it ("chained", RFC 3533, section 4)."""

import struct
from dataclasses import dataclass, field
from typing import BinaryIO

from ..errors import AudioError
from .part import Layout, Part, joined, read_at, require_few

__all__ = ["ogg_layout"]

HEADER = 27
BEGINS, ENDS = 2, 4  # flags of a page: of a stream's first and last one


@dataclass
class _Link:
    """A recording. open: the streams that have not ended; next: the number of each one's next page."""

    start: int
    begun: bool = False  # the first pages of all its streams are behind us
    open: set[int] = field(default_factory=set)
    next: dict[int, int] = field(default_factory=dict)


def ogg_layout(file: BinaryIO, start: int, stop: int, name: str) -> Layout | None:
    """One part a recording; None if it is no Ogg.

    Raises AudioError where pages are missing or the last one does not end its stream.
    """
    if read_at(file, start, 4) != b"OggS":
        return None
    parts: list[Part] = []
    link, at = _Link(start), start
    while at < stop:
        page = read_at(file, at, HEADER + 255)
        if page[:4] != b"OggS" or len(page) < HEADER:
            if not any(page) or (not parts and not link.next):
                break
            raise AudioError(f"{name} is damaged or cut short at byte {at} of {stop}: no Ogg page is there")
        flags, _, serial, number = struct.unpack("<BqII", page[5:22])
        size = HEADER + page[26] + sum(page[HEADER : HEADER + page[26]])
        if at + size > stop:
            raise AudioError(f"{name} is cut short: its last Ogg page, at byte {at}, lacks {at + size - stop} bytes")
        if flags & BEGINS:
            if link.begun:
                parts.append(Part(link.start, at))
                require_few(parts, name)
                link = _Link(at)
            link.open.add(serial)
        else:
            link.begun = True
            if link.next.get(serial, number) != number:
                raise AudioError(f"{name} is damaged at byte {at}: Ogg pages are missing there")
        link.next[serial] = (number + 1) & 0xFFFFFFFF
        if flags & ENDS:
            link.open.discard(serial)
        at += size
    if link.open:
        raise AudioError(f"{name} is cut short: its last page does not end the stream")
    return Layout([*parts, Part(link.start, at)], joined(len(parts) + 1))
