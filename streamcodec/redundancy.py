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
"""

from dataclasses import dataclass

import numpy as np

from .errors import InputError
from .packet import Array, CodesMessage, EarlierFrames

__all__ = ["Earlier", "Part", "frames_from"]

MOST_FRAMES = 1024


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
        count = min(self._codes.shape[1], self.frames if most is None else most)
        if not count:
            return None
        scale = None if self._scale is None else self._scale[-count:]
        return EarlierFrames(self._codes[: self.codebooks, -count:], scale)

    def clear(self) -> None:
        """Another stream begins, or nothing is lost."""
        self._codes = self._scale = None


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
