"""A session as bytes: a safetensors file in memory and its SHA-256, as `EncoderStream.save` writes it.

Nothing in them is ever executed. They are bound to the codec's configuration and weights.
"""

import hashlib
import json
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from ..codecs import Codec
from ..errors import StateError
from .lane import Saved
from .session import DIRECTIONS

__all__ = ["pack", "unpack"]

FORMAT = "streamcodec-session"
VERSION = 2  # 1: mirrored streams had no state before their first frames, and remembered fewer rows
DIGEST_BYTES = hashlib.sha256().digest_size
FIELDS = {"format", "version", "codec", "fingerprint", "direction", "start", "bandwidth", "codes", "ended", "sides"}


def pack(codec: Codec, fields: dict[str, Any], sides: dict[str, Saved]) -> bytes:
    """fields: those of the session; sides: "encoder" and "decoder", the ones that still run."""
    meta = fields | {
        "format": FORMAT,
        "version": VERSION,
        "codec": codec.spec.name,
        "fingerprint": codec.fingerprint,
        "sides": {name: saved.numbers for name, saved in sides.items()},
    }
    tensors = {f"{name}/{key}": tensor for name, saved in sides.items() for key, tensor in saved.tensors.items()}
    # There is always one tensor: some versions refuse to write none.
    blob = save_tensors(tensors | {"session": torch.zeros(0)}, {"session": json.dumps(meta)})
    return blob + hashlib.sha256(blob).digest()


def unpack(codec: Codec, blob: Any) -> tuple[dict[str, Any], dict[str, Saved]]:
    """The inverse of `pack`. Raises StateError where the bytes are damaged or another codec's."""
    if not isinstance(blob, (bytes, bytearray, memoryview)):
        raise StateError(f"saved session is {type(blob).__name__}; it must be the bytes that save() returned")
    content, digest = bytes(blob[:-DIGEST_BYTES]), bytes(blob[-DIGEST_BYTES:])
    if hashlib.sha256(content).digest() != digest:
        raise StateError("saved session does not match its checksum; it is cut short, damaged, or not from save()")
    try:
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        tensors = load_tensors(content)
        meta = json.loads(header["__metadata__"]["session"])
        found, version = meta["format"], meta["version"]
    except (SafetensorError, ValueError, KeyError, TypeError, RecursionError, MemoryError, OverflowError) as error:
        raise StateError(f"saved session cannot be read ({error}); it is not from save()") from error
    if found != FORMAT or version != VERSION:
        raise StateError(f"this is {found!r} version {version!r}; this release reads {FORMAT!r} version {VERSION}")
    _check(codec, meta)
    return meta, _sides(meta, tensors)


def _check(codec: Codec, meta: dict[str, Any]) -> None:
    if FIELDS - meta.keys():
        raise StateError(f"saved session lacks {', '.join(sorted(FIELDS - meta.keys()))}; it is damaged")
    if meta["fingerprint"] != codec.fingerprint:
        raise StateError(
            f"saved session is of other weights (codec {meta['codec']!r}) than {codec.spec.name!r} has here"
        )
    if meta["direction"] not in DIRECTIONS or meta["start"] not in ("exact", "primed"):
        raise StateError(f"saved session has direction={meta['direction']!r} and start={meta['start']!r}")
    if meta["bandwidth"] not in codec.spec.bandwidths:
        raise StateError(f"saved session has bandwidth={meta['bandwidth']!r}; it is damaged")


def _sides(meta: dict[str, Any], tensors: dict[str, Tensor]) -> dict[str, Saved]:
    wanted = {name for name, runs in zip(("encoder", "decoder"), DIRECTIONS[meta["direction"]], strict=True) if runs}
    sides = meta["sides"]
    if meta["direction"] == "roundtrip" and meta["ended"]:
        wanted = wanted & set(sides) | {"decoder"}  # the encoder of a flushed session may be done
    if (
        not isinstance(sides, dict)
        or sides.keys() != wanted
        or not all(isinstance(side, dict) for side in sides.values())
    ):
        raise StateError("saved session lacks the state of a direction")
    return {
        name: Saved(
            {key.removeprefix(f"{name}/"): tensor for key, tensor in tensors.items() if key.startswith(f"{name}/")},
            numbers,
        )
        for name, numbers in sides.items()
    }
