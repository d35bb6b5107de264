"""The command line: ``streamcodec COMMAND``; ``streamcodec --help`` lists the commands.

`main` parses, runs and turns errors into exit codes; ``parser`` knows the options; each command has its own file, which
is imported only when that command runs, so that ``--help`` does not wait for torch.
"""

import contextlib
import gc
import importlib
import io
import os
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from typing import TextIO

from ..errors import StreamcodecError
from ..install import needs_torch
from ..sources import reason
from .parser import build_parser
from .signals import ended_by_signals, exit_code

__all__ = ["main"]

FAILED = 2  # what argparse uses for a wrong option, too
BROKEN = 1  # as Python ends at an exception
BROKEN_PIPE = 128 + 13  # as a shell reports SIGPIPE
TRACEBACK = "STREAMCODEC_TRACEBACK"  # set to anything, it shows where an unexpected error comes from


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    0; 2 after an error that was explained on stderr; 1 after an unexpected one; 130 after Ctrl-C, 143 after SIGTERM,
    129 after SIGHUP.
    argv: the arguments without the program's name; None takes them from the process. A wrong option raises SystemExit,
    as argparse has it.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    _fill_closed_streams()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # file names that are no text can be shown
    args = Namespace(quiet=False)  # until the arguments are read, for which some commands import all they need
    try:
        with ended_by_signals(), needs_torch(), _collected_later() as imported:
            args = build_parser(arguments).parse_args(arguments)
            command = importlib.import_module(args.module, __package__)
            imported()
            with _quiet(args):
                code: int = command.run(args)
                sys.stdout.flush()
    except StreamcodecError as error:
        return _explain(str(error))
    except KeyboardInterrupt as error:
        if not args.quiet:
            _say("")  # the shell's prompt goes on a line of its own, below the ^C or the progress bar
        return exit_code(error)
    except BrokenPipeError:
        _forget(sys.stdout)
        return BROKEN_PIPE
    except OSError as error:
        try:
            sys.stdout.flush()
        except OSError:
            _forget(sys.stdout)
        return _explain(f"{error.filename}: {reason(error)}" if error.filename else reason(error))
    except Exception as error:
        if os.environ.get(TRACEBACK):
            raise
        _explain(f"{type(error).__name__}: {error} (unexpected: set {TRACEBACK}=1 to see where it comes from)")
        return BROKEN
    return code


@contextlib.contextmanager
def _collected_later() -> Iterator[Callable[[], None]]:
    """The garbage collector waits until modules are imported, which the caller tells, and then leaves those alone.

    torch makes hundreds of thousands of objects that all stay. To look through them again and again took a quarter of a
    second to a command's first frame.
    """
    enabled = gc.isenabled()
    gc.disable()

    def imported() -> None:
        gc.freeze()
        if enabled:
            gc.enable()

    try:
        yield imported
    finally:
        gc.unfreeze()  # libraries that look for what is left at the end of a process would tell of it
        if enabled:
            gc.enable()


def _fill_closed_streams() -> None:
    """Open what was closed when the program began (`2>&-`): else a file or a connection gets this number, and the text.

    Python has None there, which most of what prints does not expect.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            os.dup2(os.open(os.devnull, os.O_RDWR), number)  # and children inherit it
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, closefd=False))  # noqa: SIM115


def _explain(sentence: str) -> int:
    _say(f"streamcodec: error: {' '.join(sentence.split())}")
    return FAILED


def _say(line: str) -> None:
    try:
        print(line, file=sys.stderr)
    except OSError:  # a full disk or a closed pipe must not change the exit code
        _forget(sys.stderr)


def _forget(stream: TextIO) -> None:
    """Whoever read it has left (`| head`), or the disk is full: Python must not flush into it at its end."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


@contextlib.contextmanager
def _quiet(args: Namespace) -> Iterator[None]:
    """With --quiet, nothing on stderr while the command runs; `main` tells errors after it.

    A server goes on after most of its errors, and stderr is its log: `serve` sees to its quiet itself.
    """
    if not args.quiet or args.module == ".serve":
        yield
        return
    with open(os.devnull, "w", errors="replace") as nowhere, contextlib.redirect_stderr(nowhere):  # noqa: PTH123
        yield
