"""Single key presses on a terminal, without waiting."""

import contextlib
import os
import select
import sys
from collections.abc import Iterator
from typing import Any

__all__ = ["Keys"]

# What terminals send for the arrow keys (ECMA-48, CUU and CUD; the second form is "application mode").
SEQUENCES = {"\x1b[A": "+", "\x1b[B": "-", "\x1bOA": "+", "\x1bOB": "-"}


class Keys:
    """The keys pressed since the last look; none where standard input is no terminal.

    with Keys() as keys:
        for key in keys.pressed(): ...

    The arrow keys up and down come as "+" and "-", and "=" as "+" (the same key on many keyboards). The terminal is as
    it was after the block. `available` says whether there is a terminal.
    """

    def __init__(self) -> None:
        self.available = sys.stdin is not None and sys.stdin.isatty()
        self._restore = contextlib.ExitStack()

    def __enter__(self) -> "Keys":
        if self.available and os.name == "posix":
            import termios
            import tty

            descriptor = sys.stdin.fileno()
            before = termios.tcgetattr(descriptor)
            tty.setcbreak(descriptor)  # Ctrl-C still interrupts
            self._restore.callback(_restore, descriptor, before)
        return self

    def __exit__(self, *_: object) -> None:
        self._restore.close()

    def pressed(self) -> Iterator[str]:
        """Keys in the order in which they were pressed, in lower case."""
        if not self.available:
            return
        text = _waiting_posix() if os.name == "posix" else _waiting_windows()
        for sequence, key in SEQUENCES.items():
            text = text.replace(sequence, key)
        for key in text.replace("=", "+"):
            yield key.lower()


def _restore(descriptor: int, attributes: "list[Any]") -> None:
    import termios

    with contextlib.suppress(termios.error):  # the terminal's window was closed
        termios.tcsetattr(descriptor, termios.TCSADRAIN, attributes)


def _waiting_posix() -> str:
    descriptor = sys.stdin.fileno()
    if not select.select([descriptor], [], [], 0)[0]:
        return ""
    return os.read(descriptor, 1024).decode(errors="replace")


def _waiting_windows() -> str:
    import importlib

    msvcrt = importlib.import_module("msvcrt")
    text = ""
    while msvcrt.kbhit():
        text += {"\xe0H": "+", "\xe0P": "-"}.get(key := _windows_key(msvcrt), key)
    return text


def _windows_key(msvcrt: object) -> str:
    first: str = msvcrt.getwch()  # type: ignore[attr-defined]
    return first + msvcrt.getwch() if first in "\x00\xe0" else first  # type: ignore[attr-defined]
