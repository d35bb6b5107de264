"""When to try again. Knows no clock and no connection: time is an argument."""

import random
from collections.abc import Callable

__all__ = ["Retry"]

FIRST_SECONDS = 0.1  # a server that restarts or a network that changes is often back within some of these
MOST_SECONDS = 5.0  # so that a server that is back is found soon
FACTOR = 2.0


class Retry:
    """Exponential back-off with jitter, for a bounded time.

    ends: the time to give up; may be put off. uniform: draws between two numbers, so that clients whose server
    restarted do not all come back at once. The waits are drawn between half of and all of 0.1, 0.2, 0.4 ... 5 s.
    """

    def __init__(self, ends: float, uniform: Callable[[float, float], float] = random.uniform) -> None:
        self.ends = ends
        self._uniform = uniform
        self._next = FIRST_SECONDS

    def restart(self) -> None:
        """It went well in between: begin with short waits again."""
        self._next = FIRST_SECONDS

    def wait(self, now: float, least: float | None = None) -> float | None:
        """Seconds to wait before the next attempt; None where that would be too late, and it is time to give up.

        least: what the other end asked to wait. The last attempt comes right at the end of the time.
        """
        wait = self._uniform(self._next / 2, self._next)
        self._next = min(MOST_SECONDS, self._next * FACTOR)
        if now >= self.ends or (least is not None and now + least > self.ends):
            return None
        return max(least or 0.0, min(wait, self.ends - now))
