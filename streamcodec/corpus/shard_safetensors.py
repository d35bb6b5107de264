"""Tokens in a safetensors file.

Tensors: ``codes`` [frames, K] int16 or int32, of all items one after the other; ``offsets`` [items + 1] int64, the
frame with which each begins, and the end; ``lengths`` [items] int64, in samples; ``silence`` [items] float32; ``scale``
[frames] float32, for codecs that normalise. The metadata have the keys and fields of the items as JSON.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from ..codesfile import CodesHeader
from ..errors import AudioError
from .items import Tokens

__all__ = ["SafetensorsShard", "write_safetensors"]


def write_safetensors(file: BinaryIO, items: Sequence[Tokens], header: CodesHeader) -> None:
    """All items to an open file."""
    frames = [item.codes.shape[1] for item in items]
    tensors = {
        "codes": np.concatenate([item.codes.T for item in items]),
        "offsets": np.cumsum([0, *frames], dtype=np.int64),
        "lengths": np.array([item.length for item in items], np.int64),
        "silence": np.array([item.silence for item in items], np.float32),
    }
    scales = [item.scale for item in items if item.scale is not None]
    if scales:
        tensors["scale"] = np.concatenate(scales)
    metadata = header.metadata() | {
        "format": "streamcodec-tokens",
        "keys": json.dumps([item.key for item in items], ensure_ascii=False),
        "fields": json.dumps([item.fields for item in items], ensure_ascii=False),
    }
    file.write(save({name: np.ascontiguousarray(value) for name, value in tensors.items()}, metadata))


class SafetensorsShard:
    """See `formats.Shard`."""

    def __init__(self, path: Path) -> None:
        try:
            self._file: Any = safe_open(path, "np")
            metadata = self._file.metadata() or {}
            self.keys: list[str] = json.loads(metadata["keys"])
            self._fields = json.loads(metadata["fields"])
            self._offsets = self._file.get_tensor("offsets")
            self._lengths, self._silence = (self._file.get_tensor(name) for name in ("lengths", "silence"))
            self._codes = self._file.get_slice("codes")
            self._scale = self._file.get_slice("scale") if "scale" in self._file.keys() else None  # noqa: SIM118
        except SafetensorError as error:
            raise AudioError(f"{path} cannot be read as tokens: {error}") from error
        self.frames = np.diff(self._offsets).tolist()

    def item(self, row: int) -> Tokens:
        first, stop = int(self._offsets[row]), int(self._offsets[row + 1])
        return Tokens(
            self.keys[row],
            np.ascontiguousarray(self._codes[first:stop].T),
            None if self._scale is None else self._scale[first:stop],
            int(self._lengths[row]),
            float(self._silence[row]),
            self._fields[row],
        )

    def close(self) -> None:
        """The file is mapped, and closed with the last that refers to it."""
