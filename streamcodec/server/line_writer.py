"""Writing to stderr without waiting for whoever reads it, and without failing where nobody does.

The standard library's QueueListener does not serve here: it waits at its end for a write that may never return, and its
handlers report what they cannot write on the stream that cannot be written.
"""

import contextlib
import io
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator

__all__ = ["LineWriter", "unhurried_stderr"]

MOST_WAITING = 1000  # texts, of a line each mostly
CLOSE_SECONDS = 1.0  # for what still waits at the end
FULL_SECONDS = 0.05  # between tries at a pipe that another program has set to refuse rather than to wait


class LineWriter(io.TextIOBase):
    """A text stream whose `write` neither waits nor raises: a thread of its own does the writing.

    fd: where to. At most `most` texts wait; one beyond these is dropped, and so is one that cannot be written.
    `dropped` counts them, and `note(count)` gives the line that says so as soon as writing works again.
    """

    def __init__(self, fd: int, *, most: int = MOST_WAITING) -> None:
        self.dropped = 0
        self.note: Callable[[int], str] = "{} lines of the log were dropped\n".format
        self._fd, self._most = fd, most
        self._terminal = os.isatty(fd)
        self._waiting: deque[str] = deque()
        self._news = threading.Condition()
        self._ends = False
        self._told = 0  # of those that were dropped
        self._torn = False  # whether what was written last is part of a line
        self._thread = threading.Thread(target=self._main, name="log", daemon=True)
        self._thread.start()

    def write(self, text: str) -> int:
        with self._news:
            if self._ends or len(self._waiting) >= self._most:
                self.dropped += 1
            else:
                self._waiting.append(text)
                self._news.notify()
        return len(text)

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return self._terminal

    def close(self) -> None:
        """Wait a moment for what is still to be written."""
        with self._news:
            self._ends = True
            self._news.notify()
        self._thread.join(CLOSE_SECONDS)
        super().close()

    # -- the thread ------------------------------------------------------------------------------------------------

    def _main(self) -> None:
        while True:
            with self._news:
                while not (self._waiting or self._ends):
                    self._news.wait()
                if not self._waiting:
                    return
                text = self._waiting.popleft()
            self._put(text)

    def _put(self, text: str) -> None:
        dropped = self.dropped
        if dropped > self._told:
            text = self.note(dropped - self._told) + text
        data = ("\n" * self._torn + text).encode(errors="backslashreplace")
        rest = data
        try:
            while rest:
                rest = rest[self._write(rest) :]
            self._told, self._torn = dropped, False
        except OSError:  # nobody reads, or the disk is full
            self._torn = self._torn or len(rest) < len(data)
            with self._news:
                self.dropped += 1

    def _write(self, data: bytes) -> int:
        try:
            return os.write(self._fd, data)  # not through sys.stderr: Python waits for its lock when it ends
        except BlockingIOError:
            time.sleep(FULL_SECONDS)
            return 0


@contextlib.contextmanager
def unhurried_stderr() -> Iterator[LineWriter | None]:
    """Within the block sys.stderr is a `LineWriter`, so that neither the log nor a warning holds anything up.

    Gives None, and leaves sys.stderr as it is, where that is no file of the system (as in a test).
    """
    try:
        fd = sys.stderr.fileno()
    except (AttributeError, OSError, ValueError):
        yield None
        return
    with contextlib.closing(LineWriter(fd)) as writer, contextlib.redirect_stderr(writer):
        yield writer
