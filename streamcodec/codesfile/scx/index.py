"""The index at the end of a .scx file: at which byte the block of a place begins. The file can be read without it."""

import struct
from typing import BinaryIO, NamedTuple

from .blocks import HEAD_BYTES, INDEX, Block, pack_block, read_blocks

__all__ = ["Entry", "Index", "read_index"]

MOST = 1024  # entries: 16 KiB, which a reader gets in one piece, however long the file is
ENTRY = struct.Struct("<QQ")
SIZE = struct.Struct("<I")  # of the whole block: the last bytes of its body, so that it is found from the file's end
AROUND = HEAD_BYTES + SIZE.size + 4  # bytes of the block that are no entries


class Entry(NamedTuple):
    """A block of codes. place: its first sample in the file; offset: its first byte."""

    place: int
    offset: int


class Index:
    """Entries of a file that is being written: of every block at first, of fewer and fewer as they become many."""

    def __init__(self, entries: list[Entry] | None = None) -> None:
        self.entries = entries or []
        self._every, self._count = 1, 0

    def add(self, place: int, offset: int) -> None:
        if self._count % self._every == 0:
            self.entries.append(Entry(place, offset))
        self._count += 1
        if len(self.entries) > MOST:
            self.entries = self.entries[::2]
            self._every *= 2

    def block(self, place: int, back: int) -> bytes:
        """The block, for the end of a file of `place` samples."""
        entries = self.entries[:MOST]
        body = b"".join(ENTRY.pack(*entry) for entry in entries) + SIZE.pack(AROUND + ENTRY.size * len(entries))
        return pack_block(INDEX, body, place, back)


def read_index(file: BinaryIO, size: int) -> tuple[list[Entry], Block | None]:
    """The entries of the index at the end of a file of `size` bytes, and its block; none where there is no whole one.

    They are believed as far as they can be true: places and offsets that grow, within the file.
    """
    file.seek(max(0, size - AROUND - ENTRY.size * MOST))
    tail = file.read(AROUND + ENTRY.size * MOST)
    if len(tail) < AROUND:
        return [], None
    (length,) = SIZE.unpack(tail[-SIZE.size - 4 : -4])
    if not AROUND <= length <= len(tail):
        return [], None
    block = next(iter(read_blocks(file, size - length)), None)
    if not isinstance(block, Block) or block.kind != INDEX or block.end != size or (length - AROUND) % ENTRY.size:
        return [], None
    entries = [Entry(*values) for values in ENTRY.iter_unpack(block.body[: -SIZE.size])]
    pairs = zip(entries, [*entries[1:], Entry(block.place + 1, block.offset)], strict=True)
    if not all(one.offset < other.offset and one.place <= other.place for one, other in pairs):
        return [], block
    return entries, block
