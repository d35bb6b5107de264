"""``streamcodec bench live``: one step after the other, of all conversations at once.

A conversation is two sessions, one that encodes what is said here and one that decodes what is said there. One process
runs both directions of all; several share the sessions as a server's engines do (`engine.placement`), so that of two
one encodes and one decodes.

What a live stream must not exceed is the time that its frames last. So it is the 99th percentile that counts, of steps
that follow each other as those of a server do. A loop of the same work every time is timed between them: what takes
longer there was the machine's doing.
"""

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from multiprocessing.synchronize import Barrier
from typing import Any, NamedTuple

import torch

from ..codecs import Codec
from ..engine.placement import Kind, place
from ..engine.session import Direction
from ..errors import InputError
from .pairs import open_codec
from .presets import PRESETS
from .steps import codes_of_chance, noise, p99

__all__ = ["Live", "live", "run"]

WARM = 20  # steps before those that count: the first ones pack weights and lay out memory
LOOP = 30_000  # rounds of the loop, some tenths of a millisecond
START_SECONDS = 120.0  # until all processes are ready


class Sessions(NamedTuple):
    """How many of a process encode, and decode."""

    encode: int
    decode: int


class Live(NamedTuple):
    """Seconds: that the frames of a step last, of each step, and of the loop after each."""

    lasts: float
    steps: list[float]
    loop: list[float]


def run(args: argparse.Namespace) -> int:
    """Measure, print, and return the exit code: 0, or 1 where the 99th percentile is more than the frames last."""
    if min(args.conversations, args.processes, args.frames) < 1 or not 0 < args.seconds < math.inf:
        raise InputError("--conversations, --processes, --frames and --seconds must be positive")
    shares = _shared(args.conversations * args.processes, args.processes)
    result = _result(args, _together(args, shares) if args.processes > 1 else [_alone(args, shares[0])])
    print(json.dumps(result) if args.json else _table(result))
    return 0 if result["p99_ms"] <= result["lasts_ms"] else 1


def live(codec: Codec, sessions: Sessions, frames: int, bandwidth: float, seconds: float) -> Live:
    """Steps of so many sessions, for so long: of all that encode, and then of all that decode."""
    step = _step(codec, sessions, frames, bandwidth)
    found = Live(frames / codec.spec.frame_rate, [], [])
    for _ in range(WARM):
        step()
    end = time.perf_counter() + seconds
    while not found.steps or time.perf_counter() < end:
        begun = time.perf_counter()
        step()
        stepped = time.perf_counter()
        for _ in range(LOOP):
            pass
        found.steps.append(stepped - begun)
        found.loop.append(time.perf_counter() - stepped)
    return found


def _step(codec: Codec, sessions: Sessions, frames: int, bandwidth: float) -> Callable[[], None]:
    """What runs one step of all."""
    pushes: list[Callable[[], object]] = []
    if sessions.encode:
        encoder = codec.open_encoder(bandwidth, sessions.encode, start="primed")
        block = noise(codec, frames * codec.spec.hop_length, sessions.encode)
        pushes.append(lambda: encoder.push(block))
    if sessions.decode:
        decoder = codec.open_decoder(sessions.decode, start="primed", bandwidth=bandwidth)
        codes = codes_of_chance(codec, frames, bandwidth, sessions.decode)
        pushes.append(lambda: decoder.push(codes))

    def step() -> None:
        for push in pushes:
            push()

    return step


def _shared(conversations: int, processes: int) -> list[Sessions]:
    """The sessions of each process, begun one conversation after the other."""
    engines: list[list[Kind]] = [[] for _ in range(processes)]
    directions: tuple[Direction, ...] = ("encode", "decode")
    for direction in directions * conversations:
        engines[place(("", direction), engines)].append(("", direction))
    return [Sessions(*(engine.count(("", direction)) for direction in directions)) for engine in engines]


def _opened(args: argparse.Namespace) -> tuple[Codec, float]:
    torch.set_num_threads(1)
    codec, random = open_codec(args.codec, args.backend, args.precision)
    if codec.spec.segment_length is not None:
        raise InputError(f"{codec.spec.name} works on segments, so its steps have no number of frames")
    preset = PRESETS[args.codec].bandwidth if random else None
    return codec, args.bandwidth or preset or codec.spec.default_bandwidth


def _alone(args: argparse.Namespace, sessions: Sessions) -> Live:
    codec, bandwidth = _opened(args)
    return live(codec, sessions, args.frames, bandwidth, args.seconds)


_barrier: Barrier | None = None  # of a process that measures beside others


def _begin(barrier: Barrier) -> None:
    global _barrier
    _barrier = barrier


def _beside(args: argparse.Namespace, sessions: Sessions) -> Live:
    """The same in one of several processes, when all are ready."""
    codec, bandwidth = _opened(args)
    live(codec, sessions, args.frames, bandwidth, 0)
    assert _barrier is not None
    _barrier.wait(START_SECONDS)
    return live(codec, sessions, args.frames, bandwidth, args.seconds)


def _together(args: argparse.Namespace, shares: Sequence[Sessions]) -> list[Live]:
    context = get_context("spawn")
    barrier = context.Barrier(len(shares))
    plain = argparse.Namespace(**{name: value for name, value in vars(args).items() if name in FIELDS})
    with ProcessPoolExecutor(len(shares), context, _begin, (barrier,)) as pool:
        return list(pool.map(_beside, [plain] * len(shares), shares))


FIELDS = ("codec", "backend", "precision", "bandwidth", "frames", "seconds")


def _result(args: argparse.Namespace, found: Sequence[Live]) -> dict[str, Any]:
    """Of several processes the slowest counts."""
    lasts = found[0].lasts
    return {
        "precision": args.precision,
        "processes": args.processes,
        "conversations": args.conversations * args.processes,
        "frames": args.frames,
        "steps": sum(len(each.steps) for each in found),
        "lasts_ms": 1000 * lasts,
        "median_ms": 1000 * max(statistics.median(each.steps) for each in found),
        "p99_ms": 1000 * max(p99(each.steps) for each in found),
        "late_percent": 100 * max(sum(step > lasts for step in each.steps) / len(each.steps) for each in found),
        "loop_median_ms": 1000 * max(statistics.median(each.loop) for each in found),
        "loop_p99_ms": 1000 * max(p99(each.loop) for each in found),
    }


HEADS = {
    "conversations": ("conversations", "{:.0f}"),
    "processes": ("processes", "{:.0f}"),
    "precision": ("precision", "{}"),
    "frames": ("frames a step", "{:.0f}"),
    "lasts_ms": ("they last, ms", "{:.2f}"),
    "steps": ("steps", "{:.0f}"),
    "median_ms": ("median, ms", "{:.2f}"),
    "p99_ms": ("p99", "{:.2f}"),
    "late_percent": ("late", "{:.2f}%"),
    "loop_median_ms": ("a loop, median", "{:.2f}"),
    "loop_p99_ms": ("p99 of it", "{:.2f}"),
}


def _table(result: dict[str, Any]) -> str:
    cells = [form.format(result[key]) for key, (_, form) in HEADS.items()]
    heads = [title for title, _ in HEADS.values()]
    return "\n".join(f"| {' | '.join(row)} |" for row in (heads, ["--:"] * len(heads), cells))
