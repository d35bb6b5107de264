"""What a command reads and what it writes: names, ``-`` for standard input and output, what is refused at once."""

import os
import stat
import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path

from ..errors import AudioError, InputError
from ..files import Existing, NewFile, suffix_format
from ..remote_file import is_address, open_address
from ..sources import Source, SourceFile, reason

__all__ = [
    "STANDARD",
    "add_force",
    "check_folder",
    "check_input",
    "frames_by_codebooks",
    "input_of",
    "new_output",
    "output_format",
    "takes_stdout",
]

STANDARD = "-"


def add_force(parser: ArgumentParser) -> None:
    """--force, of every command that writes a file."""
    parser.add_argument("-f", "--force", action="store_true", help="replace the output where there is such a file")


def frames_by_codebooks(text: str) -> tuple[int, int]:
    """FRAMESxCODEBOOKS, as --redundancy has it. Raises InputError."""
    frames, by, codebooks = text.partition("x")
    if not (by and frames.isdecimal() and codebooks.isdecimal()):
        raise InputError(f"--redundancy {text}; it must be FRAMESxCODEBOOKS, such as 2x2")
    return int(frames), int(codebooks)


def check_input(path: str | Path) -> None:
    """Raises AudioError where nothing can be read, before a codec is loaded for it. Opens nothing: it may be a pipe."""
    if str(path) == STANDARD:
        if sys.stdin.isatty():
            raise AudioError("- is standard input, and that is a terminal; redirect a file or a pipe into it")
        return
    try:
        found = os.stat(path)  # noqa: PTH116, pathlib hides some errors
    except FileNotFoundError:
        raise AudioError(f"{path} does not exist") from None
    except OSError as error:
        raise AudioError(f"{path} cannot be opened: {reason(error)}") from error
    if stat.S_ISDIR(found.st_mode):
        raise AudioError(f"{path} is a directory; give one file (a loop in the shell does many)")


def input_of(path: str | Path) -> Source:
    """What a reader takes. Raises AudioError as `check_input` does, and where an address gives no file."""
    if is_address(path):
        return open_address(str(path))
    check_input(path)
    return sys.stdin.buffer if str(path) == STANDARD else path


def output_format(path: str, known: Sequence[str], asked: str | None = None) -> str:
    """The format of an output: as asked, by its extension, or for what needs none (-, a pipe, a device) the first one.

    Raises AudioError for an extension that says nothing, InputError for one that says something else.
    """
    named = Path(path).suffix.lower().removeprefix(".")
    if named in known and path != STANDARD:
        if asked not in (None, named):
            raise InputError(f"--format {asked} for {path}; leave --format out or give a name that ends in .{asked}")
        return named
    if asked is None and path != STANDARD and not _is_special(path):
        return suffix_format(path, known)
    return asked or known[0]


def new_output(
    path: str | Path, force: bool, sources: "Sequence[Source | SourceFile | None]" = (), *, numbered: bool = False
) -> NewFile:
    """The file to be written. Raises AudioError where there cannot be one, or is one already and force is False.

    sources: what must not be overwritten. numbered: take another name instead of refusing or replacing.
    """
    if str(path) == STANDARD:
        if sys.stdout.isatty():
            raise AudioError("- is standard output, and that is a terminal; redirect it to a file or a pipe")
        return NewFile(sys.stdout.buffer, sources=[source for source in sources if source])
    existing: Existing = "number" if numbered else "replace" if force else "refuse"
    return NewFile(path, existing, [source for source in sources if source])


def check_folder(folder: Path, pattern: str, what: str, force: bool) -> None:
    """Raises AudioError where a folder that is to be written holds `what`, files of the pattern, and force is False."""
    if not force and any(folder.glob(pattern)):
        raise AudioError(f"{folder} holds {what} already; give another folder, or --force to replace it")


def takes_stdout(path: str | Path | None) -> bool:
    """Whether what is written there goes to standard output, as with /dev/stdout."""
    if path is None:
        return False
    if str(path) == STANDARD:
        return True
    try:
        there, out = os.stat(path), os.fstat(sys.stdout.fileno())  # noqa: PTH116
        return os.path.samestat(there, out) and not os.path.samestat(out, os.stat(os.devnull))  # noqa: PTH116
    except (OSError, ValueError):
        return False


def _is_special(path: str) -> bool:
    """A pipe, a device, a directory (which is refused with another sentence): not the place for an extension."""
    try:
        return not stat.S_ISREG(os.stat(path).st_mode) or path.startswith(("/dev/", "/proc/"))  # noqa: PTH116
    except OSError:
        return False
