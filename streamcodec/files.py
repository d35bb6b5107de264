"""Files that appear under their names when complete, and readers and writers that a `with` statement closes."""

import abc
import secrets
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from .errors import AudioError

if TYPE_CHECKING:
    import os

__all__ = ["FileReader", "FileWriter", "NewFile"]

Reader = TypeVar("Reader", bound="FileReader")


class FileReader:
    """Reads an open file; in a `with` statement closed where its block ends."""

    _file: Any

    def __enter__(self: Reader) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; may be called again."""
        self._file.close()


class NewFile:
    """A file that takes its name only when it is complete: written as `partial` beside it, then renamed.

    Raises AudioError if there is no directory to write it to.
    """

    def __init__(self, path: "str | os.PathLike[str]") -> None:
        self.path = Path(path)
        target = self.path.resolve()  # a link keeps pointing to the file that is replaced
        if target.is_dir():
            raise AudioError(f"{self.path} is a directory; give a file name")
        if not target.parent.is_dir():
            raise AudioError(f"cannot write {self.path}: the directory {target.parent} does not exist")
        self._target = target
        self.partial = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")

    def commit(self) -> None:
        """Give the file its name, in place of any file that had it."""
        self.partial.replace(self._target)

    def discard(self) -> None:
        """Remove what was written; does nothing after `commit`."""
        self.partial.unlink(missing_ok=True)


Writer = TypeVar("Writer", bound="FileWriter")


class FileWriter(abc.ABC):
    """Writes a `NewFile`; in a `with` statement closed where its block ends, aborted where an exception ends it."""

    path: Path
    _new: NewFile

    def __enter__(self: Writer) -> Writer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()

    def close(self) -> None:
        """Finish the file and give it its name. Raises AudioError, and then leaves no file."""
        try:
            self._finish()
            self._new.commit()
        except OSError as error:
            raise AudioError(f"cannot write {self.path}: {error}") from error
        finally:
            self.abort()

    def abort(self) -> None:
        """Leave no file; does nothing after `close`."""
        self._new.discard()

    @abc.abstractmethod
    def _finish(self) -> None:
        """Write what is still to be written. Raises OSError, or AudioError where there is nothing to write."""
