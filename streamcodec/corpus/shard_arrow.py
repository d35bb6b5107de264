"""Tokens in Arrow and Parquet files: a row an item, with codes as a list of K lists, and a column for each field.

A field that has the name of one of our columns is called ``source_NAME``.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ..codesfile import CodesHeader
from ..errors import AudioError
from .items import Tokens
from .packed import pyarrow

__all__ = ["ArrowShard", "ParquetShard", "write_arrow", "write_parquet"]

OWN = ("key", "codes", "scale", "length", "sample_rate", "silence", "frames")
ROWS = 64  # read at a time for one of them


def _table(items: Sequence[Tokens], header: CodesHeader) -> Any:
    arrow = pyarrow()
    integer = arrow.from_numpy_dtype(items[0].codes.dtype)
    columns = {
        "key": arrow.array([item.key for item in items], arrow.string()),
        "codes": _nested(arrow, items, integer),
        "frames": arrow.array([item.codes.shape[1] for item in items], arrow.int64()),
        "length": arrow.array([item.length for item in items], arrow.int64()),
        "sample_rate": arrow.array([header.sample_rate] * len(items), arrow.int32()),
        "silence": arrow.array([item.silence for item in items], arrow.float32()),
    }
    if items[0].scale is not None:
        columns["scale"] = arrow.array([item.scale for item in items], arrow.list_(arrow.float32()))
    for name in dict.fromkeys(name for item in items for name in item.fields):
        kept = f"source_{name}" if name in OWN else name
        columns[kept] = _column(arrow, [item.fields.get(name) for item in items])
    return arrow.table(columns).replace_schema_metadata(header.metadata() | {"format": "streamcodec-tokens"})


def _nested(arrow: Any, items: Sequence[Tokens], integer: Any) -> Any:
    """[K, T] of each item as a list of K lists, made from the arrays' memory."""
    inner = np.cumsum([0, *(item.codes.shape[1] for item in items for _ in item.codes)], dtype=np.int32)
    outer = np.cumsum([0, *(len(item.codes) for item in items)], dtype=np.int32)
    values = arrow.array(np.concatenate([item.codes.ravel() for item in items]), integer)
    return arrow.ListArray.from_arrays(outer, arrow.ListArray.from_arrays(inner, values))


def _column(arrow: Any, values: list[Any]) -> Any:
    """Of the type that holds them all; text where they are of several, and where none is known."""
    try:
        column = arrow.array(values)
    except (arrow.ArrowInvalid, arrow.ArrowTypeError):
        return arrow.array([None if value is None else str(value) for value in values], arrow.string())
    return column.cast(arrow.string()) if arrow.types.is_null(column.type) else column


def write_parquet(file: BinaryIO, items: Sequence[Tokens], header: CodesHeader) -> None:
    """All items to an open file."""
    pyarrow().parquet.write_table(_table(items, header), file, row_group_size=ROWS)


def write_arrow(file: BinaryIO, items: Sequence[Tokens], header: CodesHeader) -> None:
    """All items to an open file."""
    table = _table(items, header)
    with pyarrow().ipc.new_file(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=ROWS)


def _tokens(row: dict[str, Any], dtype: Any) -> Tokens:
    fields = {name.removeprefix("source_") if name[7:] in OWN else name: row[name] for name in row if name not in OWN}
    scale = None if row.get("scale") is None else np.array(row["scale"], np.float32)
    codes = np.array(row["codes"], dtype)
    return Tokens(row["key"], codes, scale, row["length"], row["silence"], fields)


class _TableShard(ABC):
    """See `formats.Shard`. Rows are read in groups; the last one read is kept."""

    def __init__(self, path: Path) -> None:
        self._arrow = pyarrow()
        self._kept: tuple[int, Any] = (-1, None)
        try:
            self.keys, self.frames, self._schema = self._open(path)
        except self._arrow.ArrowException as error:
            raise AudioError(f"{path} cannot be read as tokens: {error}") from error
        self._dtype = self._schema.field("codes").type.value_type.value_type.to_pandas_dtype()

    @abstractmethod
    def _open(self, path: Path) -> tuple[list[str], list[int], Any]:
        """Keys and numbers of frames of all rows, and the schema."""

    @abstractmethod
    def _group(self, number: int) -> Any:
        """One group of rows."""

    def item(self, row: int) -> Tokens:
        group, row = divmod(row, ROWS)
        if self._kept[0] != group:
            self._kept = (group, self._group(group))
        (found,) = self._kept[1].slice(row, 1).to_pylist()
        return _tokens(found, self._dtype)


class ParquetShard(_TableShard):
    """A Parquet file."""

    def _open(self, path: Path) -> tuple[list[str], list[int], Any]:
        self._file = self._arrow.parquet.ParquetFile(path)
        index = self._file.read(["key", "frames"])
        return index["key"].to_pylist(), index["frames"].to_pylist(), self._file.schema_arrow

    def _group(self, number: int) -> Any:
        return self._file.read_row_group(number)

    def close(self) -> None:
        self._file.close()


class ArrowShard(_TableShard):
    """An Arrow IPC file, mapped into memory."""

    def _open(self, path: Path) -> tuple[list[str], list[int], Any]:
        self._map = self._arrow.memory_map(str(path))
        self._file = self._arrow.ipc.open_file(self._map)
        index = [self._file.get_batch(i).select(["key", "frames"]) for i in range(self._file.num_record_batches)]
        columns = ([value for batch in index for value in batch[name].to_pylist()] for name in ("key", "frames"))
        keys, frames = columns
        return keys, frames, self._file.schema

    def _group(self, number: int) -> Any:
        return self._file.get_batch(number)

    def close(self) -> None:
        self._map.close()
