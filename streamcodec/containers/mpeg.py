"""MPEG audio (MP3 and layers I and II): the frames of a file, counted.

A frame's header has its size, so that a file's frames are found without decoding one (ISO/IEC 11172-3, section 2.4.1.3;
13818-3 for the halved rates; those quartered are an extension, "MPEG 2.5"). The first frame can hold no sound but the
number of the others and the samples to cut (the "Xing" or "Info" header of encoders): where another such frame comes,
another recording begins.
"""

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from ..errors import AudioError
from .part import Layout, Part, joined, read_at, require_few
from .tags import tag_in_front, without_tags

__all__ = ["begins_mpeg", "mpeg_layout"]

BITRATES = {  # kbps, by (is MPEG 1, layer)
    (True, 1): (0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
RATES = (44100, 48000, 32000)  # Hz, of MPEG 1
DIVISORS = {3: 1, 2: 2, 0: 4}  # version bits: MPEG 1, 2, 2.5
LONGEST = 4096  # bytes: over the 2,881 of the longest frame
BUFFERED = 1 << 20
JUNK = 1 << 16  # bytes before the first frame that are passed over
CONFIRMED = 4  # frames in a row that make a file MPEG


@dataclass(frozen=True)
class Frame:
    """What a header says.

    size: bytes. samples: a channel. kind: what is the same in every frame of a recording. side: where the frame of
        information has its letters.
    """

    size: int
    samples: int
    rate: int
    kind: int
    side: int


@functools.lru_cache(maxsize=4096)
def parse(header: bytes) -> Frame | None:
    """The header of a frame, 4 bytes; None if it is none, or one of the free format, which has no sizes."""
    if len(header) < 4 or header[0] != 0xFF or header[1] < 0xE0:
        return None
    version, layer = header[1] >> 3 & 3, 4 - (header[1] >> 1 & 3)
    index, place = header[2] >> 4, header[2] >> 2 & 3
    if version == 1 or layer == 4 or index in (0, 15) or place == 3 or header[3] & 3 == 2:
        return None
    first, mono = version == 3, header[3] >> 6 == 3
    rate = RATES[place] // DIVISORS[version]
    samples = {1: 384, 2: 1152, 3: 1152 if first else 576}[layer]
    bits, padding = BITRATES[first, layer][index] * 1000, header[2] >> 1 & 1
    size = 4 * (12 * bits // rate + padding) if layer == 1 else samples // 8 * bits // rate + padding
    side = 4 + ((17 if mono else 32) if first else (9 if mono else 17))
    return Frame(size, samples, rate, (header[1] & 0x1E) << 8 | (header[2] & 0x0C) | mono, side)


def _frames(file: BinaryIO, start: int, stop: int, buffered: int = BUFFERED) -> Iterator[tuple[int, Frame, bytes]]:
    """(place, frame, its bytes) of each whole frame from `start` on, for as long as one follows another."""
    buffer, base, at = b"", start, 0
    while True:
        if at + LONGEST > len(buffer) and base + len(buffer) < stop:
            base, at = base + at, 0
            buffer = read_at(file, base, min(buffered, stop - base))
        frame = parse(buffer[at : at + 4])
        if frame is None or at + frame.size > len(buffer):
            return
        yield base + at, frame, buffer[at : at + frame.size]
        at += frame.size


def begins_mpeg(file: BinaryIO, at: int, stop: int) -> bool:
    """Whether frames of one kind follow each other from here on, some of them or up to the end."""
    kinds, end = [], at
    for place, frame, _ in _frames(file, at, stop, CONFIRMED * LONGEST):
        kinds.append(frame.kind)
        end = place + frame.size
        if len(kinds) == CONFIRMED:
            break
    return bool(kinds) and len(set(kinds)) == 1 and (len(kinds) == CONFIRMED or end == stop)


def _first(file: BinaryIO, start: int, stop: int) -> int | None:
    """Where frames begin, not too far from `start`."""
    piece = read_at(file, start, min(JUNK, stop - start))
    at = piece.find(0xFF)
    while at >= 0:
        if parse(piece[at : at + 4]) and begins_mpeg(file, start + at, stop):
            return start + at
        at = piece.find(0xFF, at + 1)
    return None


def _counted(data: bytes, frame: Frame) -> int | None:
    """How many frames follow a frame of information; 0 where it does not say, None where it is none."""
    for side in (frame.side, frame.side + 2):  # with a checksum behind the header
        if data[side : side + 4] in (b"Xing", b"Info"):
            return int.from_bytes(data[side + 8 : side + 12], "big") if data[side + 7] & 1 else 0
    return int.from_bytes(data[50:54], "big") if data[36:40] == b"VBRI" else None


class _Recording:
    """Frames that belong together: up to the next frame of information, or to one of another kind."""

    def __init__(self, place: int, frame: Frame, data: bytes) -> None:
        self.start, self.stop, self.frame, self.count = place, place, frame, 0
        self.declared = _counted(data, frame)
        self.first = place if self.declared is None else place + frame.size  # the first frame that sounds

    def takes(self, frame: Frame, data: bytes) -> bool:
        """Whether the next frame is one of these."""
        full = bool(self.declared) and self.count > (self.declared or 0)  # some count their frame of information
        return frame.kind == self.frame.kind and not full and _counted(data, frame) is None

    def add(self, place: int, frame: Frame) -> None:
        self.count, self.stop = self.count + 1, place + frame.size

    @property
    def missing(self) -> str:
        """What is not there, as words; empty if all is."""
        if not self.declared or self.count >= self.declared - 1:
            return ""
        found, wanted = (count * self.frame.samples / self.frame.rate for count in (self.count, self.declared))
        return f"{self.count} of {self.declared} frames ({found:.1f} of {wanted:.1f} s) are there"

    def part(self) -> Part:
        """The frames as a file."""
        if self.declared and not self.missing:
            return Part(self.start, self.stop)
        # Without that number libsndfile guesses a length by the size, and stops there: let the size be large.
        surplus = self.count * LONGEST
        return Part(self.first, self.stop, samples=self.count * self.frame.samples, surplus=surplus)


def mpeg_layout(file: BinaryIO, start: int, stop: int, name: str) -> Layout | None:
    """The recordings of a file of MPEG audio; None if it is none. Raises AudioError for one that is not whole.

    A recording that another follows may have lost its end: programmes into which something is put are made so.
    """
    start, stop = without_tags(file, start, stop)
    at = _first(file, start, stop)
    if at is None:
        return None
    layout = Layout([], [] if at == start else [f"passed over {at - start} bytes in front of the first MPEG frame"])
    recordings: list[_Recording] = []
    while at < stop:
        recordings += _recordings(file, at, stop, name)
        require_few(recordings, name)
        at = _behind(file, recordings[-1].stop, stop)
        if at < stop and not begins_mpeg(file, at, stop):
            seconds = sum(one.count * one.frame.samples / one.frame.rate for one in recordings)
            _require_end(file, at, stop, seconds, name)
            rest = read_at(file, at, 4)
            if not recordings[-1].declared and (parse(rest) or (len(rest) < 4 and rest[0] == 0xFF)):
                raise AudioError(f"{name} is cut short: its last frame, at {seconds:.2f} s, is not whole")
            layout.notes.append(f"left out {stop - at} bytes behind the last MPEG frame")
            break
    if recordings[-1].missing:
        raise AudioError(f"{name} is cut short or damaged: {recordings[-1].missing}")
    layout.notes += [f"of a recording that another follows, {one.missing}" for one in recordings if one.missing]
    layout.parts += [recording.part() for recording in recordings if recording.count]
    layout.notes += joined(len(layout.parts))
    return layout


def _recordings(file: BinaryIO, at: int, stop: int, name: str) -> list[_Recording]:
    found: list[_Recording] = []
    for place, frame, data in _frames(file, at, stop):
        if not found or not found[-1].takes(frame, data):
            found.append(_Recording(place, frame, data))
            require_few(found, name)
            if found[-1].declared is not None:
                found[-1].stop = place + frame.size
                continue
        found[-1].add(place, frame)
    return found


def _behind(file: BinaryIO, at: int, stop: int) -> int:
    """Where tags and zeros end that begin at `at`."""
    while at < stop:
        piece = read_at(file, at, min(LONGEST, stop - at))
        zeros = len(piece) - len(piece.lstrip(b"\0"))
        step = zeros or tag_in_front(file, at)
        if not step:
            break
        at += step
    return min(at, stop)


def _require_end(file: BinaryIO, at: int, stop: int, seconds: float, name: str) -> None:
    """Raises AudioError where frames follow what is no frame."""
    if stop - at > JUNK or _first(file, at, stop) is not None:
        raise AudioError(f"{name} is damaged at {seconds:.2f} s (byte {at}): no MPEG frame is there")
