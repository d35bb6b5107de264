"""Codecs for other processes, in a file that each of them maps: so there is one copy of the weights.

Torch's own way to other processes takes room in /dev/shm, of which a container has 64 MiB, and a descriptor for every
tensor. This takes one descriptor, and only until the file is mapped.
"""

import contextlib
import os
import tempfile
from multiprocessing import reduction
from pathlib import Path
from typing import Any

import torch

from ..codecs import Codec
from ..errors import InputError, StreamError
from ..sources import reason

__all__ = ["SharedCodecs"]


class SharedCodecs:
    """Takes codecs in. A process that gets this as an argument takes them out, by `take`.

    The file is in memory where the system has such files (Linux), and else in the folder for temporary files.
    Raises InputError where it cannot be written.
    """

    def __init__(self, codecs: dict[str, Codec]) -> None:
        self._descriptor: int | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        for codec in codecs.values():
            codec.notice_writes()  # else each process would, and write its tables to pages of its own
        try:
            self._path = self._create()
            with open(self._path, "wb") as file:  # noqa: PTH123, as for `_path`
                torch.save(codecs, file)
        except (OSError, RuntimeError) as error:
            self.close()
            fault = error if isinstance(error, OSError) else error.__context__  # torch's writer has one of its own
            if not isinstance(fault, OSError):
                raise
            raise InputError(
                f"the weights cannot be written for the engines' processes: {reason(fault)}; set TMPDIR to a folder "
                "with room for them"
            ) from error

    def _create(self) -> str:
        with contextlib.suppress(AttributeError, OSError):  # other systems do not have it, and Linux may forbid it
            self._descriptor = os.memfd_create("streamcodec-weights")
            return f"/proc/self/fd/{self._descriptor}"
        self._folder = tempfile.TemporaryDirectory(prefix="streamcodec-", ignore_cleanup_errors=True)
        return str(Path(self._folder.name) / "weights")

    def skeletons(self) -> dict[str, Codec]:
        """The codecs with weights that have a shape and no values."""
        return self._load(map_location="meta")

    def take(self) -> dict[str, Codec]:
        """In the other process, once: the codecs, where they were. What it writes to weights it has for itself.

        Raises StreamError where the file cannot be read.
        """
        try:
            return self._load(mmap=True)
        except OSError as error:
            raise StreamError(f"the weights cannot be read: {reason(error)}") from error
        finally:
            self._close_descriptor()

    def close(self) -> None:
        """Remove the file; whoever has mapped it keeps it. Where a mapped file cannot be removed, call it again."""
        self._close_descriptor()
        if self._folder is not None:
            self._folder.cleanup()

    def _load(self, **options: Any) -> dict[str, Codec]:
        # Any class may be named in it: the file is our own, and nobody else can write to it.
        codecs: dict[str, Codec] = torch.load(self._path, weights_only=False, **options)
        return codecs

    def _close_descriptor(self) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def __getstate__(self) -> tuple[str, Any]:
        return self._path, None if self._descriptor is None else reduction.DupFd(self._descriptor)

    def __setstate__(self, state: tuple[str, Any]) -> None:
        self._path, passed = state
        self._descriptor, self._folder = None, None
        if passed is not None:
            self._descriptor = passed.detach()
            self._path = f"/proc/self/fd/{self._descriptor}"
