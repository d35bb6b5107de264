"""Which of the formats a file has."""

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import os

__all__ = ["Kind", "kind_of"]

Kind = Literal["safetensors", "dac", "ecdc"]

# A .dac file is what numpy.save writes.
MAGIC: dict[bytes, Kind] = {b"ECDC": "ecdc", b"\x93NUMPY": "dac"}
SUFFIXES: dict[str, Kind] = {".dac": "dac", ".ecdc": "ecdc"}


def kind_of(path: "str | os.PathLike[str]", *, look: bool = True) -> Kind:
    """By the first bytes of the file, or where they are those of none of the formats, by its suffix.

    look: False for a file that is to be written, where only the suffix says anything.
    """
    start = b""
    if look and Path(path).is_file():
        # Where it cannot be opened, the reader of its kind says why.
        with contextlib.suppress(OSError), Path(path).open("rb") as file:
            start = file.read(max(map(len, MAGIC)))
    for magic, kind in MAGIC.items():
        if start.startswith(magic):
            return kind
    return SUFFIXES.get(Path(path).suffix.lower(), "safetensors")
