"""Entropy coding of codes: fewer bits for the same codes, and the same bits on every machine.

- `EntropyModel`: the weights of a predictor, whole numbers in a file that `streamcodec train entropy` writes.
- `find_model`, `model_beside`: the model that lies beside a codec.
- `FrameEncoder`, `FrameDecoder`: frames of codes to bytes and back, with a `Predictor` of the model.

`predictor` says how likely each code is, by what was sent before it; `rangecoder` turns that into bits. Needs no torch.
"""

from .frames import FrameDecoder, FrameEncoder
from .model import EntropyModel
from .places import find_model, model_beside
from .predictor import Predictor

__all__ = ["EntropyModel", "FrameDecoder", "FrameEncoder", "Predictor", "find_model", "model_beside"]
