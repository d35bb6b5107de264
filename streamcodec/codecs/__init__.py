"""The codec families. A new family is one file and one line in `FAMILIES`."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from torch import Tensor

from ..errors import CheckpointError, ConfigError
from . import dac_original, encodec_original
from .base import Codec
from .dac import DacCodec
from .encodec import EncodecCodec
from .spec import CodecSpec

__all__ = ["FAMILIES", "Codec", "CodecSpec", "build", "convert_original"]

Converted = tuple[dict[str, Any], dict[str, Tensor]]


class Family(NamedTuple):
    """What a family brings.

    build: (config, tensors, name) to a codec; convert: (tensors, filename, metadata) of an original file to Hugging
    Face's layout, None if not its own.
    """

    build: Callable[[Mapping[str, Any], Mapping[str, Tensor], str], Codec]
    convert: Callable[[Mapping[str, Tensor], str, Mapping[str, Any] | None], Converted | None]


# By the `model_type` of config.json.
FAMILIES: Mapping[str, Family] = {
    "dac": Family(DacCodec, dac_original.convert),
    # An original EnCodec file has no metadata: its shapes tell what it is.
    "encodec": Family(EncodecCodec, lambda tensors, filename, _: encodec_original.convert(tensors, filename)),
}


def build(config: Mapping[str, Any], tensors: Mapping[str, Tensor], *, name: str) -> Codec:
    """A codec from its configuration and weights in Hugging Face's layout. Raises ConfigError, CheckpointError."""
    kind = config.get("model_type")
    if not isinstance(kind, str) or kind not in FAMILIES:
        raise ConfigError(f"model_type is {kind!r}; supported are {', '.join(sorted(FAMILIES))}")
    return FAMILIES[kind].build(config, tensors, name)


def convert_original(
    tensors: Mapping[str, Tensor], filename: str, metadata: Mapping[str, Any] | None = None
) -> Converted:
    """An original state dict, with what its file holds beside it, in Hugging Face's layout.

    Raises CheckpointError where no family recognises it.
    """
    for family in FAMILIES.values():
        converted = family.convert(tensors, filename, metadata)
        if converted is not None:
            return converted
    raise CheckpointError(
        f"{filename} is the state dict of no codec known here; known are {', '.join(sorted(FAMILIES))}"
    )
