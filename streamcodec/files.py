"""Files to be written, that appear under their names when they are complete.

A name that leads to a device, a pipe or a descriptor (``/dev/stdout``, ``>(command)``) is written to, never replaced.
"""

import abc
import contextlib
import io
import itertools
import os
import re
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import IO, Any, BinaryIO, Literal, TypeVar

from .errors import AudioError
from .sources import Source, SourceFile, reason

__all__ = ["Existing", "FileWriter", "GrowingFile", "NewFile", "Output", "suffix_format"]

Existing = Literal["replace", "refuse", "number"]

FIRST_NUMBER = 2  # out.wav is the first of them; out-2.wav follows


def suffix_format(path: Source, known: Iterable[str]) -> str:
    """The format that a path's extension names, such as "wav". Raises AudioError for one that is not known."""
    suffix = Path(path).suffix if isinstance(path, (str, os.PathLike)) else ""
    if (name := suffix.lower().removeprefix(".")) in known:
        return name
    names = [f".{name}" for name in known]
    allowed = f"the known ones are {', '.join(names)}" if len(names) > 1 else f"it must be {names[0]}"
    raise AudioError(f"{path} has the extension {suffix!r}; {allowed}")


New = TypeVar("New", bound="NewFile")


class NewFile:
    """A file that takes its name only when it is complete: written as `file`, a hidden one beside it, then renamed.

    output: a path; or a file object opened to write bytes, such as ``sys.stdout.buffer``, which is left open. A path
        that leads to a device, a pipe or a descriptor, and a file object, get a copy of what was written, at the end.
    existing: what happens where there is such a file already: "replace" it (it keeps its mode, and a link keeps
        pointing to it), "refuse", or "number" the new one: out-2.wav, out-3.wav.
    sources: what the file is made from. It must be none of them, by whatever name.

    In a `with` statement nothing is left behind unless `commit` was called. Raises AudioError, before anything is
    written, where there cannot be such a file.
    """

    file: BinaryIO
    """What is to be written: can seek, and can be read."""
    path: Path
    """The file's name, or that of the file object."""
    directory: Path
    """Where temporary files for its content may lie."""

    def __init__(
        self, output: Source, existing: Existing = "replace", sources: "Iterable[Source | SourceFile]" = ()
    ) -> None:
        self._existing = existing
        self._partial: Path | None = None
        self._sink: IO[bytes] | None = None
        self._open_sink = contextlib.ExitStack()
        if isinstance(output, (str, os.PathLike)):
            self.path = Path(output)
        elif isinstance(output, io.TextIOBase) or not hasattr(output, "write"):
            raise AudioError(f"{output!r} is neither a path nor a file opened to write bytes")
        else:
            self.path, self._sink = Path(str(getattr(output, "name", "a file object"))), output
        try:
            self._open(sources)
        except (OSError, ValueError) as error:  # ValueError: a NUL in the name
            self.discard()
            raise AudioError(f"cannot write {self.path}: {reason(error)}") from error
        except BaseException:
            self.discard()
            raise

    def __enter__(self: "New") -> "New":
        return self

    def __exit__(self, *_: object) -> None:
        self.discard()

    def _open(self, sources: "Iterable[Source | SourceFile]") -> None:
        if self._sink is None:
            descriptor = _descriptor(self.path)
            if descriptor is not None:  # not opened anew: that would cut a file short, and lose its place
                os.write(descriptor, b"")  # raises where it is open for reading only
                self._sink = self._open_sink.enter_context(os.fdopen(os.dup(descriptor), "wb"))
            elif self._existing == "number" and os.path.lexists(self.path):
                self.path = _next_free(self.path)
        target = Path(os.path.realpath(self.path))  # a link keeps pointing to the file that is replaced
        found = _status(target if self._sink is None else self._sink)
        if found is not None:
            self._refuse(found, sources)
            if self._sink is None and not stat.S_ISREG(found.st_mode):
                self._sink = self._open_sink.enter_context(os.fdopen(os.open(target, os.O_WRONLY), "wb"))
        if self._sink is not None:
            self.directory = Path(tempfile.gettempdir())
            self._hand_on(self._sink)
            return
        if not target.parent.is_dir():
            raise AudioError(f"cannot write {self.path}: the directory {target.parent} does not exist")
        self._target, self.directory = target, target.parent
        self._place(target, found)

    def _hand_on(self, sink: IO[bytes]) -> None:
        """What is written goes there at the end."""
        self.file = tempfile.TemporaryFile()  # type: ignore[assignment]  # noqa: SIM115, closed by discard

    def _place(self, target: Path, found: os.stat_result | None) -> None:
        """What is written takes the name `target` at the end."""
        # Not named after the file: its own name may be as long as names can be.
        self._partial = target.with_name(f".streamcodec-{secrets.token_hex(8)}.part")
        mode = 0o666 if found is None else 0o600
        self.file = open(self._partial, "x+b", opener=lambda path, flags: os.open(path, flags, mode))  # noqa: SIM115
        if found is not None:
            self._keep_owner_and_mode(found)

    def _refuse(self, found: os.stat_result, sources: "Iterable[Source | SourceFile]") -> None:
        kind = found.st_mode
        if stat.S_ISDIR(kind):
            raise AudioError(f"{self.path} is a directory; give a file name")
        if stat.S_ISBLK(kind) or (stat.S_ISSOCK(kind) and self._sink is None):
            raise AudioError(f"{self.path} is a {'disk' if stat.S_ISBLK(kind) else 'socket'}; give a file name")
        if not stat.S_ISREG(kind):
            return
        if any(_is_file(source, found) for source in sources):
            raise AudioError(f"{self.path} is the file that is read; give the result another name")
        if self._existing == "refuse" and self._sink is None:
            raise AudioError(f"{self.path} exists; give another name, or --force to replace it")

    def _keep_owner_and_mode(self, found: os.stat_result) -> None:
        assert self._partial is not None
        if hasattr(os, "chown"):
            with contextlib.suppress(OSError):  # only root may give files away
                os.chown(self._partial, found.st_uid, found.st_gid)
        self._partial.chmod(stat.S_IMODE(found.st_mode))

    def sync(self) -> None:
        """Nobody reads the file yet."""

    def commit(self) -> None:
        """Give the file its name, or hand its content on. Raises OSError, and AudioError where the name was taken."""
        if self._sink is not None:
            self.file.seek(0)
            shutil.copyfileobj(self.file, self._sink)
            self._sink.flush()
        else:
            self.file.close()
            while not self._named():
                self.path = self._target = _next_free(self.path)
        self.discard()

    def _named(self) -> bool:
        """Rename; False where another file took the name meanwhile and this one is to be numbered."""
        assert self._partial is not None
        if self._existing == "replace":
            self._partial.replace(self._target)
            return True
        try:
            os.link(self._partial, self._target)  # unlike a rename it replaces nothing
        except FileExistsError:
            if self._existing == "refuse":
                raise AudioError(f"{self.path} has come to exist meanwhile, and is left as it is") from None
            return False
        except OSError:  # a file system without links
            if self._target.exists():
                raise
            self._partial.replace(self._target)
        return True

    def discard(self) -> None:
        """Remove what was written; does nothing after `commit`."""
        with contextlib.suppress(AttributeError, OSError):  # none was opened; the disk is full
            self.file.close()
        with contextlib.suppress(OSError):
            self._open_sink.close()
        if self._partial is not None:
            with contextlib.suppress(OSError):
                self._partial.unlink(missing_ok=True)


class GrowingFile(NewFile):
    """A file that is there under its name from its first byte on, for others to read while it is written.

    output: a path, or a file object opened to write bytes, which is written to at once and left open. existing: as for
    `NewFile`, or "append": what is there stays, `file` is at its beginning and can be read, and nobody else may write
    it meanwhile. `discard` keeps what was written.
    """

    def __init__(
        self, output: Source, existing: Existing | Literal["append"] = "replace",
        sources: "Iterable[Source | SourceFile]" = (),
    ) -> None:  # fmt: skip
        self.appends = existing == "append"
        """Whether what was there before is kept."""
        super().__init__(output, "replace" if existing == "append" else existing, sources)

    def _place(self, target: Path, found: os.stat_result | None) -> None:
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0)
        if self._existing != "replace":
            flags |= os.O_EXCL
        # Unbuffered: what is written is there for who reads, and whole at a crash of this program.
        file: Any = open(target, "r+b", buffering=0, opener=lambda path, _: os.open(path, flags, 0o666))  # noqa: SIM115
        _lock(file, self.path)
        self.file = file
        if not self.appends:
            self.file.truncate()

    def _hand_on(self, sink: IO[bytes]) -> None:
        self.file = sink  # type: ignore[assignment]

    def sync(self) -> None:
        """See to it that what was written is on the disk, where there is one."""
        self.file.flush()
        with contextlib.suppress(OSError, ValueError, AttributeError):  # a pipe, or what has no descriptor
            os.fsync(self.file.fileno())

    def commit(self) -> None:
        """The file is complete. Raises OSError."""
        self.sync()
        self.discard()

    def discard(self) -> None:
        """Close the file; what was written stays, and a file without a byte goes."""
        if self._sink is None:
            if hasattr(self, "file") and not self.file.closed and not self.file.seek(0, 2):
                self._target.unlink(missing_ok=True)
            super().discard()
        else:
            with contextlib.suppress(OSError):
                self._open_sink.close()


def _lock(file: IO[bytes], path: Path) -> None:
    """Raises AudioError where another program writes the file now."""
    try:
        import fcntl
    except ImportError:  # Windows
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise AudioError(f"{path} is being written by another program; give another name") from None
    except OSError:  # a file system without locks
        pass


Output = Source | NewFile


def _descriptor(path: Path) -> int | None:
    """The descriptor of this process that a path such as /dev/stdout or /dev/fd/63 stands for."""
    own = ("/dev/fd", f"/proc/{os.getpid()}/fd")
    name = str(path)
    for _ in range(40):  # as many links as Linux follows
        folder, last = os.path.split(name)
        if os.path.realpath(folder) in own and re.fullmatch(r"\d+", last):
            return int(last)
        if not os.path.islink(name):  # noqa: PTH114, pathlib raises for names that are too long
            return None
        name = os.path.join(folder, os.readlink(name))  # noqa: PTH115, PTH118
    return None


def _status(file: Source | SourceFile | IO[bytes]) -> os.stat_result | None:
    """Of a path or an open file; None where there is no such thing. Raises OSError where that cannot be known."""
    file = file.file if isinstance(file, SourceFile) else file
    try:
        if isinstance(file, (str, os.PathLike)):
            return os.stat(file)  # noqa: PTH116
        return os.fstat(file.fileno())
    except (FileNotFoundError, io.UnsupportedOperation, AttributeError):
        return None


def _is_file(source: Source | SourceFile, found: os.stat_result) -> bool:
    with contextlib.suppress(OSError):  # what cannot be looked at is no file that was opened
        status = _status(source)
        return status is not None and os.path.samestat(status, found)
    return False


def _next_free(path: Path) -> Path:
    """out.wav, or out-2.wav, out-3.wav and so on where there is one."""
    name = re.sub(r"-\d+$", "", path.stem)
    names = (path.with_name(f"{name}-{number}{path.suffix}") for number in itertools.count(FIRST_NUMBER))
    return next(free for free in names if not os.path.lexists(free))


Writer = TypeVar("Writer", bound="FileWriter")


class FileWriter(abc.ABC):
    """Writes a `NewFile`; in a `with` statement closed where its block ends, aborted where an exception ends it."""

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

    @property
    def path(self) -> Path:
        """The file's name."""
        return self._new.path

    @property
    def directory(self) -> Path:
        """Where temporary files for its content may lie."""
        return self._new.directory

    def _begin(self, output: Output) -> None:
        self._new = output if isinstance(output, NewFile) else NewFile(output)

    def close(self) -> None:
        """Finish the file and give it its name. Raises AudioError, and then leaves no file."""
        try:
            self._finish()
            self._new.commit()
        except BrokenPipeError:  # whoever read it has left: no fault of the file
            raise
        except OSError as error:
            raise self._failed(error) from error
        finally:
            self.abort()

    def _failed(self, error: BaseException) -> AudioError:
        return AudioError(f"cannot write {self.path}: {reason(error)}")

    def abort(self) -> None:
        """Leave no file; does nothing after `close`."""
        self._new.discard()

    @abc.abstractmethod
    def _finish(self) -> None:
        """Write what is still to be written. Raises OSError, or AudioError where there is nothing to write."""
