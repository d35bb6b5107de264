"""Tags that players put in front of recordings and behind them: ID3, APE, Lyrics3."""

from typing import BinaryIO

from .part import ID3V1, read_at

__all__ = ["tag_in_front", "without_tags"]

APE_FOOTER = 32


def tag_in_front(file: BinaryIO, start: int) -> int:
    """Bytes of the tag that begins at `start`; 0 where none does.

    ID3v2 (id3.org/id3v2.4.0-structure, section 3.1) has its size in 4 times 7 bits, without its header of 10 bytes
    and a footer of as many; APEv2 has it in its header of 32 bytes.
    """
    head = read_at(file, start, APE_FOOTER)
    if head[:3] == b"ID3" and len(head) >= 10 and max(head[6:10]) < 0x80:
        size = head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9]
        return 10 + size + (10 if head[5] & 0x10 else 0)
    if head[:8] == b"APETAGEX" and len(head) == APE_FOOTER:
        return APE_FOOTER + int.from_bytes(head[12:16], "little")
    return ID3V1 if head[:3] == b"TAG" else 0


def without_tags(file: BinaryIO, start: int, stop: int) -> tuple[int, int]:
    """Where what lies between tags begins and ends."""
    while start < stop and (size := tag_in_front(file, start)) and start + size <= stop:
        start += size
    while size := _tag_behind(file, start, stop):
        stop -= size
    return start, stop


def _tag_behind(file: BinaryIO, start: int, stop: int) -> int:
    """Bytes of the tag that ends at `stop`; 0 where none does."""
    if stop - start > ID3V1 and read_at(file, stop - ID3V1, 3) == b"TAG":
        return ID3V1
    if stop - start <= APE_FOOTER:
        return 0
    foot = read_at(file, stop - APE_FOOTER, APE_FOOTER)
    size = 0
    if foot[:8] == b"APETAGEX":  # the size is without a header, which bit 31 of the flags tells of
        size = int.from_bytes(foot[12:16], "little") + (APE_FOOTER if foot[23] & 0x80 else 0)
    elif foot[-9:] == b"LYRICS200" and foot[-15:-9].isdigit():
        size = int(foot[-15:-9]) + 15
    return size if size < stop - start else 0
