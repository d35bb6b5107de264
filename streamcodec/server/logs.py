"""The log, on stderr. Callers pass names and numbers, never audio, keys or tokens.

For programs it is one JSON object a line; for people on a terminal a short line each, and sentences beside.
"""

import json
import sys
import threading
import time
from typing import IO

__all__ = ["FORMATS", "Log"]

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
FORMATS = ("auto", "text", "json")
MAX_TEXT = 500  # of one value: what a stranger sends does not fill a disk


class Log:
    """level: the lowest that is written. format: "json", "text", or "auto": text where the stream is a terminal.

    Lines have time (seconds since 1970; in text, the local time of day), level, event, and what the call adds.
    """

    def __init__(
        self, level: str = "info", stream: IO[str] | None = None, format: str = "json", **always: object
    ) -> None:
        self._least = LEVELS[level]
        self._stream = sys.stderr if stream is None else stream
        self._text = format == "text" or (format == "auto" and self._stream.isatty())
        self._always = always
        self._lock = threading.Lock()

    def __call__(self, level: str, event: str, **fields: object) -> None:
        if LEVELS[level] < self._least:
            return
        values = {key: _plain(value) for key, value in {**self._always, **fields}.items()}
        now = time.time()
        if self._text:
            self._write([_line(now, level, event, values)])
        else:
            self._write([json.dumps({"time": round(now, 3), "level": level, "event": event, **values})])

    def say(self, *sentences: str) -> None:
        """For people alone: nothing of it is in a log of JSON."""
        if self._text and self._least <= LEVELS["info"]:
            self._write([_printable(sentence) for sentence in sentences])

    def _write(self, lines: list[str]) -> None:
        with self._lock:
            self._stream.write("".join(f"{line}\n" for line in lines))
            self._stream.flush()


def _plain(value: object) -> object:
    if value is None or isinstance(value, (bool, int, float)):
        return value
    return str(value)[:MAX_TEXT]


def _line(now: float, level: str, event: str, values: dict[str, object]) -> str:
    shown = [f"{key} {_quoted(value)}" for key, value in values.items() if value is not None]
    mark = "" if level == "info" else f"{level}: "
    return "  ".join([time.strftime("%H:%M:%S", time.localtime(now)), f"{mark}{event}", *shown])


def _quoted(value: object) -> str:
    """Where a value begins and ends can be seen."""
    text = str(value)
    plain = isinstance(value, (bool, int, float)) or (text != "" and " " not in text)
    return _printable(text) if plain else json.dumps(text)


def _printable(text: str) -> str:
    """What a stranger sent cannot command the terminal."""
    return text if text.isprintable() else json.dumps(text)
