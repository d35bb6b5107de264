"""SIGTERM and SIGHUP end a command as Ctrl-C does: what it was writing is cleared away first."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

__all__ = ["Ended", "check_ended", "ended_by_signals", "exit_code"]

NAMES = ("SIGTERM", "SIGHUP")  # Windows has no SIGHUP


_told: "list[Ended]" = []  # what has been raised since the command began


class Ended(KeyboardInterrupt):
    """The process was asked to end; a KeyboardInterrupt, since all that ends well at Ctrl-C then ends well here."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


def exit_code(interrupt: KeyboardInterrupt) -> int:
    """As a shell reports it: 130, 143 or 129."""
    return 128 + (interrupt.number if isinstance(interrupt, Ended) else signal.SIGINT)


@contextlib.contextmanager
def ended_by_signals() -> Iterator[None]:
    """Within the block the signals raise `Ended`, but for those that were ignored before (nohup)."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [getattr(signal, name) for name in NAMES if hasattr(signal, name)]
    _told.clear()
    taken = {number: signal.signal(number, _end) for number in numbers if signal.getsignal(number) == signal.SIG_DFL}
    try:
        yield
    finally:
        for number, handler in taken.items():
            if _told or signal.getsignal(number) is _end:  # a server ignores them when it has ended
                signal.signal(number, handler)


def _end(number: int, frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_IGN)  # a second one must not break off the clearing away
    _told.append(Ended(number))
    raise _told[0]


def check_ended() -> None:
    """Raises `Ended` again where it was raised but got lost, as in a callback out of C; called once in a while."""
    if _told:
        raise _told[0]
