"""A session as its owner sees it, and what a step gives it."""

from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from torch import Tensor

from ..codes import Codes
from ..stream import Start
from .figures import StepTime

__all__ = ["DIRECTIONS", "Delivery", "Direction", "Session"]

Direction: TypeAlias = Literal["encode", "decode", "roundtrip"]
"""What a session does; see `Session`."""
# What a session runs: its encoder, its decoder.
DIRECTIONS: dict[Direction, tuple[bool, bool]] = {
    "encode": (True, False),
    "decode": (False, True),
    "roundtrip": (True, True),
}


@dataclass(eq=False)
class Session:
    """A handle that `Engine.open` gave; pass it to the engine's calls. Its fields are for reading.

    direction: "encode" (audio to codes), "decode" (codes to audio) or "roundtrip" (audio to codes to audio).
    bandwidth: kbps, as set last; start: "exact" or "primed"; codes: whether a roundtrip is given its codes too;
    int16: whether its audio is int16.
    ended: flushed; closed: over, its slots are free; error: why, where it failed.
    """

    direction: Direction
    start: Start
    bandwidth: float
    codes: bool = False
    int16: bool = False
    ended: bool = False
    closed: bool = False
    error: Exception | None = None
    time: StepTime = field(default_factory=StepTime, repr=False)
    encoder: Any = field(default=None, repr=False)
    decoder: Any = field(default=None, repr=False)
    encoded_frames: int = field(default=0, repr=False)
    decoded_frames: int = field(default=0, repr=False)


@dataclass
class Delivery:
    """What one step gave one session.

    codes: pieces in order, each [1, K, T] of one bandwidth; their lengths add up as an `EncoderStream`'s do.
    audio: [1, channels, n], in the codec's type or int16, or None where nothing came; done: the session is over, and
    everything was delivered.
    error: the session failed and was closed; no other session is touched.
    """

    session: Session
    codes: list[Codes] = field(default_factory=list)
    audio: Tensor | None = None
    done: bool = False
    error: Exception | None = None
