"""The signals that end a server."""

import asyncio
import contextlib
import signal
import threading
from collections.abc import Callable, Iterator

__all__ = ["told_by_signals"]

NAMES = ("SIGTERM", "SIGINT", "SIGHUP", "SIGBREAK")  # no system has them all


@contextlib.contextmanager
def told_by_signals(tell: Callable[[int], None]) -> Iterator[None]:
    """Within the block, `tell` is called in the event loop with each signal that asks the process to end.

    Those that were ignored before (nohup) stay so. After the block all are, since whoever ends need not be told again;
    where it raises, they are what they were.
    An event loop has signal handlers of its own, but not on Windows, and it takes them away when it closes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    numbers = [getattr(signal, name) for name in NAMES if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in numbers if signal.getsignal(number) != signal.SIG_IGN}
    for number in before:
        signal.signal(number, lambda number, frame: loop.call_soon_threadsafe(tell, number) and None)
    after: dict[int, object] = dict(before)
    try:
        yield
        after = dict.fromkeys(before, signal.SIG_IGN)
    finally:
        for number, handler in after.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
