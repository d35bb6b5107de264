"""Entropy coding of codes: fewer bits for the same codes, and the same bits on every machine.

- `EntropyModel`: the weights of a predictor, whole numbers in a file that `streamcodec train entropy` writes.
- `FrameEncoder`, `FrameDecoder`: frames of codes to bytes and back.

`predictor` says how likely each code is, by what was sent before it; `rangecoder` turns that into bits. Needs no torch.
"""

from .frames import FrameDecoder, FrameEncoder
from .model import EntropyModel

__all__ = ["EntropyModel", "FrameDecoder", "FrameEncoder"]
