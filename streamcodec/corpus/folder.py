"""A data set of tokens on disk: `tokens.json` says what it is, `tokens-RANK-NUMBER.FORMAT` hold the items."""

import dataclasses
import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..codesfile import CodesHeader
from ..errors import AudioError, InputError
from ..files import NewFile
from .formats import FORMATS, open_shard
from .items import Tokens
from .journal import Journal, read_journal

__all__ = ["Folder", "ShardWriter", "find_shards"]

ABOUT = "tokens.json"
VERSION = 1
SHARD = re.compile(r"tokens-(\d{4})-(\d{6})\.(\w+)")
JOURNAL = re.compile(r"journal-(\d{4})\.partial")


@dataclass(frozen=True)
class Folder:
    """What a data set is. header: of the codec; format: of its shards; codebooks: of its codes."""

    path: Path
    header: CodesHeader
    format: str
    codebooks: int

    @staticmethod
    def read(path: Path) -> "Folder":
        """Raises AudioError where there is no data set."""
        try:
            about = json.loads((path / ABOUT).read_text(encoding="utf-8"))
            if about["version"] != VERSION or about["format"] not in FORMATS:
                raise AudioError(f"{path / ABOUT} is of version {about['version']}; this streamcodec reads {VERSION}")
            return Folder(path, CodesHeader.parse(about["codec"]), about["format"], int(about["codebooks"]))
        except FileNotFoundError:
            raise AudioError(f"{path} holds no tokens: there is no {ABOUT} in it") from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise AudioError(f"{path / ABOUT} cannot be read: {error}") from error

    def begin(self) -> bool:
        """Write `tokens.json`; whether the folder held this data set already. Raises InputError for another one."""
        self.path.mkdir(parents=True, exist_ok=True)
        if (self.path / ABOUT).exists():
            found = Folder.read(self.path)
            if found != self:
                raise InputError(f"{self.path} holds tokens that were made otherwise: {_difference(found, self)}")
            return True
        if any(SHARD.fullmatch(path.name) for path in self.path.iterdir()):
            raise AudioError(f"{self.path} holds shards of tokens but no {ABOUT}; give another folder")
        about = {"version": VERSION, "format": self.format, "codebooks": self.codebooks}
        write_text(self.path / ABOUT, json.dumps(about | {"codec": self.header.metadata()}, indent=1) + "\n")
        return False

    def journals(self) -> list[Path]:
        """Of runs that are under way, or were broken off."""
        return sorted(path for path in self.path.iterdir() if JOURNAL.fullmatch(path.name))

    def done(self) -> set[str]:
        """The keys of all items that are in shards or journals, whoever wrote them."""
        keys: set[str] = set()
        # First the journals: what goes from there into a shard meanwhile is then found in one of them.
        for path in self.journals():
            keys.update(item.key for item in read_journal(path))
        for path in find_shards(self.path):
            shard = open_shard(path)
            keys.update(shard.keys)
            shard.close()
        return keys


def write_text(path: Path, text: str) -> None:
    """A file that is there whole or not at all."""
    with NewFile(path) as new:
        new.file.write(text.encode())
        new.commit()


def _difference(found: Folder, wanted: Folder) -> str:
    for name in ("format", "codebooks"):
        if getattr(found, name) != getattr(wanted, name):
            return f"{name} is {getattr(found, name)}, not {getattr(wanted, name)}; give another folder"
    for field in dataclasses.fields(CodesHeader):
        values = (getattr(found.header, field.name), getattr(wanted.header, field.name))
        if values[0] != values[1]:
            return f"{field.name} is {values[0]!r}, not {values[1]!r}; give another folder"
    return "give another folder"


def find_shards(path: Path) -> list[Path]:
    """The shards of a data set, in order."""
    return sorted(each for each in path.iterdir() if SHARD.fullmatch(each.name))


class ShardWriter:
    """Collects the items of one rank and writes a shard whenever there are enough.

    shard_bytes, shard_items: of codes and of items, from which on a shard is full.
    """

    def __init__(self, folder: Folder, rank: int, shard_bytes: int, shard_items: int) -> None:
        self.folder, self.rank = folder, rank
        self.limits = (shard_bytes, shard_items)
        self._journal = Journal(folder.path / f"journal-{rank:04d}.partial")
        self._drop_written()

    def _numbers(self) -> Iterator[int]:
        for path in find_shards(self.folder.path):
            match = SHARD.fullmatch(path.name)
            if match is not None and int(match[1]) == self.rank:
                yield int(match[2])

    def _drop_written(self) -> None:
        """A kill may fall between a shard's getting its name and the journal's being cleared."""
        last = max(self._numbers(), default=None)
        if last is None or not self._journal.items:
            return
        shard = open_shard(self.folder.path / self._name(last))
        if shard.keys == [item.key for item in self._journal.items]:
            self._journal.clear()
        shard.close()

    def _name(self, number: int) -> str:
        return f"tokens-{self.rank:04d}-{number:06d}.{self.folder.format}"

    def adopt(self, ranks: int) -> None:
        """Take over what ranks left that are no more: of more ranks than there are now."""
        for path in self.folder.journals():
            match = JOURNAL.fullmatch(path.name)
            if match is None or int(match[1]) < ranks or int(match[1]) % ranks != self.rank:
                continue
            left = ShardWriter(self.folder, int(match[1]), *self.limits)
            left.close()

    def append(self, item: Tokens) -> None:
        """Add an item; when this returns, a kill no longer loses it."""
        self._journal.append(item)
        if self._journal.size >= self.limits[0] or len(self._journal.items) >= self.limits[1]:
            self._write()

    def _write(self) -> None:
        number = max(self._numbers(), default=-1) + 1
        _write_shard(self.folder, self._name(number), self._journal.items)
        self._journal.clear()

    def close(self) -> None:
        """Write what is left."""
        if self._journal.items:
            self._write()
        self._journal.close()

    def abandon(self) -> None:
        """Leave what is not in a shard in the journal, for the next run."""
        self._journal.close()


def _write_shard(folder: Folder, name: str, items: Sequence[Tokens]) -> None:
    with NewFile(folder.path / name, "refuse") as new:
        FORMATS[folder.format].write(new.file, items, folder.header)
        new.file.flush()
        os.fsync(new.file.fileno())
        new.commit()
