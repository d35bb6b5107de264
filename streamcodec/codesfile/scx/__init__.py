"""Codes in a file that grows: written as they come, read meanwhile, sought by time. docs/container.md has the bytes.

- `ScxWriter`, `ScxReader`, `ScxHeader`, `ScxPiece`: the file; they need no torch, but for `ScxPiece.codes`.
- `decode`: its audio, between any two times. `cut`, `join`: parts of files, and several as one.
- `header_of`: the header for a codec's codes. `load`: all of a file's codes at once.
"""

from typing import TYPE_CHECKING, Any

from ...lazy import resolve
from .cutting import cut, join
from .header import ScxHeader
from .reader import Follow, ScxPiece, ScxReader
from .writer import BLOCK_SECONDS, ScxWriter

if TYPE_CHECKING:
    from .decoding import decode
    from .whole import header_of, load

__all__ = [
    "BLOCK_SECONDS",
    "Follow",
    "ScxHeader",
    "ScxPiece",
    "ScxReader",
    "ScxWriter",
    "cut",
    "decode",
    "header_of",
    "join",
    "load",
]

_HOMES = {"decode": "decoding", "header_of": "whole", "load": "whole"}  # these need torch


if not TYPE_CHECKING:  # else a type checker would take every name for one of the package's

    def __getattr__(name: str) -> Any:
        return resolve(__name__, _HOMES, name)
