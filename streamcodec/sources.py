"""Files to be read: a path, a pipe or an open file, brought to one form."""

import contextlib
import io
import os
import shutil
import stat
import tempfile
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from .errors import AudioError

__all__ = ["FileReader", "Source", "SourceFile", "reason"]

Reader = TypeVar("Reader", bound="FileReader")
Source = str | os.PathLike[str] | BinaryIO


def reason(error: BaseException) -> str:
    """What went wrong, in the operating system's own words where they are known."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__


class FileReader:
    """Reads an open file; in a `with` statement closed where its block ends."""

    _source: "SourceFile"

    def __enter__(self: Reader) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close what the reader opened; may be called again."""
        self._source.close()


class SourceFile:
    """A file to be read, that can seek and is at its beginning; and what messages call it.

    source: a path; or a file object opened to read bytes, such as ``sys.stdin.buffer``, which is read from where it is
        and left open. What cannot seek, such as a pipe, is first copied to a temporary file, and takes as much disk as
        it holds.

    In a `with` statement closed where its block ends. Raises AudioError where there is nothing to be read.
    """

    file: BinaryIO
    name: str
    """The path, or the file object's name."""

    def __init__(self, source: Source) -> None:
        self._opened = contextlib.ExitStack()
        if isinstance(source, (str, os.PathLike)):
            self.name = str(Path(source))
            file = self._opened.enter_context(_open_path(Path(source)))
        elif isinstance(source, io.TextIOBase) or not hasattr(source, "read"):
            raise AudioError(f"{source!r} is neither a path nor a file opened to read bytes (such as sys.stdin.buffer)")
        else:
            self.name, file = str(getattr(source, "name", "the file object")), source
        try:
            # What begins later than at 0 is copied, too: libsndfile begins there.
            self.file = self._copied(file) if not file.seekable() or file.tell() else file
        except BaseException:
            self._opened.close()
            raise

    @staticmethod
    def of(source: "Source | SourceFile") -> "SourceFile":
        """What has been opened already, or else opened now."""
        return source if isinstance(source, SourceFile) else SourceFile(source)

    def _copied(self, file: BinaryIO) -> BinaryIO:
        try:
            copy: Any = self._opened.enter_context(tempfile.TemporaryFile())  # noqa: SIM115
            shutil.copyfileobj(file, copy)
            copy.seek(0)
        except OSError as error:
            where = tempfile.gettempdir()
            raise AudioError(f"cannot copy {self.name} to a temporary file in {where}: {reason(error)}") from error
        return copy  # type: ignore[no-any-return]

    def require_content(self) -> None:
        """Raises AudioError where there is not one byte, or the system does not give it."""
        try:
            empty = not self.file.read(1)
            self.file.seek(0)
        except OSError as error:
            raise AudioError(f"{self.name} cannot be read: {reason(error)}") from error
        if empty:
            raise AudioError(f"{self.name} is empty (0 bytes)")

    def __enter__(self) -> "SourceFile":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close what was opened here; may be called again."""
        self._opened.close()


def _open_path(path: Path) -> BinaryIO:
    try:
        if stat.S_ISDIR(os.stat(path).st_mode):  # noqa: PTH116
            raise AudioError(f"{path} is a directory; give a file")
        return path.open("rb")
    except FileNotFoundError:
        raise AudioError(f"{path} does not exist") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise AudioError(f"{path} cannot be opened: {reason(error)}") from error
