"""What has been done and is in no shard yet: appended to a file as it comes, so that a kill loses nothing of it.

A record is its length, a checksum, and an item as JSON and arrays. A record that was being written when the process was
killed is cut off when the journal is opened again.
"""

import io
import json
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ..errors import AudioError
from .items import Tokens

__all__ = ["Journal", "read_journal"]

HEAD = struct.Struct("<II")  # bytes of a record, and their CRC-32


class Journal:
    """An open journal. items: what is in it.

    Only one process may have it open. Raises AudioError where another one has.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: BinaryIO = path.open("a+b")
        self._lock()
        self.items, end = _records(self._file)
        self._file.truncate(end)
        self.size = end

    def _lock(self) -> None:
        try:
            import fcntl
        except ModuleNotFoundError:  # Windows
            return
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._file.close()
            raise AudioError(f"{self.path.parent} is being written by another run; wait for it, or end it") from error

    def append(self, item: Tokens) -> None:
        """Add an item; when this returns, a kill no longer loses it."""
        record = _pack(item)
        self._file.write(HEAD.pack(len(record), zlib.crc32(record)) + record)
        self._file.flush()
        self.items.append(item)
        self.size += HEAD.size + len(record)

    def clear(self) -> None:
        """Forget all items: they are in a shard."""
        self._file.truncate(0)
        self._file.flush()
        os.fsync(self._file.fileno())
        self.items, self.size = [], 0

    def close(self) -> None:
        """Close the file, and remove it where nothing is in it."""
        if not self.items:
            self.path.unlink(missing_ok=True)
        self._file.close()


def read_journal(path: Path) -> list[Tokens]:
    """The items of a journal that may be another process's; none where there is no file."""
    try:
        with path.open("rb") as file:
            return _records(file)[0]
    except FileNotFoundError:
        return []


def _records(file: BinaryIO) -> tuple[list[Tokens], int]:
    """The whole records, and where they end."""
    file.seek(0)
    found, end = [], 0
    for record in _checked(file):
        found.append(_unpack(record))
        end += HEAD.size + len(record)
    return found, end


def _checked(file: BinaryIO) -> Iterator[bytes]:
    while len(head := file.read(HEAD.size)) == HEAD.size:
        length, checksum = HEAD.unpack(head)
        record = file.read(length)
        if len(record) < length or zlib.crc32(record) != checksum:
            return
        yield record


def _pack(item: Tokens) -> bytes:
    arrays = {"codes": item.codes} | ({} if item.scale is None else {"scale": item.scale})
    about = {"key": item.key, "length": item.length, "silence": item.silence, "fields": item.fields}
    buffer = io.BytesIO()
    np.savez(buffer, about=np.frombuffer(json.dumps(about).encode(), np.uint8), **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def _unpack(record: bytes) -> Tokens:
    with np.load(io.BytesIO(record), allow_pickle=False) as arrays:
        about: dict[str, Any] = json.loads(arrays["about"].tobytes())
        scale = arrays["scale"] if "scale" in arrays.files else None
        return Tokens(about["key"], arrays["codes"], scale, about["length"], about["silence"], about["fields"])
