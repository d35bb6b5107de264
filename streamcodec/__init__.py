"""streamcodec: neural audio codecs, frame by frame, with the same result as offline.

>>> codec = streamcodec.load()
>>> encoder, decoder = codec.open_encoder(bandwidth=6.0), codec.open_decoder()
>>> for block in microphone:                      # float32 [1, 1, n], any n
...     speaker.write(decoder.push(encoder.push(block)))
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .checkpoint import load, save
    from .codecs import Codec, CodecSpec, QuantizedLatents, SemanticWindow
    from .codes import Codes, CodesLike
    from .codesfile import load_codes, save_codes
    from .corpus import TokenDataset
    from .engine import Delivery, Direction, Engine, Session
    from .errors import StreamcodecError
    from .latent_stream import LatentDecoderStream, LatentEncoderStream
    from .pcm import AudioLike
    from .stream import DecoderStream, EncoderStream, Start

from .lazy import resolve

__all__ = [
    "AudioLike",
    "Codec",
    "CodecSpec",
    "Codes",
    "CodesLike",
    "DecoderStream",
    "Delivery",
    "Direction",
    "EncoderStream",
    "Engine",
    "LatentDecoderStream",
    "LatentEncoderStream",
    "QuantizedLatents",
    "SemanticWindow",
    "Session",
    "Start",
    "StreamcodecError",
    "TokenDataset",
    "load",
    "load_codes",
    "save",
    "save_codes",
]
__version__ = "0.1.0"

# Imported when first used: the command line answers --help without waiting for torch, and the client does without it.
_HOMES = {
    "AudioLike": "pcm",
    "Codec": "codecs",
    "CodecSpec": "codecs",
    "Codes": "codes",
    "CodesLike": "codes",
    "DecoderStream": "stream",
    "Delivery": "engine",
    "Direction": "engine",
    "EncoderStream": "stream",
    "Engine": "engine",
    "LatentDecoderStream": "latent_stream",
    "LatentEncoderStream": "latent_stream",
    "QuantizedLatents": "codecs",
    "SemanticWindow": "codecs",
    "Session": "engine",
    "Start": "stream",
    "StreamcodecError": "errors",
    "TokenDataset": "corpus",
    "load": "checkpoint",
    "load_codes": "codesfile",
    "save": "checkpoint",
    "save_codes": "codesfile",
}


if not TYPE_CHECKING:  # else a type checker would take every name for one of the package's

    def __getattr__(name: str) -> Any:
        return resolve(__name__, _HOMES, name)


def __dir__() -> list[str]:
    return [*globals(), *_HOMES]
