"""A small random codec of every way in which signals are padded, cut and remembered."""

from typing import Any

import dac_models
import mimi_models
import snac_models
import spectral_models
from oracles import small_codec

CODECS: dict[str, Any] = {
    "mirrored causal": lambda: small_codec("24khz"),
    "mirrored with look-ahead": lambda: small_codec("32khz"),
    "segments": lambda: small_codec("48khz"),
    "dac odd": lambda: dac_models.small_codec((2, 3)),
    "spectral": spectral_models.small_codec,
    "attention": mimi_models.small_codec,
    "noise": snac_models.small_codec,
}
