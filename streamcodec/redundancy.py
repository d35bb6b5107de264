"""Packets that carry the lower codebooks of earlier frames: what a lost packet held comes again in the next one.

For who sends packets over UDP, and for both ends of docs/protocol.md. Over UDP::

    earlier = Earlier(frames=2, codebooks=4)
    for number, codes in enumerate(stream):                       # [K, T] each
        send(pack(CodesMessage(number, index, codes, bits, earlier=earlier.last())))
        earlier.push(codes)
        index += codes.shape[1]

    expected = 0
    for data in received:
        for part in frames_from(unpack(data), expected):          # missing frames, frames that came again, frames
            expected = part.index + part.count
            ...

With `frames` a packet's worth, the loss of one packet is made good; with twice as many that of two in a row.

How much to carry can follow from the loss that the receiver measures and tells::

    meter = LossMeter(frame_rate)                                 # at the receiver, with each part:
    meter.count(part.count, lost=part.codes is None or part.again)
    report = meter.report()                                       # once a second; send it back

    measured = MeasuredRedundancy(frames=4, codebooks=4, frame_rate=frame_rate)  # at the sender, with each report:
    measured.take(*report)
    earlier.frames, earlier.codebooks = measured.frames, measured.codebooks
"""

import math
from dataclasses import dataclass

import numpy as np

from .errors import InputError
from .packet import Array, CodesMessage, EarlierFrames

__all__ = ["Earlier", "LossMeter", "MeasuredRedundancy", "Part", "frames_from"]

MOST_FRAMES = 1024
REPORT_SECONDS = 1.0  # of a stream, between two reports
SMOOTHING_SECONDS = 4.0  # of a stream, in which a loss that ended is forgotten by two thirds
# The share of frames lost from which a level holds. It is left for the one below where half as many are lost.
LEVELS_FROM = (0.01, 0.03, 0.08)


@dataclass(frozen=True, eq=False)
class Part:
    """Frames of a stream from `index` on. codes: [K, T], or None where they are missing; scale: [T] or None.

    again: whether they are the lower codebooks of frames that were lost.
    """

    index: int
    count: int
    codes: Array | None = None
    scale: Array | None = None
    again: bool = False


class Earlier:
    """The lower codebooks of the last frames that were given: what the next packet carries of them.

    frames, codebooks: how many at most; may be set at any time, as the loss that is measured asks for it.
    """

    def __init__(self, frames: int, codebooks: int) -> None:
        if not (0 <= frames <= MOST_FRAMES and 1 <= codebooks <= 255):
            raise InputError(f"{frames} frames of {codebooks} codebooks; 0 to {MOST_FRAMES} of 1 to 255 are allowed")
        self.frames, self.codebooks = frames, codebooks
        self._codes: Array | None = None
        self._scale: Array | None = None

    def push(self, codes: Array, scale: Array | None = None) -> None:
        """The next frames, [K, T], with scale [T] where the codec has one."""
        kept = codes[: self.codebooks]
        if self._codes is not None:
            depth = min(len(self._codes), len(kept))
            kept = np.concatenate([self._codes[:depth], kept[:depth]], 1)
            scale = None if scale is None or self._scale is None else np.concatenate([self._scale, scale])
        begin = max(0, kept.shape[1] - self.frames)
        self._codes = kept[:, begin:]
        self._scale = None if scale is None else scale[begin:]

    def last(self, most: int | None = None) -> EarlierFrames | None:
        """The last of them, `most` at most, for a packet that follows them; None where there are none."""
        if self._codes is None:
            return None
        count = min(self._codes.shape[1], self.frames, self.frames if most is None else most)
        if not count:
            return None
        scale = None if self._scale is None else self._scale[-count:]
        return EarlierFrames(self._codes[: self.codebooks, -count:], scale)

    def clear(self) -> None:
        """Another stream begins, or nothing is lost."""
        self._codes = self._scale = None


class LossMeter:
    """Counts at a receiver what its sender is told. frame_rate: of the codec, in Hz.

    What came again counts as lost: else the redundancy would hide the loss that it answers.
    """

    def __init__(self, frame_rate: float) -> None:
        self._due = max(1, round(REPORT_SECONDS * frame_rate))
        self._frames = self._lost = 0

    def count(self, frames: int, lost: bool) -> None:
        """Frames that came, or that did not."""
        self._frames += frames
        self._lost += frames if lost else 0

    def report(self) -> tuple[int, int] | None:
        """Once a second: the frames since the last report, and those of them that were lost; else None."""
        if self._frames < self._due:
            return None
        report = self._frames, self._lost
        self._frames = self._lost = 0
        return report


class MeasuredRedundancy:
    """How much of earlier frames a sender's packets are to carry, by the loss that its receiver reports.

    frames, codebooks: what to carry now, at most what was given; 0 frames at level 0.
    level: 0 (nothing) to 3 (all that was given). A report moves it by one at most, up as soon as the loss is above a
    bound, down only where it is below half of that, so that it doesn't swing. loss: the share of frames lost lately.
    """

    def __init__(self, frames: int, codebooks: int, frame_rate: float) -> None:
        if not (1 <= frames <= MOST_FRAMES and 1 <= codebooks <= 255):
            raise InputError(f"{frames} frames of {codebooks} codebooks; 1 to {MOST_FRAMES} of 1 to 255 are allowed")
        self.level, self.loss = 0, 0.0
        self._most, self._rate = (frames, codebooks), frame_rate

    @property
    def frames(self) -> int:
        return self._share(self._most[0])

    @property
    def codebooks(self) -> int:
        return max(1, self._share(self._most[1]))

    def _share(self, most: int) -> int:
        return -(-most * self.level // len(LEVELS_FROM))

    def take(self, frames: int, lost: int) -> None:
        """A report of the receiver: so many frames, and those of them that were lost. Raises InputError."""
        if not 0 <= lost <= frames:
            raise InputError(f"{lost} of {frames} frames are lost; it must be 0 to {max(0, frames)}")
        if not frames:
            return
        kept = math.exp(-frames / (self._rate * SMOOTHING_SECONDS))
        self.loss = self.loss * kept + lost / frames * (1 - kept)
        if self.level < len(LEVELS_FROM) and self.loss > LEVELS_FROM[self.level]:
            self.level += 1
        elif self.level and self.loss < LEVELS_FROM[self.level - 1] / 2:
            self.level -= 1


def frames_from(packet: CodesMessage, expected: int) -> list[Part]:
    """What a packet gives to who expects frame `expected` next: what is missing, what comes again, and its own frames.

    A packet that comes late or twice gives what of it is beyond `expected`, or nothing. Only what was lost is taken
    from the earlier frames that it carries.
    """
    parts = []
    count, earlier = packet.codes.shape[1], packet.earlier
    gap = packet.index - expected
    again = min(max(0, gap), 0 if earlier is None else earlier.codes.shape[1])
    if gap > again:
        parts.append(Part(expected, gap - again))
    if again and earlier is not None:
        scale = None if earlier.scale is None else earlier.scale[-again:]
        parts.append(Part(packet.index - again, again, earlier.codes[:, -again:], scale, True))
    skip = max(0, -gap)
    if skip < count:
        scale = None if packet.scale is None else packet.scale[skip:]
        parts.append(Part(packet.index + skip, count - skip, packet.codes[:, skip:], scale))
    return parts
