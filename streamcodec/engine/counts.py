"""The arithmetic of a session's frames: which bandwidth each has, and how many samples they stand for.

The rules are those of `EncoderStream` and `DecoderStream`. There a push runs at once; here what was fed may wait, and
what a call means must not depend on how long: a count is of what was fed, not of what was run.
"""

from collections import deque
from collections.abc import Callable
from typing import Any

from ..codecs import Codec
from ..codes import Codes
from ..errors import StateError

__all__ = ["Bandwidths", "DecoderCount", "EncoderCount", "whole_numbers"]


def whole_numbers(value: Any, names: set[str]) -> dict[str, int]:
    """`value`, where it is a dict of whole numbers of at least 0 under exactly `names`. Raises StateError."""
    if not isinstance(value, dict) or value.keys() != names:
        raise StateError(f"saved session lacks its counters {', '.join(sorted(names))}, or holds others")
    if not all(type(number) is int and 0 <= number < 1 << 47 for number in value.values()):
        raise StateError("saved session has counters that no session reaches")
    return value


class Bandwidths:
    """The bandwidth of every frame to come: changes, each with the frame from which it holds."""

    def __init__(self, bandwidth: float):
        self._changes: deque[tuple[int, float]] = deque([(0, bandwidth)])

    @property
    def last(self) -> float:
        """The one that was set last."""
        return self._changes[-1][1]

    def change(self, frame: int, bandwidth: float) -> None:
        """From `frame` on; an earlier call never has a later frame."""
        if self._changes[-1][0] == frame:
            self._changes.pop()
        self._changes.append((frame, bandwidth))

    def of(self, frame: int, count: int) -> list[tuple[int, float]]:
        """The next `count` frames from `frame` on, as runs (frames, bandwidth). At least one run."""
        runs: list[tuple[int, float]] = []
        starts = [*(start for start, _ in self._changes), frame + count][1:]
        for (start, bandwidth), stop in zip(self._changes, starts, strict=True):
            frames = min(stop, frame + count) - max(start, frame)
            if frames > 0:
                runs.append((frames, bandwidth))
        return runs or [(0, self.last)]

    def forget(self, frame: int) -> None:
        """Frames before `frame` have come out."""
        while len(self._changes) > 1 and self._changes[1][0] <= frame:
            self._changes.popleft()

    def save(self) -> list[list[float]]:
        return [list(change) for change in self._changes]

    @staticmethod
    def load(saved: Any, offered: tuple[float, ...], limit: int) -> "Bandwidths":
        """The inverse of `save`; `limit`: the last frame at which a change can be due."""
        pairs = saved if isinstance(saved, list) else []
        if not pairs or not all(isinstance(pair, list) and len(pair) == 2 for pair in pairs):
            raise StateError("saved session has damaged bandwidths")
        frames, values = zip(*pairs, strict=True)
        if any(value not in offered for value in values) or any(type(frame) is not int for frame in frames):
            raise StateError("saved session has bandwidths that its codec does not offer")
        if frames[0] < 0 or sorted(set(frames)) != list(frames) or frames[-1] > limit:
            raise StateError("saved session has changes of bandwidth out of order")
        loaded = Bandwidths(values[0])
        loaded._changes = deque(zip(frames, values, strict=True))
        return loaded


class EncoderCount:
    """frames: come out so far; samples: fed; emitted: samples that the frames that came out stand for."""

    def __init__(self, codec: Codec):
        self._codec = codec
        self.frames = self.samples = self.emitted = 0

    def lengths(self, runs: list[int], ended: bool, last: bool) -> list[int]:
        """Samples that the next frames stand for, run by run; `last`: no frames come after these."""
        lengths = []
        for i, frames in enumerate(runs):
            self.frames += frames
            covered = self._codec.spec.samples(self.frames)
            if last and i == len(runs) - 1:
                covered = self._codec.covered(self.samples, self.frames)
            elif ended:
                covered = min(covered, self.samples)
            lengths.append(covered - self.emitted)
            self.emitted = covered
        return lengths

    def save(self) -> dict[str, int]:
        return {"frames": self.frames, "samples": self.samples, "emitted": self.emitted}

    def load(self, saved: Any) -> None:
        numbers = whole_numbers(saved, {"frames", "samples", "emitted"})
        self.frames, self.samples, self.emitted = numbers["frames"], numbers["samples"], numbers["emitted"]


class DecoderCount:
    """frames: fed so far; samples: what they stand for; emitted: samples that came out; short: no frames may follow."""

    def __init__(self, codec: Codec):
        self._codec = codec
        self.frames = self.samples = self.emitted = 0
        self.short = False

    def take(self, codes: Codes, admit: Callable[[], None]) -> bool:
        """Count checked codes; returns whether they are whole frames with more to follow, as far as they say.

        Raises StreamError, CodesError, or what `admit` raises, and then has counted nothing.
        """
        spec, frames = self._codec.spec, codes.data.shape[2]
        self._codec.check_follows(codes, self.short)
        full = spec.samples(self.frames + frames) - spec.samples(self.frames)
        length = full if codes.length is None else codes.length
        if length > full:
            self._codec.check_length(self.samples + length, self.frames + frames)
        admit()
        self.frames += frames
        self.samples += length
        self.short |= length != full
        return length == full

    def emit(self, rows: int) -> int:
        """How many of `rows` rows of audio are within the samples that the codes stand for."""
        rows = max(0, min(rows, self.samples - self.emitted))
        self.emitted += rows
        return rows

    def save(self) -> dict[str, int]:
        numbers = {"frames": self.frames, "samples": self.samples, "emitted": self.emitted}
        return numbers | {"short": int(self.short)}

    def load(self, saved: Any) -> None:
        numbers = whole_numbers(saved, {"frames", "samples", "emitted", "short"})
        self.frames, self.samples, self.emitted = numbers["frames"], numbers["samples"], numbers["emitted"]
        self.short = bool(numbers["short"])
