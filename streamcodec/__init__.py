"""streamcodec: neural audio codecs, frame by frame, with the same result as offline.

>>> codec = streamcodec.load()
>>> encoder, decoder = codec.open_encoder(bandwidth=6.0), codec.open_decoder()
>>> for block in microphone:                      # float32 [1, 1, n], any n
...     speaker.write(decoder.push(encoder.push(block)))
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .checkpoint import load, save
    from .codecs import Codec, CodecSpec, SemanticWindow
    from .codes import Codes
    from .engine import Engine
    from .errors import StreamcodecError
    from .stream import DecoderStream, EncoderStream

__all__ = [
    "Codec",
    "CodecSpec",
    "Codes",
    "DecoderStream",
    "EncoderStream",
    "Engine",
    "SemanticWindow",
    "StreamcodecError",
    "load",
    "save",
]
__version__ = "0.1.0"

# Imported when first used: the command line answers --help without waiting for torch.
_HOMES = {
    "Codec": "codecs",
    "CodecSpec": "codecs",
    "Codes": "codes",
    "DecoderStream": "stream",
    "EncoderStream": "stream",
    "Engine": "engine",
    "SemanticWindow": "codecs",
    "StreamcodecError": "errors",
    "load": "checkpoint",
    "save": "checkpoint",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return [*globals(), *_HOMES]
