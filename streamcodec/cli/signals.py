"""SIGTERM and SIGHUP end a command as Ctrl-C does: what it was writing is cleared away first."""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

__all__ = ["EndedBySignal", "check_ended", "ended_by_signals", "exit_code", "told_by_signals"]

NAMES = ("SIGTERM", "SIGHUP")  # Windows has no SIGHUP


_told: "list[EndedBySignal]" = []  # what has been raised since the command began


class EndedBySignal(KeyboardInterrupt):
    """The process was asked to end; a KeyboardInterrupt, since all that ends well at Ctrl-C then ends well here."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


def exit_code(interrupt: KeyboardInterrupt) -> int:
    """As a shell reports it: 130, 143 or 129."""
    return 128 + (interrupt.number if isinstance(interrupt, EndedBySignal) else signal.SIGINT)


@contextlib.contextmanager
def ended_by_signals() -> Iterator[None]:
    """Within the block the signals raise `EndedBySignal`, but for those that were ignored before (nohup)."""
    _told.clear()
    numbers = [number for number in _numbers() if signal.getsignal(number) == signal.SIG_DFL]
    with _handled(numbers, _end):
        yield


@contextlib.contextmanager
def told_by_signals(tell: Callable[[], object]) -> Iterator[None]:
    """Within the block these signals and Ctrl-C call `tell` and end nothing; those that are ignored stay so."""

    def told(number: int, frame: FrameType | None) -> None:
        _leave_a_lost_terminal(number)
        tell()

    numbers = [number for number in (signal.SIGINT, *_numbers()) if signal.getsignal(number) != signal.SIG_IGN]
    with _handled(numbers, told):
        yield


def check_ended() -> None:
    """Raises `EndedBySignal` again where it was raised but got lost, as in a callback out of C; called now and then."""
    if _told:
        raise _told[0]


def _numbers() -> list[signal.Signals]:
    return [getattr(signal, name) for name in NAMES if hasattr(signal, name)]


@contextlib.contextmanager
def _handled(numbers: list[signal.Signals], handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():  # where Python takes no handlers
        yield
        return
    taken = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, before in taken.items():
            if _told or signal.getsignal(number) is handler:  # a server ignores them when it has ended
                signal.signal(number, before)


def _end(number: int, frame: FrameType | None) -> None:
    for other in _numbers():
        if signal.getsignal(other) is _end:  # a second signal must not break off the clearing away
            signal.signal(other, signal.SIG_IGN)
    _leave_a_lost_terminal(number)
    _told.append(EndedBySignal(number))
    raise _told[0]


def _leave_a_lost_terminal(number: int) -> None:
    """At SIGHUP the terminal is mostly gone: what is said from now on goes nowhere, and must not fail."""
    if signal.Signals(number).name != "SIGHUP":
        return
    for descriptor in (1, 2):
        try:
            os.write(descriptor, b"")
        except OSError:
            with contextlib.suppress(OSError), open(os.devnull, "wb") as nowhere:  # noqa: PTH123, as elsewhere
                os.dup2(nowhere.fileno(), descriptor)
