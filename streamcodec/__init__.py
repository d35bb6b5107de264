"""streamcodec: neural audio codecs, frame by frame, with the same result as offline.

>>> codec = streamcodec.load()
>>> encoder, decoder = codec.open_encoder(bandwidth=6.0), codec.open_decoder()
>>> for block in microphone:                      # float32 [1, 1, n], any n
...     speaker.write(decoder.push(encoder.push(block)))
"""

from .checkpoint import load, save
from .codecs import Codec, CodecSpec
from .codes import Codes
from .errors import StreamcodecError
from .stream import DecoderStream, EncoderStream

__all__ = ["Codec", "CodecSpec", "Codes", "DecoderStream", "EncoderStream", "StreamcodecError", "load", "save"]
__version__ = "0.1.0"
