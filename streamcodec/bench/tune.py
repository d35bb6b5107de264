"""The fewest frames per step with which a stream keeps up on this machine.

A step of n frames must be done before the next n frames are there, with something to spare. Short steps cost more a
frame, since each reads all weights; long ones wait for their frames. So the fewest that keep up give the least delay.
"""

import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch

from ..codecs import Codec
from ..codes import Codes
from ..errors import InputError
from .steps import Clock, codes_of_chance, exceptions, noise, p99

__all__ = ["DIRECTIONS", "Delay", "Measured", "Search", "delay", "measured", "search"]

DIRECTIONS = ("encode", "decode", "both")
STEPS = 300  # that are measured of a size, at most
WARM = 3  # before them: the first ones pack weights and lay out memory


class Measured(NamedTuple):
    """Steps of one size. frames: of a step; audio, limit: seconds, that the frames last and that a step may take;
    times: seconds of each."""

    frames: int
    audio: float
    limit: float
    times: tuple[float, ...]

    @property
    def median(self) -> float:
        return sorted(self.times)[len(self.times) // 2]

    @property
    def p99(self) -> float:
        return p99(self.times)

    @property
    def keeps_up(self) -> bool:
        return self.p99 <= self.limit


class Search(NamedTuple):
    """tried: in ascending order of frames; found: the fewest frames that keep up, or None; complete: False where time
    ran out before all fewer ones were ruled out."""

    tried: list[Measured]
    found: Measured | None
    complete: bool


def search(measure: Callable[[int], Measured], most: int, seconds: float, clock: Clock = time.perf_counter) -> Search:
    """The fewest frames, up to `most`, of which `measure` says that they keep up: doubled until some do, then halved in
    between. It begins with no other size once `seconds` are over.
    """
    end, tried = clock() + seconds, dict[int, Measured]()
    below, above = 0, 1  # the most that do not keep up, and what is tried next
    while above <= most and clock() < end:
        tried[above] = measure(above)
        if tried[above].keeps_up:
            break
        below, above = above, most if above < most < 2 * above else 2 * above
    while above in tried and above - below > 1 and clock() < end:
        middle = (below + above) // 2
        tried[middle] = measure(middle)
        below, above = (below, middle) if tried[middle].keeps_up else (middle, above)
    found = tried.get(above)
    complete = above > most or (found is not None and above - below == 1)
    return Search([tried[frames] for frames in sorted(tried)], found, complete)


def measured(
    codec: Codec,
    frames: int,
    *,
    direction: str,
    bandwidth: float,
    margin: float,
    seconds: float,
    clock: Clock = time.perf_counter,
) -> Measured:
    """Steps of `frames` frames of one stream; for "both" an encoder's, whose codes a decoder takes in the same step.

    margin: the part of a step's audio that must be left; seconds: for all steps at most. It ends early where more steps
    are late than may be.
    """
    step = _step(codec, frames, direction, bandwidth)
    audio = frames / codec.spec.frame_rate
    limit, times, late = (1 - margin) * audio, list[float](), 0
    for _ in range(WARM):
        step()
    end = clock() + seconds
    while len(times) < STEPS and late <= exceptions(STEPS):
        begun = clock()
        step()
        ended = clock()
        times.append(ended - begun)
        late += times[-1] > limit
        if ended >= end:
            break
    return Measured(frames, audio, limit, tuple(times))


def _step(codec: Codec, frames: int, direction: str, bandwidth: float) -> Callable[[], object]:
    """Runs the next step of a stream. Raises InputError for a codec whose steps are not of frames."""
    if codec.spec.segment_length is not None:
        seconds = codec.spec.segment_length / codec.spec.sample_rate
        raise InputError(f"{codec.spec.name} works on segments of {seconds:g} s, so its steps have no number of frames")
    run = {"encode": _encoding, "decode": _decoding, "both": _both}[direction](codec, frames, bandwidth)
    synchronize = torch.cuda.synchronize if codec.device.type == "cuda" else None

    def step() -> None:
        next(run)
        if synchronize:
            synchronize(codec.device)

    return step


def _encoding(codec: Codec, frames: int, bandwidth: float) -> Iterator[Codes]:
    stream, block = codec.open_encoder(bandwidth, start="primed"), noise(codec, frames * codec.spec.hop_length)
    while True:
        yield stream.push(block)


def _decoding(codec: Codec, frames: int, bandwidth: float) -> Iterator[object]:
    stream, codes = codec.open_decoder(start="primed"), codes_of_chance(codec, frames, bandwidth)
    while True:
        yield stream.push(codes)


def _both(codec: Codec, frames: int, bandwidth: float) -> Iterator[object]:
    stream = codec.open_decoder(start="primed", bandwidth=bandwidth)
    for codes in _encoding(codec, frames, bandwidth):
        yield stream.push(codes)


class Delay(NamedTuple):
    """Milliseconds from a sample (of codes alone: from a frame's codes) to what comes of it.

    codec: its own, by which a stream of single frames would trail if computing took no time; waiting: for the other
    frames of a step; computing: a step.
    """

    codec: float
    waiting: float
    computing: float

    @property
    def total(self) -> float:
        return sum(self)


def delay(codec: Codec, direction: str, steps: Measured) -> Delay:
    """What a stream in such steps is late, at the 99th percentile."""
    spec = codec.spec
    own = {"encode": spec.delay - spec.decoder_delay, "decode": spec.decoder_delay, "both": spec.delay}[direction]
    waiting = (steps.frames - 1) * spec.hop_length
    return Delay(1000 * own / spec.sample_rate, 1000 * waiting / spec.sample_rate, 1000 * steps.p99)
