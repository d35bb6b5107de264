"""Notices that a sound card has fallen silent."""

__all__ = ["Watchdog"]

PATIENCE = 2.0  # seconds; the largest blocks in use are a fifth of a second
ATTEMPTS = 3  # reopenings in a row that may fail before it is given up
RECOVERED = 5.0  # seconds of callbacks after which earlier failures are forgotten


class Watchdog:
    """Says when a device has given no callback for too long. Every call is told the time, in seconds."""

    def __init__(self, patience: float = PATIENCE, attempts: int = ATTEMPTS) -> None:
        self.patience, self.attempts = patience, attempts
        self.failures = 0
        self._last: dict[str, float] = {}
        self._opened = 0.0

    def opened(self, now: float) -> None:
        """The devices were just opened: both have `patience` seconds from here on."""
        self._opened = now
        self._last = {"input": now, "output": now}

    def called(self, side: str, now: float) -> None:
        """A callback of the "input" or "output" came at the time `now`."""
        self._last[side] = max(self._last[side], now)

    def silent(self, now: float) -> list[str]:
        """The sides that gave no callback for `patience` seconds, none if all is well."""
        silent = [side for side, last in self._last.items() if now - last >= self.patience]
        if not silent and now - self._opened >= RECOVERED:
            self.failures = 0
        return silent

    def failed(self) -> bool:
        """Count a failure, of a silent side or of a reopening; whether there were too many in a row."""
        self.failures += 1
        return self.failures > self.attempts
