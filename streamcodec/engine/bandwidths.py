"""Which bandwidth each frame of a session has: what was fed may wait, and what a change means must not depend on it."""

from collections import deque
from typing import Any

from ..errors import StateError

__all__ = ["Bandwidths"]


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
        if len(self._changes) == 1:
            return [(count, self.last)]
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
