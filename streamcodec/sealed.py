"""State as bytes: a safetensors file in memory, with a description as JSON, and the SHA-256 of all of it.

Nothing in them is ever executed, damage is noticed anywhere, and they are bound to a codec's configuration and weights.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from .errors import StateError
from .spec import CodecSpec

__all__ = ["Seal"]

DIGEST_BYTES = hashlib.sha256().digest_size


class Owner(Protocol):
    """The codec that state belongs to."""

    spec: CodecSpec

    @property
    def fingerprint(self) -> str: ...
    @property
    def noise(self) -> int | str | None: ...


class Seal(NamedTuple):
    """A kind of saved state. name: in sentences to the user; entry: of the description in the file's metadata.

    format, version: others are refused; fields: what the description must have besides those of every seal.
    """

    name: str
    entry: str
    format: str
    version: int
    fields: frozenset[str]

    def close(self, codec: Owner, description: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> bytes:
        """The bytes of `description`, which JSON can hold, and `tensors`."""
        meta = {
            **description,
            "format": self.format,
            "version": self.version,
            "codec": codec.spec.name,
            "fingerprint": codec.fingerprint,
            "noise": codec.noise,
        }
        # There is always one tensor: some versions refuse to write none.
        blob = save_tensors({**tensors, self.entry: torch.zeros(0)}, {self.entry: json.dumps(meta)})
        return blob + hashlib.sha256(blob).digest()

    def open(self, codec: Owner, blob: Any) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """The inverse of `close`. Raises StateError where the bytes are damaged, of another kind or another codec's."""
        if not isinstance(blob, (bytes, bytearray, memoryview)):
            raise StateError(f"{self.name} is {type(blob).__name__}; it must be the bytes that save() returned")
        content, digest = bytes(blob[:-DIGEST_BYTES]), bytes(blob[-DIGEST_BYTES:])
        if hashlib.sha256(content).digest() != digest:
            raise StateError(f"{self.name} does not match its checksum; it is cut short, damaged, or not from save()")
        try:
            header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
            tensors = load_tensors(content)
            meta = json.loads(header["__metadata__"][self.entry])
            found, version = meta["format"], meta["version"]
        except (SafetensorError, ValueError, KeyError, TypeError, RecursionError, MemoryError, OverflowError) as error:
            raise StateError(f"{self.name} cannot be read ({error}); it is not from save()") from error
        if found != self.format or version != self.version:
            raise StateError(
                f"{self.name} is {found!r} version {version!r}; this release reads {self.format!r} version "
                f"{self.version}"
            )
        self._check(codec, meta)
        tensors.pop(self.entry, None)
        return meta, tensors

    def _check(self, codec: Owner, meta: dict[str, Any]) -> None:
        missing = (self.fields | {"codec", "fingerprint"}) - meta.keys()
        if missing:
            raise StateError(f"{self.name} lacks {', '.join(sorted(missing))}; it is damaged")
        if meta["fingerprint"] != codec.fingerprint:
            raise StateError(
                f"{self.name} belongs to other weights (codec {meta['codec']!r}) than {codec.spec.name!r} has here"
            )
        if meta.get("noise") != codec.noise:
            raise StateError(
                f"{self.name} has the noise of {meta.get('noise')!r}, this codec that of {codec.noise!r}: load it with "
                "the same noise"
            )
