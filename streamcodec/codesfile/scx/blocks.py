"""The blocks of a .scx file, which docs/container.md describes: their bytes, and how they are found in a file.

::

    offset  size  field
         0     4  sync       FE 73 63 78
         4     1  kind       1 header, 2 codes, 3 index
         5     1  coding     of codes: 0 as they are, 1 entropy coded
         6     2  reserved   0
         8     4  size       bytes of the body
        12     8  place      samples of the file before this block
        20     8  back       bytes from the header of this block's section to this block
        28     4  CRC-32     of the 28 bytes before
        32     n  body
      32+n     4  CRC-32     of the body
"""

import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from ...errors import AudioError

__all__ = [
    "CODES",
    "ENTROPY",
    "HEADER",
    "HEAD_BYTES",
    "INDEX",
    "MAX_BODY",
    "PLAIN",
    "SYNC",
    "Block",
    "Damage",
    "pack_block",
    "read_blocks",
]

SYNC = b"\xfescx"
HEADER, CODES, INDEX = 1, 2, 3  # kinds
PLAIN, ENTROPY = 0, 1  # codings of codes
MAX_BODY = 2**20  # bytes: what a reader holds at once, whatever a damaged size says

HEAD = struct.Struct("<4sBBHIQQ")
CRC = struct.Struct("<I")
HEAD_BYTES = HEAD.size + CRC.size
PIECE = 2**12  # bytes that are looked through at a time where a block is sought


class Block(NamedTuple):
    """kind, coding, place, back, body: see the head of this file. offset: bytes of the file before it."""

    kind: int
    coding: int
    place: int
    back: int
    body: bytes
    offset: int

    @property
    def end(self) -> int:
        """The offset of what follows it."""
        return self.offset + HEAD_BYTES + len(self.body) + CRC.size


class Damage(NamedTuple):
    """Bytes of a file that belong to no whole block: from offset to end."""

    offset: int
    end: int


def pack_block(kind: int, body: bytes, place: int, back: int, coding: int = PLAIN) -> bytes:
    """The bytes of a block. Raises AudioError for a body that is too long."""
    if len(body) > MAX_BODY:
        raise AudioError(f"a block of {len(body)} bytes; at most {MAX_BODY} are allowed: write fewer frames at a time")
    head = HEAD.pack(SYNC, kind, coding, 0, len(body), place, back)
    return b"".join([head, CRC.pack(zlib.crc32(head)), body, CRC.pack(zlib.crc32(body))])


def read_blocks(file: BinaryIO, offset: int, until: int | None = None) -> Iterator[Block | Damage]:
    """The blocks from `offset` on, and between them what is none; it ends where no further block is whole.

    until: no block is begun at this offset or beyond it.
    Memory is bounded by `MAX_BODY`, and no byte is read more than a few times, whatever the file holds: a block with a
    whole head is stepped over in one, though its body be damaged.
    """
    damaged = offset
    while until is None or offset < until:
        found = _block_at(file, offset, until)
        if found is None:  # cut short
            break
        if isinstance(found, Block):
            if damaged < offset:
                yield Damage(damaged, offset)
            yield found
            offset = damaged = found.end
        else:
            offset = found


def _block_at(file: BinaryIO, offset: int, until: int | None) -> Block | int | None:
    """The whole block there; or where the next one may begin; or None, where the file ends within it."""
    file.seek(offset)
    data = file.read(HEAD_BYTES)
    if len(data) < HEAD_BYTES:
        return None
    sync, kind, coding, reserved, size, place, back = HEAD.unpack_from(data)
    if sync != SYNC or reserved or size > MAX_BODY or _crc(data[HEAD.size :]) != zlib.crc32(data[: HEAD.size]):
        return _next_sync(file, offset + 1, until)
    body = file.read(size + CRC.size)
    if len(body) < size + CRC.size:
        return None
    if _crc(body[size:]) != zlib.crc32(body[:size]):
        return offset + HEAD_BYTES + size + CRC.size
    return Block(kind, coding, place, back, body[:size], offset)


def _crc(data: bytes) -> int:
    value: int = CRC.unpack(data)[0]
    return value


def _next_sync(file: BinaryIO, offset: int, until: int | None) -> int | None:
    """The offset of the next sync word from `offset` on; None where there is none, or none before `until`."""
    while until is None or offset < until:
        file.seek(offset)
        data = file.read(PIECE)
        found = data.find(SYNC)
        if found >= 0:
            return offset + found
        if len(data) < PIECE:
            return None
        offset += PIECE - len(SYNC) + 1
    return None
