"""Which of the formats a file has."""

from pathlib import Path
from typing import Literal, get_args

from ..errors import AudioError
from ..sources import Source, SourceFile

__all__ = ["KINDS", "Kind", "kind_of"]

Kind = Literal["safetensors", "ecdc", "dac", "scx"]
KINDS: tuple[Kind, ...] = get_args(Kind)
"""Each is also the extension of a file to be written, without its dot."""

# A .dac file is what numpy.save writes.
MAGIC: dict[bytes, Kind] = {b"ECDC": "ecdc", b"\x93NUMPY": "dac", b"\xfescx": "scx"}


def kind_of(source: Source | SourceFile) -> Kind:
    """By the first bytes of the file, or where they are those of none of the formats, by its suffix.

    source: a path, or a `SourceFile`, which is at its beginning again afterwards.
    """
    try:
        opened = SourceFile.of(source)
    except AudioError:  # the reader of its kind says why
        return _by_suffix(str(source))
    start = opened.file.read(max(map(len, MAGIC)))
    opened.file.seek(0)
    if opened is not source:
        opened.close()
    return next((kind for magic, kind in MAGIC.items() if start.startswith(magic)), None) or _by_suffix(opened.name)


def _by_suffix(name: str) -> Kind:
    suffix = Path(name).suffix.lower()
    return next((kind for kind in KINDS if suffix == f".{kind}"), "safetensors")
