"""Codes in files: our own format, and those of the EnCodec and DAC commands.

- `load_codes`, `save_codes`: a file at once.
- `CodesWriter`, `CodesReader`: safetensors, any codec.
- `EcdcWriter`, `EcdcReader`: EnCodec's ``.ecdc``; `EncodecLM`: the language model that it may be coded with.
- `DacWriter`, `DacReader`: DAC's ``.dac``.

The first needs no torch, where its codes are taken and given as NumPy arrays: `CodesBlock`.
"""

from typing import TYPE_CHECKING, Any

from ..lazy import resolve
from .kinds import KINDS, kind_of
from .safetensors_file import CodesBlock, CodesHeader, CodesReader, CodesWriter

if TYPE_CHECKING:
    from .dac import DacFile, DacReader, DacWriter
    from .ecdc import EcdcReader, EcdcWriter
    from .ecdc_lm import EncodecLM
    from .whole import load_codes, save_codes

__all__ = [
    "KINDS",
    "CodesBlock",
    "CodesHeader",
    "CodesReader",
    "CodesWriter",
    "DacFile",
    "DacReader",
    "DacWriter",
    "EcdcReader",
    "EcdcWriter",
    "EncodecLM",
    "kind_of",
    "load_codes",
    "save_codes",
]

# Imported when first used: these need torch.
_HOMES = {
    "DacFile": "dac",
    "DacReader": "dac",
    "DacWriter": "dac",
    "EcdcReader": "ecdc",
    "EcdcWriter": "ecdc",
    "EncodecLM": "ecdc_lm",
    "load_codes": "whole",
    "save_codes": "whole",
}


if not TYPE_CHECKING:  # else a type checker would take every name for one of the package's

    def __getattr__(name: str) -> Any:
        return resolve(__name__, _HOMES, name)
