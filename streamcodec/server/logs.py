"""The log, on stderr. Callers pass names and numbers, never audio, keys or tokens.

For programs it is one JSON object a line; for people on a terminal a short line each, and sentences beside.
"""

import contextlib
import json
import logging
import sys
import time
from collections.abc import Iterator
from typing import IO

from .line_writer import LineWriter, unhurried_stderr

__all__ = ["FORMATS", "Log", "log_on_stderr"]

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
FORMATS = ("auto", "text", "json")
MAX_TEXT = 500  # of one value: what a stranger sends does not fill a disk


class Log:
    """level: the lowest that is written. format: "json", "text", or "auto": text where the stream is a terminal.

    Lines have time (seconds since 1970; in text, the local time of day), level, event, and what the call adds.
    stream: where they go. One that waits or fails does so to whoever logs; that of `log_on_stderr` does neither.
    """

    def __init__(self, level: str = "info", stream: IO[str] | LineWriter | None = None, format: str = "json") -> None:
        self._least = LEVELS[level]
        self._stream = sys.stderr if stream is None else stream
        self._text = format == "text" or (format == "auto" and self._stream.isatty())

    @property
    def dropped(self) -> int:
        """Lines that nobody took."""
        return self._stream.dropped if isinstance(self._stream, LineWriter) else 0

    def __call__(self, level: str, event: str, **fields: object) -> None:
        if LEVELS[level] < self._least:
            return
        self._stream.write(self.line(level, event, **fields))

    def line(self, level: str, event: str, **fields: object) -> str:
        """As it is written, with the line's end."""
        values = {key: _plain(value) for key, value in fields.items()}
        now = time.time()
        if self._text:
            return f"{_line(now, level, event, values)}\n"
        return json.dumps({"time": round(now, 3), "level": level, "event": event, **values}) + "\n"

    def say(self, *sentences: str) -> None:
        """For people alone: nothing of it is in a log of JSON."""
        if self._text and self._least <= LEVELS["info"]:
            self._stream.write("".join(f"{_printable(sentence)}\n" for sentence in sentences))


@contextlib.contextmanager
def log_on_stderr(level: str, format: str) -> Iterator[Log]:
    """A log that neither waits nor fails, and in it what libraries log and warn of."""
    with unhurried_stderr() as writer:
        log = Log(level, writer, format)
        if writer is not None:
            writer.note = lambda count: log.line("warning", "dropped", lines=count)
        handler = _Libraries(log)
        logging.getLogger().addHandler(handler)
        logging.captureWarnings(True)
        try:
            yield log
        finally:
            logging.captureWarnings(False)
            logging.getLogger().removeHandler(handler)


class _Libraries(logging.Handler):
    """What libraries, asyncio above all, tell through Python's own logging."""

    def __init__(self, log: Log) -> None:
        super().__init__(logging.WARNING)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        about = {} if error is None else {"error": f"{type(error).__name__}: {error}"}
        level = "error" if record.levelno >= logging.ERROR else "warning"
        self._log(level, "library", name=record.name, message=record.getMessage(), **about)


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
