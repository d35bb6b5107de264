"""Frames of a WebSocket as bytes (RFC 6455, section 5.2): where one of a client's ends, and the heads of our own.

The library takes dozens of calls for a frame. Nearly all frames are whole messages, and these need only this.
"""

import struct

try:
    from websockets.speedups import apply_mask
except ImportError:  # its wheel for other machines has no code in C
    from websockets.utils import apply_mask

__all__ = ["BINARY", "TEXT", "alone", "extent", "head", "unmasked"]

TEXT, BINARY = 0x81, 0x82  # first bytes of frames that are whole messages
RESERVED = 0x70  # bits of the first byte: of extensions, and we have none
OPCODES = (0, 1, 2, 8, 9, 10)
MASK_BYTES = 4


def extent(data: bytes | bytearray, place: int) -> tuple[int, int] | None:
    """Where the payload of a client's frame begins and ends, of which at least a byte is here, at `place`.

    The end lies beyond the data where the frame is not all here, even if its size is not known yet. None: no client may
    send this.
    """
    if data[place] & RESERVED or data[place] & 15 not in OPCODES:
        return None
    if len(data) < place + 2:
        return place + 2, place + 2
    size = data[place + 1] - 128
    if size < 0:  # not masked
        return None
    start = place + 2 + MASK_BYTES
    if size > 125:
        wide = 2 if size == 126 else 8
        size, start = int.from_bytes(data[place + 2 : place + 2 + wide], "big"), start + wide
    return start, start + size


def alone(data: bytes, most: int) -> bytes | None:
    """The payload where the bytes are one client's frame and no more, a whole binary message of 126 to `most` bytes and
    below 64 KiB: nearly all that a socket gives at once. For others see `extent`."""
    size = len(data) - 8
    if not 126 <= size <= most or data[0] != BINARY or data[1] != 254 or data[2] << 8 | data[3] != size:
        return None
    return apply_mask(data[8:], data[4:8])


def unmasked(data: bytes | bytearray, start: int, end: int) -> bytes:
    """The payload of a client's frame; its mask lies before it."""
    return apply_mask(data[start:end], data[start - MASK_BYTES : start])


def head(kind: int, size: int) -> bytes:
    """What comes before the payload of a frame of ours."""
    if size < 126:
        return bytes((kind, size))
    return struct.pack(">BBH", kind, 126, size) if size < 65_536 else struct.pack(">BBQ", kind, 127, size)
