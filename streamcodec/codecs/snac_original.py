"""The snac package's files (``config.json`` and ``pytorch_model.bin``), whose names and settings are ours too.

Source of the layout: `snac.SNAC.from_pretrained` of the ``snac`` package (Siuzdak et al. 2024). Its configuration has
the arguments of `snac.SNAC` and no model_type.
"""

import re
from typing import Any

from torch import Tensor

from ..errors import CheckpointError
from .original import Original

__all__ = ["convert"]

# At the encoder's end DAC, whose originals have the same names, has a Snake (`dac_original`).
_SNAKE_AT_THE_END = re.compile(r"encoder\.block\.\d{1,2}\.alpha")
_ENDS = ("encoder.block.0.weight", "decoder.model.0.weight")
_NEEDED = ("sampling_rate", "encoder_rates", "decoder_rates", "vq_strides")


def convert(original: Original) -> tuple[dict[str, Any], dict[str, Tensor]] | None:
    """The (configuration, tensors) of a SNAC of the snac package; None when this is no such file at all.

    Raises CheckpointError where it is one without its config.json: no weights tell the sample rate.
    """
    tensors, config = original.tensors, original.config or {}
    if any(name not in tensors for name in _ENDS) or any(map(_SNAKE_AT_THE_END.fullmatch, tensors)):
        return None
    missing = [name for name in _NEEDED if name not in config]
    if missing:
        raise CheckpointError(
            f"{original.filename}: a SNAC file of the snac package, but without {', '.join(missing)} of its "
            "config.json. Put it as pytorch_model.bin into a folder with that config.json, and pass the folder"
        )
    return {**config, "model_type": "snac"}, dict(tensors)
