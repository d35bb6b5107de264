"""A speaker's codes decoded at the server, once for all who hear PCM, and what a decoder needs to begin in mid-stream.

A decoder that begins in the middle of a stream lacks what the speaker said before. So the last codes of each speaker
are kept, as many as `Codec.pre_roll` says, and a decoder hears them before anybody hears it.
"""

from collections import deque
from collections.abc import Iterator
from itertools import groupby
from typing import Protocol

import numpy as np

from ..codecs import Codec
from .conversion import part
from .live_session import LiveSession
from .voice import Array, Engines, Frames, Output, Voice

__all__ = ["History", "SharedDecoder"]


class History:
    """The last codes of a speaker's stretch: as many frames as a decoder remembers, and not all of one bandwidth.

    end: frames of the stretch so far.
    """

    def __init__(self, codec: Codec) -> None:
        spec = codec.spec
        self._size = codec.pre_roll.frames
        self._segment = spec.segment_frames or 1
        self._codes = np.zeros((spec.num_codebooks, self._size), np.uint16)
        self._depth = np.zeros(self._size, np.uint8)  # codebooks of each frame
        self._scale: Array | None = None
        self.end = 0
        self._begin = 0  # of what is held

    def hear(self, frames: Frames) -> None:
        count = frames.codes.shape[1]
        kept = part(frames, max(0, count - self._size), count)
        self.end += count
        places = np.arange(self.end - kept.codes.shape[1], self.end) % self._size
        self._codes[: kept.codes.shape[0], places] = kept.codes
        self._depth[places] = kept.codes.shape[0]
        if kept.scale is not None:
            if self._scale is None:
                self._scale = np.ones(self._size, np.float32)
            self._scale[places] = kept.scale
        self._begin = max(self._begin, self.end - self._size)

    def forget(self) -> None:
        """What was heard is no use: a decoder failed on it."""
        self._begin = self.end

    def restart(self) -> None:
        """The next frame is the first of another stretch."""
        self.end = self._begin = 0

    @property
    def first(self) -> int:
        """The frame with which a decoder begins: the first that is held, but none from inside a segment."""
        return min(-(-self._begin // self._segment) * self._segment, self.end)

    def frames(self) -> Iterator[Frames]:
        """What is held from `first` on, in pieces of as many codebooks."""
        for depth, places in groupby(np.arange(self.first, self.end) % self._size, lambda place: self._depth[place]):
            run = np.fromiter(places, np.int64)
            yield Frames(self._codes[:depth, run], None if self._scale is None else self._scale[run])


class Speaker(Protocol):
    """A member of a room who speaks, as its decoder sees it."""

    live: LiveSession

    def decoded(self, audio: Array | None, sample: int, ends: list[int | None]) -> None: ...
    def decoder_failed(self) -> None: ...


class SharedDecoder:
    """A voice that decodes what `speaker` says from now on, after it has heard what the speaker's history holds.

    credit: frames that may wait in the engine. What comes beyond that waits here: `RoomMember.backlog` slows the
    speaker.
    """

    def __init__(self, speaker: Speaker, engine: Engines, codec: Codec, history: History, credit: int) -> None:
        live = speaker.live
        self._speaker, self._credit = speaker, credit
        self._sample = codec.spec.samples(history.first)  # of the next audio, in its stretch
        self._from = codec.spec.samples(history.end)  # the first sample that anybody hears
        self._waiting: deque[Frames | _StretchEnd] = deque(history.frames())
        self._unheard = history.end - history.first  # frames of history that were not taken yet
        self._fed = self._taken = self._said = 0  # frames; said: those of them that are to be heard
        self._ends = 0  # stretches whose end has not come out
        self.voice = Voice(
            engine, live.agreement.codec.name, "decode", live.agreement.hello.start,
            live.protocol.bandwidth, self._decoded,
        )  # fmt: skip
        self._feed()

    def hear(self, frames: Frames) -> None:
        self._said += frames.codes.shape[1]
        self._waiting.append(frames)
        self._feed()

    def end(self, length: int | None) -> None:
        """The stretch is over; length: in samples."""
        self._ends += 1
        self._waiting.append(_StretchEnd(length))
        self._feed()

    @property
    def backlog(self) -> int:
        """Frames said and not decoded yet. While history is heard, as many more may wait: a speaker hears no listener
        come."""
        return self._said - (self._credit if self._unheard else 0)

    @property
    def silent(self) -> bool:
        """Whether all that was said has come out."""
        return not (self._said or self._ends)

    def _feed(self) -> None:
        while self._waiting and not self.voice.closed:
            item, room = self._waiting[0], self._credit - (self._fed - self._taken)
            if isinstance(item, _StretchEnd):
                self.voice.flush(item.length)
            elif room <= 0:
                return
            else:
                now = part(item, 0, room)
                self._fed += now.codes.shape[1]
                self.voice.feed_codes(now)
                if item.codes.shape[1] > room:
                    self._waiting[0] = part(item, room, item.codes.shape[1])
                    continue
            self._waiting.popleft()

    def _decoded(self, output: Output) -> None:
        if output.error is not None:  # the speaker's codes go on; another is opened for what follows
            self._speaker.decoder_failed()
            self._speaker.live.feed()
            return
        self._take(output.taken - self._taken)
        ends = [length for kind, length, _ in output.answers if kind == "flushed"]
        audio = output.audio
        if audio is not None:
            # What came of the history is not heard.
            skipped = min(max(0, self._from - self._sample), audio.shape[1])
            self._sample += skipped
            audio = audio[:, skipped:]
        self._speaker.decoded(audio, self._sample, ends)
        self._sample += 0 if audio is None else audio.shape[1]
        if ends:
            self._ends -= len(ends)
            self._sample = self._from = 0
        self._feed()
        self._speaker.live.feed()

    def _take(self, count: int) -> None:
        self._taken += count
        heard = min(count, self._unheard)
        self._unheard -= heard
        self._said -= count - heard

    def close(self) -> None:
        self._waiting.clear()
        self._said = self._ends = 0
        self.voice.close()


class _StretchEnd:
    """Where a stretch ends, among what waits."""

    def __init__(self, length: int | None) -> None:
        self.length = length
