"""Which of several engines a new session goes to, where each runs on a core of its own.

A step reads the weights of each direction that it computes, for one session as for twenty, and the cores of a machine
share the way to its memory. So sessions of one direction are gathered: two engines of which one encodes twenty
conversations and one decodes them take three quarters of the time of two that do both of ten (docs/log.md).
"""

from collections.abc import Sequence
from typing import TypeAlias

from .session import DIRECTIONS, Direction

__all__ = ["Kind", "place"]

Kind: TypeAlias = tuple[str, Direction]  # of a session: its codec's name, and what it does
# Reading the weights of a direction takes about as long as computing so many sessions. So the step of the engine that
# is ahead takes no longer than it would with both directions and the load of the others.
AHEAD = 4
IDLE = 0.5  # an engine without sessions is as good a place as one with as much of another direction


def place(new: Kind, engines: Sequence[Sequence[Kind]]) -> int:
    """The number of the engine for a session, given the sessions that each has.

    It is the one of whose work the session's direction of its codec is the largest part, and the least loaded of such;
    but none that would be more than AHEAD directions ahead of the least loaded of all. A roundtrip, which has two
    directions and reads the weights of both wherever it is, goes to the least loaded.
    """
    loads = [sum(sum(DIRECTIONS[direction]) for _, direction in sessions) for sessions in engines]
    most = min(loads) + (0 if all(DIRECTIONS[new[1]]) else AHEAD - 1)
    shares = [_alike(new, sessions) / load if load else IDLE for sessions, load in zip(engines, loads, strict=True)]
    free = [engine for engine, load in enumerate(loads) if load <= most]
    return min(free, key=lambda engine: (-shares[engine], loads[engine]))


def _alike(new: Kind, sessions: Sequence[Kind]) -> int:
    """Directions of the sessions that read the same weights as some of the new one's."""
    mine = DIRECTIONS[new[1]]
    return sum(sum(map(min, mine, DIRECTIONS[direction])) for codec, direction in sessions if codec == new[0])
