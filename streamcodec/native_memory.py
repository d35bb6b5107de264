"""Where the buffers of a native step lie. Those that are not needed at one time share memory.

A step writes each buffer in one operation and reads it in a few others. Of a network whose rows become many towards the
waveform all buffers together are several times what a step needs at once, and more than the caches hold.
"""

from collections.abc import Sequence
from typing import NamedTuple

from .program import Attention, Program

__all__ = ["Life", "lives", "placed"]

LINE = 64  # bytes of a line of the caches


class Life(NamedTuple):
    """The operations of a step from the one that writes a buffer to the last one that reads it."""

    first: int
    last: int


def lives(program: Program) -> list[Life]:
    """Of each buffer of a program. What a step leaves to be read when all operations are done lives one longer."""
    lasts, end = [program.source(buffer) for buffer in range(len(program.buffers))], len(program.ops)
    for index, op in enumerate(program.ops):
        for buffer in [window.buffer for window in op.windows] + ([] if op.add is None else [op.add]):
            lasts[buffer] = end if isinstance(op, Attention) else index  # its rings are written at the end, of these
    lasts[program.out] = end
    return [Life(program.source(buffer), last) for buffer, last in enumerate(lasts)]


def placed(sizes: Sequence[int], each: Sequence[Life]) -> tuple[list[int], int]:
    """Where stretches of so many bytes begin, each on a line of the caches, and how long all of them are together.

    The longest come first, each to the first place that is free for all of its life: "greedy by size" of Pisarchyk &
    Lee 2020 (Efficient memory management for deep neural net inference, section 5.2).
    """
    starts, end = [0] * len(sizes), 0
    done: list[int] = []
    for which in sorted(range(len(sizes)), key=lambda i: -sizes[i]):
        size, life = -(-sizes[which] // LINE) * LINE, each[which]
        taken = sorted((starts[i], starts[i] + sizes[i]) for i in done if _meet(each[i], life))
        place = 0
        for begin, stop in taken:
            if place + size <= begin:
                break
            place = max(place, -(-stop // LINE) * LINE)
        starts[which], end = place, max(end, place + size)
        done.append(which)
    return starts, end


def _meet(one: Life, other: Life) -> bool:
    return one.first <= other.last and other.first <= one.last
