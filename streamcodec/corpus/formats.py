"""The files that a data set of tokens is made of: each holds some thousand items and can be read at any of them."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple, Protocol

from ..codesfile import CodesHeader
from ..errors import AudioError
from .items import Tokens
from .shard_arrow import ArrowShard, ParquetShard, write_arrow, write_parquet
from .shard_safetensors import SafetensorsShard, write_safetensors
from .shard_tar import TarShard, write_tar

__all__ = ["FORMATS", "Format", "Shard", "open_shard"]


class Shard(Protocol):
    """A file of a data set, open to be read. keys, frames: of its items, in order."""

    keys: list[str]
    frames: list[int]

    def item(self, row: int) -> Tokens:
        """One of its items."""

    def close(self) -> None:
        """Close the file."""


class Format(NamedTuple):
    """write: all items of a shard to an open file; read: a path to the shard."""

    write: Callable[[BinaryIO, Sequence[Tokens], CodesHeader], None]
    read: Callable[[Path], Shard]


# By the suffix of the files.
FORMATS: Mapping[str, Format] = {
    "safetensors": Format(write_safetensors, SafetensorsShard),
    "tar": Format(write_tar, TarShard),
    "parquet": Format(write_parquet, ParquetShard),
    "arrow": Format(write_arrow, ArrowShard),
}


def open_shard(path: Path) -> Shard:
    """Raises AudioError where it cannot be read."""
    try:
        return FORMATS[path.suffix[1:]].read(path)
    except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
        raise AudioError(f"{path} cannot be read as tokens: {error}") from error
