"""How many samples the frames of a stream stand for: the rules of streams, of which the engine's sessions are one kind.

A count is of what was fed, and not of what was run: what a call means must not depend on how long its input waits.
"""

import math
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor

from .codes import Codes
from .errors import StateError
from .spec import CodecSpec

__all__ = ["DecoderCount", "EncoderCount", "whole_numbers"]


class Counted(Protocol):
    """What of a codec decides; each is described at `Codec`."""

    spec: CodecSpec

    def covered(self, samples: int, frames: int) -> int: ...
    def check_follows(self, codes: Codes, short: bool) -> None: ...
    def check_length(self, length: int, frames: int) -> None: ...


def whole_numbers(value: Any, names: set[str]) -> dict[str, int]:
    """`value`, where it is a dict of whole numbers of at least 0 under exactly `names`. Raises StateError."""
    if not isinstance(value, dict) or value.keys() != names:
        raise StateError(f"saved state lacks its counters {', '.join(sorted(names))}, or holds others")
    if not all(type(number) is int and 0 <= number < 1 << 47 for number in value.values()):
        raise StateError("saved state has counters that no stream reaches")
    return value


class EncoderCount:
    """frames: come out so far; samples: fed; emitted: samples that the frames that came out stand for."""

    def __init__(self, codec: Counted):
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

    def go_on(self, frames: int, samples: int) -> int:
        """Count frames that came out for as many samples, with more of both to come; returns what they stand for."""
        self.frames += frames
        self.samples += samples
        length = self._codec.spec.samples(self.frames) - self.emitted
        self.emitted += length
        return length

    def save(self) -> dict[str, int]:
        return {"frames": self.frames, "samples": self.samples, "emitted": self.emitted}

    def load(self, saved: Any) -> None:
        numbers = whole_numbers(saved, {"frames", "samples", "emitted"})
        self.frames, self.samples, self.emitted = numbers["frames"], numbers["samples"], numbers["emitted"]


class DecoderCount:
    """frames: fed so far; samples: what they stand for; emitted: samples that came out; short: no frames may follow;
    fade: samples at the end that fall to silence.
    """

    def __init__(self, codec: Counted):
        self._codec = codec
        self.frames = self.samples = self.emitted = self.fade = 0
        self.short = False

    def check(self, codes: Codes) -> int:
        """Samples that checked codes stand for, as the next ones. Raises StreamError, CodesError."""
        self._codec.check_follows(codes, self.short)
        full = self._full(codes)
        length = full if codes.length is None else codes.length
        if length > full:
            self._codec.check_length(self.samples + length, self.frames + codes.data.shape[2])
        return length

    def add(self, codes: Codes, length: int) -> bool:
        """Count checked codes; returns whether they are whole frames with more to follow, as far as they say."""
        whole = length == self._full(codes)
        self.frames += codes.data.shape[2]
        self.samples += length
        self.short |= not whole
        return whole

    def go_on(self, frames: int, samples: int) -> None:
        """Count whole frames for which as much audio came out: far from the start, and not the last ones."""
        self.frames += frames
        self.samples += samples
        self.emitted += samples

    def take(self, codes: Codes, admit: Callable[[], None]) -> bool:
        """`check` and `add`. Raises what `check` does, or what `admit` raises, and then has counted nothing."""
        length = self.check(codes)
        admit()
        return self.add(codes, length)

    def _full(self, codes: Codes) -> int:
        """Samples of as many whole frames."""
        spec = self._codec.spec
        return spec.samples(self.frames + codes.data.shape[2]) - spec.samples(self.frames)

    def emit(self, rows: int) -> int:
        """How many of `rows` rows of audio are within the samples that the codes stand for."""
        rows = max(0, min(rows, self.samples - self.emitted))
        self.emitted += rows
        return rows

    def cut(self, fade: int, dropped: int = 0, more: bool = True) -> int:
        """End the audio `fade` samples after what came out; returns how many frames have to be fed for that.

        dropped: frames that were fed and will not be run; more: whether frames may still be fed: else, and after the
        last ones, the end may come sooner. After nothing at all there is nothing to end.
        """
        self.frames -= dropped
        self.samples = min(self.samples, self._codec.spec.samples(self.frames))
        more &= not self.short and self.frames > 0
        stop, lacking = self.emitted + fade, 0
        while more and self._held(stop, self.frames + lacking) < stop:
            lacking += 1
        self.frames += lacking
        self.samples = stop if more else min(stop, self._held(self.samples, self.frames))
        self.fade, self.short = self.samples - self.emitted, True
        return lacking

    def _held(self, samples: int, frames: int) -> int:
        """How many of `samples` so many frames hold."""
        return min(self._codec.covered(samples, frames), self._codec.spec.samples(frames))

    def faded(self, rows: Tensor) -> Tensor:
        """The last rows that were emitted, [..., n, C], as a cut leaves them: its fade is the half of a cosine."""
        if not self.fade:
            return rows
        place = torch.arange(self.emitted - rows.shape[-2], self.emitted, device=rows.device) - self.samples + self.fade
        gain = 0.5 + 0.5 * (math.pi * (place + 1).clamp_min(0).double() / (self.fade + 1)).cos()
        return rows * gain.to(rows.dtype)[:, None]

    def save(self) -> dict[str, int]:
        numbers = {"frames": self.frames, "samples": self.samples, "emitted": self.emitted}
        return numbers | {"short": int(self.short), "fade": self.fade}

    def load(self, saved: Any) -> None:
        numbers = whole_numbers(saved, {"frames", "samples", "emitted", "short", "fade"})
        self.frames, self.samples, self.emitted = numbers["frames"], numbers["samples"], numbers["emitted"]
        self.short, self.fade = bool(numbers["short"]), numbers["fade"]
