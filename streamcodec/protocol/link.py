"""Numbered messages: what was sent and not yet acknowledged, what is expected next, and how fast they may come."""

from collections import deque
from itertools import islice

from .faults import ProtocolError

__all__ = ["MODULUS", "Arrivals", "Bucket", "Unacknowledged", "Valve"]

MODULUS = 2**32
Message = str | bytes  # text of ours is ASCII: its length is its size


class Unacknowledged:
    """Messages that were numbered and sent, held until the peer has them.

    next: the number of the next one. messages, bytes: held. keep: False where the session cannot be resumed: nothing is
    held.
    """

    def __init__(self, keep: bool) -> None:
        self.keep = keep
        self.next = 0
        self.bytes = 0
        self.messages: deque[Message] = deque()
        self._counts: deque[int] = deque()  # samples or frames of each
        self._count = 0

    def __len__(self) -> int:
        return len(self.messages)

    def add(self, message: Message, count: int = 0) -> None:
        """Takes the number `next`. count: samples or frames in it."""
        self.next = (self.next + 1) % MODULUS
        if self.keep:
            self.messages.append(message)
            self._counts.append(count)
            self._count += count
            self.bytes += len(message)

    def count(self, usual: int) -> int:
        """Samples or frames held, but for those of the newest `usual` messages."""
        return self._count - sum(islice(reversed(self._counts), usual))

    def acknowledge(self, sequence: int) -> bool:
        """Lets go of all up to this one. An old number changes nothing; False for one that was never sent."""
        behind = (self.next - 1 - sequence) % MODULUS  # sent after it
        if behind >= MODULUS // 2:
            return False
        while len(self.messages) > behind:
            self.bytes -= len(self.messages.popleft())
            self._count -= self._counts.popleft()
        return True

    def after(self, last: int | None) -> list[Message] | None:
        """Those that follow the number `last`, or all from 0 if it is None; None where they are not held any more."""
        lacking = (self.next - (0 if last is None else last + 1)) % MODULUS
        if lacking > len(self.messages):
            return None
        return list(self.messages)[len(self.messages) - lacking :]


class Arrivals:
    """What came. expected: the number of the next one; last: of the one before, None at the start."""

    def __init__(self, every: int, max_bytes: int) -> None:
        self.expected = 0
        self.last: int | None = None
        self._before: int | None = None
        self._every, self._max_bytes = every, max_bytes
        self._messages = self._bytes = 0

    def take(self, sequence: int, size: int) -> None:
        """Raises ProtocolError "sequence_gap" unless it is the expected one."""
        if sequence != self.expected:
            raise ProtocolError(
                "sequence_gap",
                f"message number {sequence} came, {self.expected} was expected; resume, and send again from there",
                allowed=self.expected,
                sequence=sequence,
            )
        self._before = self.last
        self.last, self.expected = sequence, (sequence + 1) % MODULUS
        self._messages += 1
        self._bytes += size

    def give_back(self) -> None:
        """The last one counts as not come: the peer sends it again after a resume."""
        assert self.last is not None, "nothing has come"
        self.expected, self.last = self.last, self._before

    def due(self) -> int | None:
        """The number to acknowledge now, if it is time."""
        if self._messages < self._every and self._bytes < self._max_bytes:
            return None
        self._messages = self._bytes = 0
        return self.last


class Bucket:
    """Token bucket: `rate` messages a second, `burst` at once."""

    def __init__(self, rate: float, burst: int, now: float) -> None:
        self._rate, self._burst = rate, burst
        self._tokens, self._then = float(burst), now

    def take(self, now: float) -> float:
        """Seconds until a message would be allowed: 0 if this one is."""
        seconds = now - self._then
        if seconds > 0:
            self._then = now
            if self._tokens < self._burst:  # it may hold more after a resume
                self._tokens = min(self._burst, self._tokens + seconds * self._rate)
        if self._tokens >= 1:
            self._tokens -= 1
            return 0.0
        return (1 - self._tokens) / self._rate

    def catch_up(self, now: float) -> None:
        """After a resume: what was put off since the last message may come at once."""
        self._tokens += max(0.0, now - self._then) * self._rate
        self._then = max(self._then, now)


class Valve:
    """Keeps audio from being late: while more than `most` samples or frames are on their way, none is sent, until half
    of that is. usual: messages that any peer leaves unacknowledged for a while.

    omitted: samples or frames that were left out since the last that were sent; left_out: in all.
    """

    def __init__(self, most: float, usual: int) -> None:
        self.omitted = self.left_out = 0
        self._most, self._usual = most, usual
        self._shut = False

    def takes(self, count: int, held: Unacknowledged) -> bool:
        """Whether so many more may be sent; else they are left out."""
        self._shut = held.count(self._usual) > (self._most / 2 if self._shut else self._most)
        if self._shut:
            self.leave_out(count)
        return not self._shut

    def leave_out(self, count: int) -> None:
        self.omitted += count
        self.left_out += count
