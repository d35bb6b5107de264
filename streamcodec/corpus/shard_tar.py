"""Tokens in a tar file, as webdataset reads them: `NAME.codes.npy` [K, T], `NAME.scale.npy` [T] and `NAME.json`.

A name is the item's key with "%" for what would end it there (".") and for "%" itself; the key as it is stands in the
JSON, with length, sample rate, silence and the item's fields.
"""

import io
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ..codesfile import CodesHeader
from ..errors import AudioError
from .items import Tokens
from .packed import check_end

__all__ = ["TarShard", "write_tar"]


def write_tar(file: BinaryIO, items: Sequence[Tokens], header: CodesHeader) -> None:
    """All items to an open file."""
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for item in items:
            name = item.key.replace("%", "%25").replace(".", "%2E").lstrip("/")
            known = {"length": item.length, "sample_rate": header.sample_rate, "silence": item.silence}
            about = {"key": item.key, **known, "fields": item.fields}
            _add(tar, f"{name}.codes.npy", _npy(item.codes))
            if item.scale is not None:
                _add(tar, f"{name}.scale.npy", _npy(item.scale))
            _add(tar, f"{name}.json", json.dumps(about, ensure_ascii=False).encode())


def _npy(array: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(array), allow_pickle=False)
    return buffer.getvalue()


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


class TarShard:
    """See `formats.Shard`. What lies where is found once, from the headers of the members and the JSON of each item."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        self._members: list[dict[str, tuple[int, int]]] = []
        self._about: list[dict[str, Any]] = []
        self.frames: list[int] = []
        group: dict[str, tuple[int, int]] = {}
        try:
            with tarfile.open(fileobj=self._file, mode="r:") as tar:
                for member in tar:
                    part = member.name.rsplit("/", 1)[-1].split(".", 1)[1]
                    group[part] = (member.offset_data, member.size)
                    if part == "json":  # the last one of an item
                        self._members.append(group)
                        group = {}
                check_end(tar, self._file)
        except tarfile.TarError as error:
            raise AudioError(f"{path} cannot be read as tokens: {error}") from error
        for group in self._members:
            self._about.append(json.loads(self._read(group["json"])))
            self.frames.append(_shape(io.BytesIO(self._read(group["codes.npy"], 256)))[1])
        self.keys: list[str] = [about["key"] for about in self._about]

    def _read(self, place: tuple[int, int], most: int | None = None) -> bytes:
        self._file.seek(place[0])
        return self._file.read(place[1] if most is None else min(most, place[1]))

    def _array(self, place: tuple[int, int]) -> Any:
        return np.load(io.BytesIO(self._read(place)), allow_pickle=False)

    def item(self, row: int) -> Tokens:
        group, about = self._members[row], self._about[row]
        scale = self._array(group["scale.npy"]) if "scale.npy" in group else None
        codes = self._array(group["codes.npy"])
        return Tokens(about["key"], codes, scale, about["length"], about["silence"], about["fields"])

    def close(self) -> None:
        self._file.close()


def _shape(file: BinaryIO) -> tuple[int, ...]:
    """Of an array in NumPy's own format, from its header."""
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape: tuple[int, ...] = read(file)[0]
    return shape
