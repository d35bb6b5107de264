"""Starting processes that leave Ctrl-C to the one that started them."""

import contextlib
import signal
from collections.abc import Iterator
from multiprocessing import resource_tracker

__all__ = ["leaving_ctrl_c"]


@contextlib.contextmanager
def leaving_ctrl_c() -> Iterator[None]:
    """Processes started here get no SIGINT, from their first moment on: a terminal sends Ctrl-C to all of them.

    A signal that is blocked stays so in a child; one that comes meanwhile reaches this process afterwards.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    resource_tracker.ensure_running()  # its own start, by the first process that is spawned, would unblock the signal
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
