"""Where recordings come from: folders, lists, manifests, tar shards, Arrow and Parquet data sets, URLs of these."""

import contextlib
import csv
import glob
import io
import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import AudioError, InputError, StreamcodecError
from .items import AUDIO_SUFFIXES, Failure, Item, plain
from .packed import arrow_files, arrow_items, arrow_rows, tar_items
from .remote import find_files, is_url, open_url

__all__ = ["Corpus", "corpus_of"]

# The names of columns that manifests have for these, in the order in which they are looked for.
AUDIO_COLUMNS = ("audio", "audio_filepath", "audio_path", "path", "file", "file_name", "filename", "wav")
KEY_COLUMNS = ("key", "id", "utt_id", "utterance_id")
LISTS = (".txt", ".lst", ".list", ".scp")
TABLES = (".csv", ".tsv")
JSON_LINES = (".jsonl", ".ndjson", ".json")


class Corpus(NamedTuple):
    """items: gives the recordings, anew at each call, and what cannot be one; total: how many, None where nobody knows.

    An item's audio may have to be `loaded` before the next one is taken.
    """

    items: Callable[[], Iterator[Item | Failure]]
    total: int | None


def corpus_of(source: str | Path, audio_column: str | None = None, key_column: str | None = None) -> Corpus:
    """What `source` names.

    source: a folder of audio files, or one with tar shards or a data set in it; a list (.txt) or manifest (.csv, .tsv,
    .jsonl); tar shards or Parquet files, also as a pattern ("shards/*.tar", "shards/{000..015}.tar"); a data set of
    Hugging Face on disk; a URL of any of these. audio_column, key_column: of a manifest or data set, where their names
    are not the usual ones. Raises AudioError where there is nothing to be read, InputError.
    """
    name = str(source)
    name, files = _named(name)
    columns = _Columns(audio_column, key_column)
    kinds = {_suffix(file) for file in files}
    if kinds == {".tar"}:
        return Corpus(lambda: _chained(files, tar_items), None)
    if kinds and kinds <= {".parquet", ".arrow"}:
        return Corpus(lambda: arrow_items(files, columns.audio, columns.key), arrow_rows(files))
    if len(files) == 1 and files[0] == name:
        listed = _listed(name, columns)
        if listed is not None:
            if listed and all(isinstance(each, Failure) for each in listed):
                raise InputError(f"{listed[0].key} {listed[0].reason}")  # type: ignore[union-attr]
            return Corpus(lambda: iter(listed), len(listed))
    audio = [file for file in files if _suffix(file) in AUDIO_SUFFIXES]
    if not audio:
        raise AudioError(f"{name} holds no recordings: {_what_there_is(files)}")
    root = "" if audio == [name] else name.rstrip("/") + "/"
    items = [Item(file.removeprefix(root) if root else file.rsplit("/", 1)[-1], file) for file in audio]
    return Corpus(lambda: iter(items), len(items))


def _what_there_is(files: list[str]) -> str:
    if not files:
        return "there is not one file in it"
    found = ", ".join(sorted({_suffix(file) or "none" for file in files})[:8])
    return (
        f"the suffixes of its {len(files)} files are {found}; audio, .txt, .csv, .tsv, .jsonl, .tar, .parquet and "
        "data sets of Hugging Face on disk can be read"
    )


def _suffix(file: str) -> str:
    return Path(file).suffix.lower()


def _named(name: str) -> tuple[str, list[str]]:
    """A source, and all files that it names, in order. Of a folder with tars or a data set, only those."""
    if re.search(r"[*?]|\{.*\}", name) and not is_url(name) and not Path(name).exists():
        found = sorted(match for pattern in _expanded(name) for match in glob.glob(pattern))  # noqa: PTH207
        if not found:
            raise AudioError(f"{name} matches no file")
        return name, found
    if is_url(name):
        name, files = find_files(name)
        if not files:
            raise AudioError(f"{name} does not exist, or holds nothing")
    elif Path(name).is_dir():
        files = sorted(str(path) for path in Path(name).rglob("*") if path.is_file())
    elif Path(name).exists():
        return name, [name]
    else:
        raise AudioError(f"{name} does not exist")
    packed = arrow_files(files) or [file for file in files if _suffix(file) in (".tar", ".parquet")]
    return name, packed or files


def _expanded(pattern: str) -> list[str]:
    """A pattern with {a,b} and {000..015} written out, as webdataset and shells do it."""
    match = re.search(r"\{([^{}]*)\}", pattern)
    if match is None:
        return [pattern]
    span = re.fullmatch(r"(\d+)\.\.(\d+)", match[1])
    if span is None:
        choices = match[1].split(",")
    else:
        choices = [str(n).zfill(len(span[1])) for n in range(int(span[1]), int(span[2]) + 1)]
    return [
        each for choice in choices for each in _expanded(pattern[: match.start()] + choice + pattern[match.end() :])
    ]


def _chained(files: list[str], read: Callable[[str], Iterator[Item]]) -> Iterator[Item | Failure]:
    """The items of each file; where one is damaged, what stands before the damage and a word on it."""
    for file in files:
        try:
            yield from read(file)
        except (StreamcodecError, OSError) as error:
            yield Failure(file, str(error))


class _Columns(NamedTuple):
    """Names that the caller gave, or None."""

    audio: str | None
    key: str | None

    def item(self, row: Mapping[str, Any], root: str) -> Item:
        """A row of a manifest. Raises InputError where it names no audio."""
        audio = self._first(row, self.audio, AUDIO_COLUMNS)
        if audio is None or not isinstance(row[audio], str) or not row[audio]:
            raise InputError(f"no audio is named: the columns are {', '.join(map(str, row))}; say which it is")
        path = row[audio]
        key = self._first(row, self.key, KEY_COLUMNS)
        start, seconds = _number(row, "offset") or 0.0, _number(row, "duration")
        whole = "offset" not in row  # a duration alone tells how long the recording is, and cuts nothing
        name = str(row[key]) if key is not None else path if whole else f"{path}#{start:g}"
        fields = plain({column: value for column, value in row.items() if column not in (audio, key)})
        absolute = is_url(path) or Path(path).is_absolute()
        return Item(name, path if absolute else f"{root}{path}", fields, start, None if whole else seconds)

    def _first(self, row: Mapping[str, Any], asked: str | None, usual: tuple[str, ...]) -> str | None:
        return next((name for name in ([asked] if asked else usual) if name in row), None)


def _number(row: Mapping[str, Any], column: str) -> float | None:
    value = row.get(column)
    if value is None or value == "":
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise InputError(f"{column} is {value!r}; it must be a number of seconds") from None
    if not 0 <= number < float("inf"):
        raise InputError(f"{column} is {value!r}; it must be a number of seconds, at least 0")
    return number


def _listed(name: str, columns: _Columns) -> list[Item | Failure] | None:
    """The items of a list or manifest; None for another kind of file."""
    suffix = _suffix(name)
    if suffix not in (*LISTS, *TABLES, *JSON_LINES):
        return None
    root = name[: name.rfind("/") + 1]
    with _text(name) as file:
        return list(_rows(file, suffix, name, root, columns))


def _rows(file: Any, suffix: str, name: str, root: str, columns: _Columns) -> Iterator[Item | Failure]:
    if suffix in TABLES:
        table = csv.DictReader(file, delimiter="\t" if suffix == ".tsv" else ",")
        rows: Iterator[tuple[int, Any]] = ((table.line_num, {k: v for k, v in row.items() if k}) for row in table)
    else:
        lines = ((number, line.rstrip("\r\n")) for number, line in enumerate(file, 1) if line.strip())
        rows = ((number, {"audio": line} if suffix in LISTS else line) for number, line in lines)
        columns = columns._replace(audio="audio", key=None) if suffix in LISTS else columns
    for number, row in rows:
        try:
            yield columns.item(_object(row), root)
        except InputError as error:
            yield Failure(f"{name}, line {number}:", str(error))


def _object(row: Any) -> dict[str, Any]:
    """A row as it is, or the JSON object of a line."""
    try:
        found = json.loads(row) if isinstance(row, str) else row
    except ValueError as error:
        raise InputError(f"this is no JSON: {error}") from error
    if not isinstance(found, dict):
        raise InputError(f"a {type(found).__name__}; each line must be one JSON object")
    return found


@contextlib.contextmanager
def _text(name: str) -> Iterator[Any]:
    """A text file, local or behind a URL. Raises AudioError where it is no UTF-8."""
    try:
        if is_url(name):
            with open_url(name) as file:
                yield io.TextIOWrapper(file, "utf-8-sig", newline="")
        else:
            with Path(name).open(encoding="utf-8-sig", newline="") as text:
                yield text
    except UnicodeDecodeError as error:
        raise AudioError(f"{name} is no UTF-8 text: {error}") from error
