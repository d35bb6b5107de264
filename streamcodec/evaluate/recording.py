"""A recording, and what a system makes of it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import soxr

__all__ = ["ORIGINAL", "Decoded", "Recording", "System", "at_rate", "fitted"]

ORIGINAL = "original"  # the recording itself, among the systems


@dataclass(frozen=True)
class Recording:
    """Audio [N] float32 at `sample_rate` Hz.

    group, name: of its folder and its file. speech: whether a voice is expected in it. english: whether it is English,
    None where Whisper is to find that out.
    """

    group: str
    name: str
    sample_rate: int
    audio: np.ndarray
    speech: bool = False
    english: bool | None = None

    @property
    def seconds(self) -> float:
        """How long it is."""
        return len(self.audio) / self.sample_rate


class Decoded(NamedTuple):
    """What a system made of a recording: audio of its rate and length.

    system: its name with the nominal bitrate, such as "Opus 6". bits: of what was sent; None where that is unknown.
    """

    system: str
    audio: np.ndarray
    bits: int | None


class System(Protocol):
    """Something to compare: what it makes of a recording, at one or more bitrates, always in the same order."""

    def __call__(self, recording: Recording) -> Iterator[Decoded]:
        """Raises AudioError or InputError where it cannot take the recording."""
        ...


def at_rate(audio: np.ndarray, rate: int, wanted: int) -> np.ndarray:
    """[N] at `rate` Hz as float32 at `wanted` Hz."""
    return audio if rate == wanted else soxr.resample(audio, rate, wanted).astype(np.float32)


def fitted(audio: np.ndarray, length: int) -> np.ndarray:
    """[N] cut, or followed by silence, to `length` samples."""
    return np.pad(audio[:length], (0, max(0, length - len(audio))))
