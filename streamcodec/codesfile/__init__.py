"""Codes in files: our own format, and those of the EnCodec and DAC commands.

- `load_codes`, `save_codes`: a file at once.
- `CodesWriter`, `CodesReader`: safetensors, any codec.
- `EcdcWriter`, `EcdcReader`: EnCodec's ``.ecdc``.
- `DacWriter`, `DacReader`: DAC's ``.dac``.
"""

from .dac import DacFile, DacReader, DacWriter
from .ecdc import EcdcReader, EcdcWriter
from .kinds import KINDS, kind_of
from .safetensors_file import CodesHeader, CodesReader, CodesWriter
from .whole import load_codes, save_codes

__all__ = [
    "KINDS",
    "CodesHeader",
    "CodesReader",
    "CodesWriter",
    "DacFile",
    "DacReader",
    "DacWriter",
    "EcdcReader",
    "EcdcWriter",
    "kind_of",
    "load_codes",
    "save_codes",
]
