"""What the event loop knows of the engine: voices that it feeds, and the outputs that they give."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..codecs import Codec

__all__ = ["Array", "Asked", "Engines", "Frames", "Output", "Repeats", "Voice", "queue_frames", "repeated"]

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Frames:
    """codes: [K, T] uint16; scale: [T] float32 or None."""

    codes: Array
    scale: Array | None = None


@dataclass(eq=False)
class Output:
    """What a voice has to tell. taken: of all that it was fed, what went into a step (samples; frames for "decode").

    frames: what came out of the encoder; length: samples that they stand for; audio: [C, n], float32 or int16.
    answers: marks that were reached, each with the frames of the stream so far; "flushed": the stream ended.
    """

    taken: int = 0
    frames: list[Frames] = field(default_factory=list)
    length: int = 0
    audio: Array | None = None
    answers: list[tuple[str, Any, int]] = field(default_factory=list)
    error: Exception | None = None


@dataclass(eq=False)
class Asked:
    """What a voice asks of an engine; start, bandwidth: as for `Engine.open`. int16: whether it is to give audio so.

    part: the engine's own note on it.
    """

    codec: str
    direction: str
    start: str
    bandwidth: float
    int16: bool = False
    part: Any = None


class Voice(Asked):
    """One session of an engine after another: a flush ends one, what is fed after it begins the next.

    All calls are for the event loop, and return at once. `receive` gets every Output, there. After `close`, or an
    Output with an error, nothing comes any more.
    """

    def __init__(
        self,
        engines: "Engines",
        codec: str,
        direction: str,
        start: str,
        bandwidth: float,
        receive: Callable[[Output], None],
        int16: bool = False,
    ) -> None:
        super().__init__(codec, direction, start, bandwidth, int16)
        self.receive = receive
        self.closed = False
        self._engines = engines
        engines.post(self, "open", None)

    def feed(self, samples: Array) -> None:
        """[C, n] at the codec's rate, float32 of full scale 1 or int16."""
        self._engines.post(self, "feed", samples)

    def feed_codes(self, frames: Frames) -> None:
        self._engines.post(self, "codes", frames)

    def feed_missing(self, frames: int, codebooks: int) -> None:
        """For "decode": frames that are missing. What was fed last goes on, and fades to silence; before anything was
        fed it is silence of so many codebooks."""
        self._engines.post(self, "missing", (frames, codebooks))

    def change(self, bandwidth: float) -> None:
        """Answered by ("bandwidth", bandwidth, frame): it holds from this frame on."""
        self._engines.post(self, "bandwidth", bandwidth)

    def mark(self, tag: Any) -> None:
        """Answered by ("mark", tag, frames) when all that can come of what was fed before has come."""
        self._engines.post(self, "mark", tag)

    def flush(self, tag: Any) -> None:
        """The stream ends. Answered by ("flushed", tag, frames) after its last output."""
        self._engines.post(self, "flush", tag)

    def close(self) -> None:
        """Give the slots back. Twice is fine."""
        if not self.closed:
            self.closed = True
            self._engines.post(self, "close", None)


class Engines(Protocol):
    """What the event loop needs of the engines, wherever they run. codecs: by the name that clients use."""

    codecs: dict[str, Codec]

    def silence(self, name: str, frames: int, codebooks: int) -> Frames: ...

    def post(self, voice: Voice, kind: str, argument: Any) -> None: ...


def queue_frames(codec: Codec, seconds: float) -> int:
    """Frames that may wait in the engine: those seconds, and at least what a start or a segment needs."""
    spec = codec.spec
    least = max(spec.encoder_prefill, spec.decoder_prefill, spec.segment_frames or 0, 1) + 2
    return max(least, round(seconds * spec.frame_rate))


class Repeats:
    """What stands for missing frames of codes where no codec computes: the last frame again, and then silence.

    fade: frames for which it is repeated. silence: so many frames of it, of so many codebooks.
    """

    def __init__(self, fade: int, silence: Callable[[int, int], Frames]) -> None:
        self._fade, self._silence = fade, silence
        self._last: Frames | None = None
        self._missing = 0

    def hear(self, frames: Frames) -> None:
        if frames.codes.shape[1]:
            self._last = Frames(frames.codes[:, -1:], None if frames.scale is None else frames.scale[-1:])
            self._missing = 0

    def restart(self) -> None:
        """Another stretch begins."""
        self._last = None

    def take(self, frames: int, codebooks: int) -> list[Frames]:
        """What stands for the next `frames` missing ones."""
        kept = 0 if self._last is None else max(0, min(frames, self._fade - self._missing))
        self._missing += frames
        parts = []
        if kept and self._last is not None:
            parts.append(repeated(self._last, kept, codebooks))
        return [*parts, self._silence(frames - kept, codebooks)] if frames > kept else parts


def repeated(one: Frames, frames: int, codebooks: int) -> Frames:
    """`frames` times the frame `one`, cut to `codebooks`."""
    scale = None if one.scale is None else np.repeat(one.scale, frames)
    return Frames(np.repeat(one.codes[:codebooks], frames, axis=1), scale)
