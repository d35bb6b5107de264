"""The codec families. A new family is one file and one line in `FAMILIES`."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from torch import Tensor

from ..errors import CheckpointError, ConfigError
from ..stream import Start
from . import dac_original, encodec_original, xcodec_original
from .base import Codec
from .dac import DacCodec
from .encodec import EncodecCodec
from .semantic_codec import MODEL_TYPE, SemanticCodec
from .spec import CodecSpec, SemanticWindow
from .xcodec import XcodecCodec

__all__ = ["FAMILIES", "Codec", "CodecSpec", "SemanticWindow", "Start", "build", "convert_original"]

Converted = tuple[dict[str, Any], dict[str, Tensor]]
# Looks for settings in files beside an original one, by these names first; see `checkpoint.files.settings_beside`.
Beside = Callable[[tuple[str, ...]], Mapping[str, Any] | None]


class Family(NamedTuple):
    """What a family brings.

    build: (config, tensors, name) to a codec; convert: (tensors, filename, metadata, beside) of an original file to
    Hugging Face's layout, None if not its own.
    """

    build: Callable[[Mapping[str, Any], Mapping[str, Tensor], str], Codec]
    convert: Callable[[Mapping[str, Tensor], str, Mapping[str, Any] | None, Beside], Converted | None]


# By the `model_type` of config.json.
FAMILIES: Mapping[str, Family] = {
    "dac": Family(DacCodec, lambda tensors, filename, metadata, _: dac_original.convert(tensors, filename, metadata)),
    # An original EnCodec file has no metadata: its shapes tell what it is.
    "encodec": Family(EncodecCodec, lambda tensors, filename, *_: encodec_original.convert(tensors, filename)),
    MODEL_TYPE: Family(lambda *parts: SemanticCodec.from_checkpoint(_acoustic, *parts), lambda *_: None),
    "xcodec": Family(
        XcodecCodec, lambda tensors, filename, _, beside: xcodec_original.convert(tensors, filename, beside)
    ),
}


def _acoustic(config: Mapping[str, Any], tensors: Mapping[str, Tensor], name: str) -> Codec:
    return build(config, tensors, name=name)


def build(config: Mapping[str, Any], tensors: Mapping[str, Tensor], *, name: str) -> Codec:
    """A codec from its configuration and weights in Hugging Face's layout. Raises ConfigError, CheckpointError."""
    kind = config.get("model_type")
    if not isinstance(kind, str) or kind not in FAMILIES:
        raise ConfigError(f"model_type is {kind!r}; supported are {', '.join(sorted(FAMILIES))}")
    return FAMILIES[kind].build(config, tensors, name)


def convert_original(
    tensors: Mapping[str, Tensor],
    filename: str,
    metadata: Mapping[str, Any] | None = None,
    beside: Beside = lambda names: None,
) -> Converted:
    """An original state dict, with what its file holds besides and what lies beside the file, in Hugging Face's layout.

    Raises CheckpointError where no family recognises it.
    """
    for family in FAMILIES.values():
        converted = family.convert(tensors, filename, metadata, beside)
        if converted is not None:
            return converted
    raise CheckpointError(
        f"{filename} is the state dict of no codec known here; known are {', '.join(sorted(FAMILIES))}"
    )
