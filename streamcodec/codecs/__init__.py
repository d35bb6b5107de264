"""The codec families. docs/extending.md says what a new one takes."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from torch import Tensor

from ..errors import ConfigError
from ..spec import CodecSpec, SemanticWindow
from ..stream import Start
from . import (
    dac_original,
    encodec_original,
    lyra_original,
    mimi_original,
    pocket_tts_original,
    snac_original,
    xcodec_original,
)
from .base import Codec, QuantizedLatents
from .dac import DacCodec
from .encodec import EncodecCodec
from .higgs import HiggsCodec
from .lyra import LyraCodec
from .mimi import MimiCodec
from .original import Original
from .pocket_tts import PocketTtsCodec
from .qwen_tts import QwenTtsCodec
from .semantic_codec import MODEL_TYPE, SemanticCodec
from .snac import SnacCodec
from .spectral import SpectralCodec
from .tracked import NOISE_KEY, Noise
from .xcodec import XcodecCodec

__all__ = [
    "FAMILIES",
    "NOISE_KEY",
    "Codec",
    "CodecSpec",
    "Family",
    "Noise",
    "Original",
    "QuantizedLatents",
    "SemanticWindow",
    "Start",
    "build",
    "convert_original",
]

Converted = tuple[dict[str, Any], dict[str, Tensor]]


class Family(NamedTuple):
    """What a family brings.

    build: (config, tensors, name) to a codec; convert: an upstream project's own file to the configuration and tensors
    of Hugging Face's layout, None if not its own.
    """

    build: Callable[[Mapping[str, Any], Mapping[str, Tensor], str], Codec]
    convert: Callable[[Original], Converted | None]


# By the `model_type` of config.json.
FAMILIES: dict[str, Family] = {
    "dac": Family(DacCodec, dac_original.convert),
    "encodec": Family(EncodecCodec, encodec_original.convert),
    "higgs_audio_v2_tokenizer": Family(HiggsCodec, lambda _: None),
    "lyra_v2": Family(LyraCodec, lyra_original.convert),
    "mimi": Family(MimiCodec, mimi_original.convert),
    "pocket_tts_audio_tokenizer": Family(PocketTtsCodec, pocket_tts_original.convert),
    "qwen3_tts_tokenizer_12hz": Family(QwenTtsCodec, lambda _: None),
    MODEL_TYPE: Family(lambda *parts: SemanticCodec.from_checkpoint(_acoustic, *parts), lambda _: None),
    "snac": Family(SnacCodec, snac_original.convert),
    "streamcodec_spectral": Family(SpectralCodec, lambda _: None),
    "xcodec": Family(XcodecCodec, xcodec_original.convert),
}


def _acoustic(config: Mapping[str, Any], tensors: Mapping[str, Tensor], name: str) -> Codec:
    return build(config, tensors, name=name)


def build(config: Mapping[str, Any], tensors: Mapping[str, Tensor], *, name: str) -> Codec:
    """A codec from its configuration and weights in Hugging Face's layout. Raises ConfigError, CheckpointError."""
    kind = config.get("model_type")
    if not isinstance(kind, str) or kind not in FAMILIES:
        raise ConfigError(f"model_type is {kind!r}; supported are {', '.join(sorted(FAMILIES))}")
    return FAMILIES[kind].build(config, tensors, name)


def convert_original(original: Original) -> Converted | None:
    """An upstream project's own file in Hugging Face's layout; None where no family recognises it.

    Raises CheckpointError where one does, but entries or settings are missing or unknown.
    """
    for family in FAMILIES.values():
        converted = family.convert(original)
        if converted is not None:
            return converted
    return None
