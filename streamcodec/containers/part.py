"""Stretches of a file, each of which libsndfile reads as a file of its own."""

import io
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import soundfile

from ..errors import AudioError

__all__ = [
    "MOST_IN_HEADER",
    "UNKNOWN_LENGTH",
    "Layout",
    "Part",
    "PartWindow",
    "Sound",
    "beyond",
    "find_all",
    "is_unknown",
    "joined",
    "read_at",
    "require_few",
]

MOST_PARTS = 10_000  # a file can be made of tiny recordings; each costs an object and an opening
SEARCHED = 1 << 20
ID3V1 = 128  # bytes of the tag at the end of a file
UNKNOWN_LENGTH = -1
MOST_IN_HEADER = 0x7FFF0000  # bytes of samples; below any size that means "unknown"
JUNK = 4096  # bytes: fewer, behind far more samples, are none


@dataclass(frozen=True)
class Part:
    """`head`, followed by the bytes from `start` to `stop` of the file.

    samples: a channel, where the container says more truly than libsndfile how many there are; UNKNOWN_LENGTH where
        nobody can say before the end; None: as libsndfile has it.
    most: samples that there are, if libsndfile, which gives whole blocks of `block` samples, fills the last one.
    surplus: bytes that the part seems to have more. They end the file when read on, and are zeros at their end, where
        libmpg123 looks for a tag.
    by_name: libsndfile tells the format by the file's name, and opens the file itself.
    """

    start: int
    stop: int
    head: bytes = b""
    samples: int | None = None
    most: int | None = None
    block: int = 1
    by_name: bool = False
    surplus: int = 0


@dataclass
class Layout:
    """Where the samples of a file are: parts that follow each other, and sentences about what is odd."""

    parts: list[Part]
    notes: list[str] = field(default_factory=list)


def is_unknown(size: int) -> bool:
    """Whether a size of 32 bits is no promise that the file must keep.

    Writers that cannot seek back put 0xFFFFFFFF (ffmpeg), 0x7FFFFFFF or 0x80000000, less a few bytes (sox, arecord)
    where it belongs.
    """
    return size >= 0xFFFF0000 or MOST_IN_HEADER <= size <= 0x80010000


def beyond(declared: int, there: int) -> tuple[int, list[str]]:
    """How many bytes are samples where no chunk and no file follows those that a header tells of; and what to say."""
    rest = there - declared
    if rest < JUNK and 10 * rest < declared:
        return declared, [f"left out {rest} bytes behind the samples"]
    if declared:
        return there, [f"read to the end, past the {declared} bytes of samples that the header tells of"]
    return there, []


def joined(count: int) -> list[str]:
    """What is odd about a file of so many recordings."""
    return [f"read {count} recordings, one behind the other"] if count > 1 else []


class PartWindow(io.RawIOBase):
    """A part as a file. What goes wrong in libsndfile's callbacks, which cannot raise, waits in `problem`."""

    def __init__(self, file: BinaryIO, part: Part) -> None:
        self._file, self._part, self._at = file, part, 0
        self._size = len(part.head) + part.stop - part.start + part.surplus
        self.problem: BaseException | None = None

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer as far as there are bytes."""
        try:
            data = self._read(len(buffer))
        except BaseException as problem:
            self.problem, data = problem, b""
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def _read(self, count: int) -> bytes:
        if self._part.surplus and self._at >= self._size - ID3V1:
            return bytes(min(count, self._size - self._at))
        head, part = self._part.head[self._at : self._at + count], self._part
        at = part.start + max(0, self._at - len(part.head))
        count = min(count - len(head), part.stop - at)
        return head + read_at(self._file, at, count) if count > 0 else head

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place; one before the beginning is the beginning."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def tell(self) -> int:
        """The place."""
        return self._at


class Sound(soundfile.SoundFile):  # type: ignore[misc]
    """A sound file that is read from its beginning to its end.

    soundfile seeks to where it is after every read if a file can seek, and MPEG then loses what a frame keeps in the
    frames before it (the bit reservoir). What says that it cannot seek is read on.
    """

    window: PartWindow

    def seekable(self) -> bool:
        """No."""
        return False


def read_at(file: BinaryIO, start: int, count: int) -> bytes:
    """`count` bytes from `start` on, or as many as there are."""
    if start > sys.maxsize:  # by a size of 64 bits
        return b""
    file.seek(start)
    pieces = []
    while count > 0 and (piece := file.read(count)):
        pieces.append(piece)
        count -= len(piece)
    return b"".join(pieces)


def find_all(file: BinaryIO, pattern: bytes, start: int, stop: int) -> Iterator[int]:
    """Where `pattern` stands between `start` and `stop`."""
    overlap = len(pattern) - 1
    for base in range(start, stop, SEARCHED):
        piece = read_at(file, base, min(SEARCHED + overlap, stop - base))
        at = piece.find(pattern)
        while at >= 0:
            yield base + at
            at = piece.find(pattern, at + 1)


def require_few(parts: Sequence[object], name: str) -> None:
    """Raises AudioError where a file is made of more parts than anybody means."""
    if len(parts) > MOST_PARTS:
        raise AudioError(f"{name} is made of more than {MOST_PARTS} recordings one behind the other")
