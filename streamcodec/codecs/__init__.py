"""The codec families. docs/extending.md says what a new one takes."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from torch import Tensor

from ..errors import ConfigError
from ..lazy import late
from ..spec import CodecSpec, SemanticWindow
from ..stream import Start
from .base import Codec, QuantizedLatents
from .original import Original
from .tracked import NOISE_KEY, Noise

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
    of Hugging Face's layout, None if not its own. Where there are no such files, it is None.
    """

    build: Callable[[Mapping[str, Any], Mapping[str, Tensor], str], Codec]
    convert: Callable[[Original], Converted | None] | None = None


def _of(module: str, name: str) -> Callable[..., Any]:
    """A function or class of one of our modules: all families together take as long to import as all else here."""
    return late(f"{__name__}.{module}", name)


def _acoustic(config: Mapping[str, Any], tensors: Mapping[str, Tensor], name: str) -> Codec:
    return build(config, tensors, name=name)


# By the `model_type` of config.json.
FAMILIES: dict[str, Family] = {
    "dac": Family(_of("dac", "DacCodec"), _of("dac_original", "convert")),
    "encodec": Family(_of("encodec", "EncodecCodec"), _of("encodec_original", "convert")),
    "higgs_audio_v2_tokenizer": Family(_of("higgs", "HiggsCodec")),
    "lyra_v2": Family(_of("lyra", "LyraCodec"), _of("lyra_original", "convert")),
    "mimi": Family(_of("mimi", "MimiCodec"), _of("mimi_original", "convert")),
    "pocket_tts_audio_tokenizer": Family(_of("pocket_tts", "PocketTtsCodec"), _of("pocket_tts_original", "convert")),
    "qwen3_tts_tokenizer_12hz": Family(_of("qwen_tts", "QwenTtsCodec")),
    "snac": Family(_of("snac", "SnacCodec"), _of("snac_original", "convert")),
    "streamcodec_semantic": Family(lambda *parts: _of("semantic_codec", "from_checkpoint")(_acoustic, *parts)),
    "streamcodec_spectral": Family(_of("spectral", "SpectralCodec")),
    "xcodec": Family(_of("xcodec", "XcodecCodec"), _of("xcodec_original", "convert")),
}


def build(config: Mapping[str, Any], tensors: Mapping[str, Tensor], *, name: str) -> Codec:
    """A codec from its configuration and weights in Hugging Face's layout. Raises ConfigError, CheckpointError."""
    kind = config.get("model_type")
    if not isinstance(kind, str) or kind not in FAMILIES:
        raise ConfigError(f"model_type is {kind!r}; supported are {', '.join(sorted(FAMILIES))}")
    codec = FAMILIES[kind].build(config, tensors, name)
    codec.note_weights()
    return codec


def convert_original(original: Original) -> Converted | None:
    """An upstream project's own file in Hugging Face's layout; None where no family recognises it, and where the
    config.json beside it names one that has no such files.

    Raises CheckpointError where one does, but entries or settings are missing or unknown.
    """
    named = FAMILIES.get((original.config or {}).get("model_type", ""))
    if named is not None and named.convert is None:
        return None
    for family in FAMILIES.values():
        converted = None if family.convert is None else family.convert(original)
        if converted is not None:
            return converted
    return None
