"""Recordings inside of larger files: tar shards as webdataset writes them, and Arrow and Parquet as `datasets` does."""

import contextlib
import json
import tarfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from ..errors import AudioError, InputError, MissingPackageError
from ..install import how_to_install
from .items import AUDIO_SUFFIXES, Failure, Item, plain
from .remote import is_url, open_url

__all__ = ["arrow_files", "arrow_items", "arrow_rows", "check_end", "pyarrow", "tar_items"]


@contextlib.contextmanager
def _opened(name: str) -> Iterator[BinaryIO]:
    with open_url(name) if is_url(name) else Path(name).open("rb") as file:
        yield file


# -- tar ---------------------------------------------------------------------------------------------------------------


def tar_items(name: str) -> Iterator[Item]:
    """The samples of a tar shard: members that follow each other and share what stands before the first dot.

    One of them is audio; texts and numbers are fields under their suffixes, and those of a .json under its own names.
    Raises AudioError for a file that is no tar, or is cut short.
    """
    try:
        with _opened(name) as file, tarfile.open(fileobj=file, mode="r:") as tar:
            group: list[tarfile.TarInfo] = []
            for member in tar:
                if not member.isfile():
                    continue
                if group and _stem(group[0].name) != _stem(member.name):
                    yield from _sample(tar, group)
                    group = []
                group.append(member)
            check_end(tar, file)  # first: of a sample that is cut short, the text may be missing
            yield from _sample(tar, group)
    except (tarfile.TarError, EOFError) as error:
        raise AudioError(f"{name} cannot be read as a tar file: {error}") from error


def check_end(tar: tarfile.TarFile, file: BinaryIO) -> None:
    """Raises tarfile.ReadError where a tar file whose members have all been met ends before its end mark."""
    file.seek(tar.offset)
    if file.read(512) != bytes(512):
        raise tarfile.ReadError("it is cut short")


def _stem(name: str) -> str:
    folder, _, last = name.rpartition("/")
    return f"{folder}/{last.split('.')[0]}" if folder else last.split(".")[0]


def _sample(tar: tarfile.TarFile, group: list[tarfile.TarInfo]) -> Iterator[Item]:
    audio = [member for member in group if Path(member.name).suffix.lower() in AUDIO_SUFFIXES]
    if not audio:
        return
    fields: dict[str, Any] = {}
    for member in group:
        suffix = member.name[len(_stem(member.name)) + 1 :]
        if suffix.lower() in ("json", "txt", "text", "cls"):
            content = _read(tar, member).decode("utf-8", "replace")
            found = _json(content) if suffix.lower() == "json" else None
            fields |= found if found is not None else {suffix: content}
    yield Item(_stem(group[0].name), partial(_read, tar, audio[0]), plain(fields))


def _json(content: str) -> dict[str, Any] | None:
    with contextlib.suppress(ValueError):
        value = json.loads(content)
        return value if isinstance(value, dict) else None
    return None


def _read(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(member)
    return b"" if file is None else file.read()


# -- Arrow and Parquet -------------------------------------------------------------------------------------------------


def pyarrow() -> Any:
    """The package. Raises MissingPackageError."""
    try:
        import pyarrow
        import pyarrow.ipc
        import pyarrow.parquet
    except ModuleNotFoundError as error:
        raise MissingPackageError(
            f"pyarrow is missing, which Arrow and Parquet need; install it with: {how_to_install('corpus')}",
            name="pyarrow",
        ) from error
    return pyarrow


def arrow_files(files: list[str]) -> list[str]:
    """Those of a folder that are a data set of Hugging Face (`save_to_disk`), in the order of its own list."""
    states = [file for file in files if Path(file).name == "state.json"]
    found = []
    for state in sorted(states):
        root = state[: -len("state.json")]
        try:
            with _opened(state) as file:
                found += [root + entry["filename"] for entry in json.load(file)["_data_files"]]
        except (ValueError, KeyError, TypeError):
            continue  # another program's
    return found


def arrow_rows(files: list[str]) -> int | None:
    """Rows of Parquet files, which say so in their footers; None where there are others."""
    arrow = pyarrow()
    if any(is_url(file) or not file.endswith(".parquet") for file in files):
        return None
    return sum(arrow.parquet.read_metadata(file).num_rows for file in files)


def arrow_items(files: list[str], audio_column: str | None, key_column: str | None) -> Iterator[Item | Failure]:
    """The rows of Arrow or Parquet files, and a word on those that cannot be read. Raises InputError for no audio."""
    arrow = pyarrow()
    place = 0
    for name in files:
        try:
            with _opened(name) as file:
                for batch in _batches(arrow, name, file):
                    audio = _audio_column(arrow, batch.schema, audio_column, name)
                    for row in batch.to_pylist():
                        yield _row(row, audio, key_column, place, name[: name.rfind("/") + 1])
                        place += 1
        except (arrow.ArrowException, OSError) as error:
            yield Failure(name, f"cannot be read as {Path(name).suffix[1:]}: {error}")


def _batches(arrow: Any, name: str, file: BinaryIO) -> Iterator[Any]:
    if name.endswith(".parquet"):
        yield from arrow.parquet.ParquetFile(file).iter_batches(batch_size=16)
        return
    head = file.read(6)
    file.seek(0)
    if head == b"ARROW1":
        reader = arrow.ipc.open_file(file)
        batches = (reader.get_batch(i) for i in range(reader.num_record_batches))
    else:
        batches = iter(arrow.ipc.open_stream(file))
    for batch in batches:
        yield from (batch.slice(first, 16) for first in range(0, batch.num_rows, 16))


def _audio_column(arrow: Any, schema: Any, asked: str | None, name: str) -> str:
    """The one asked for, or the first that holds audio files: {bytes, path}, as `datasets.Audio` writes them."""
    if asked is not None:
        if asked not in schema.names:
            raise InputError(f"{name} has no column {asked!r}; there are {', '.join(schema.names)}")
        return asked
    for column in schema:
        kind = column.type
        if arrow.types.is_struct(kind) and {"bytes", "path"} <= {kind.field(i).name for i in range(kind.num_fields)}:
            return str(column.name)
    raise InputError(f"{name} has no column of audio files; say which it is: there are {', '.join(schema.names)}")


def _row(row: dict[str, Any], audio: str, key_column: str | None, place: int, root: str) -> Item:
    found = row.pop(audio)
    data = found if isinstance(found, (bytes, str)) else (found or {}).get("bytes") or (found or {}).get("path") or b""
    path = "" if not isinstance(found, dict) else found.get("path") or ""
    key = next(
        (str(row[name]) for name in ([key_column] if key_column else ("key", "id")) if row.get(name) is not None), ""
    )
    if isinstance(data, str) and not is_url(data) and not Path(data).is_absolute():
        data = f"{root}{data}"
    fields = {name: value for name, value in row.items() if name != key_column}
    if path:
        fields.setdefault("path", path)
    return Item(key or f"{place:09d}", data, plain(fields))
