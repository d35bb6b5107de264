"""A session as bytes."""

from typing import Any

from torch import Tensor

from ..codecs import Codec
from ..errors import StateError
from ..sealed import Seal
from .lane import Saved
from .session import DIRECTIONS

__all__ = ["pack", "unpack"]

SEAL = Seal(
    name="saved session",
    entry="session",
    format="streamcodec-session",
    version=2,  # 1: mirrored streams had no state before their first frames, and remembered fewer rows
    fields=frozenset({"direction", "start", "bandwidth", "codes", "ended", "sides"}),
)


def pack(codec: Codec, fields: dict[str, Any], sides: dict[str, Saved]) -> bytes:
    """fields: those of the session; sides: "encoder" and "decoder", the ones that still run."""
    tensors = {f"{name}/{key}": tensor for name, saved in sides.items() for key, tensor in saved.tensors.items()}
    return SEAL.close(codec, fields | {"sides": {name: saved.numbers for name, saved in sides.items()}}, tensors)


def unpack(codec: Codec, blob: Any) -> tuple[dict[str, Any], dict[str, Saved]]:
    """The inverse of `pack`. Raises StateError where the bytes are damaged or another codec's."""
    meta, tensors = SEAL.open(codec, blob)
    if meta["direction"] not in DIRECTIONS or meta["start"] not in ("exact", "primed"):
        raise StateError(f"saved session has direction={meta['direction']!r} and start={meta['start']!r}")
    if meta["bandwidth"] not in codec.spec.bandwidths:
        raise StateError(f"saved session has bandwidth={meta['bandwidth']!r}; it is damaged")
    return meta, _sides(meta, tensors)


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
