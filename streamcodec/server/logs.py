"""Structured logs: one JSON object a line on stderr. Callers pass names and numbers, never audio, keys or tokens."""

import json
import sys
import threading
import time
from typing import IO

__all__ = ["Log"]

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
MAX_TEXT = 500  # of one value: what a stranger sends does not fill a disk


class Log:
    """level: the lowest that is written. Lines have time (seconds since 1970), level, event, and what the call adds."""

    def __init__(self, level: str = "info", stream: IO[str] | None = None, **always: object) -> None:
        self._least = LEVELS[level]
        self._stream = sys.stderr if stream is None else stream
        self._always = always
        self._lock = threading.Lock()

    def __call__(self, level: str, event: str, **fields: object) -> None:
        if LEVELS[level] < self._least:
            return
        values = {"time": round(time.time(), 3), "level": level, "event": event, **self._always, **fields}
        line = json.dumps({key: _plain(value) for key, value in values.items()})
        with self._lock:
            self._stream.write(line + "\n")
            self._stream.flush()


def _plain(value: object) -> object:
    if value is None or isinstance(value, (bool, int, float)):
        return value
    return str(value)[:MAX_TEXT]
