"""The original DAC files (``weights_24khz.pth`` and the like) in Hugging Face terms.

Source of the layout: `dac.model.dac` of descript-audio-codec (Kumar et al. 2023). The file is a dict of a state dict
and metadata, whose "kwargs" are the arguments that its model was made with.
"""

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ..errors import CheckpointError

__all__ = ["convert", "rename"]

# The constructor's arguments and what transformers calls them; quantizer_dropout matters to training only.
_FIELDS = {
    "encoder_dim": "encoder_hidden_size",
    "encoder_rates": "downsampling_ratios",
    "latent_dim": "hidden_size",
    "decoder_dim": "decoder_hidden_size",
    "decoder_rates": "upsampling_ratios",
    "n_codebooks": "n_codebooks",
    "codebook_size": "codebook_size",
    "codebook_dim": "codebook_dim",
    "sample_rate": "sampling_rate",
}

_KIND = r"(?P<kind>alpha|weight|bias)"
_END = re.compile(r"(?:encoder\.block|decoder\.model)\.(?P<place>\d{1,2})\." + _KIND)
_BLOCK = re.compile(r"(?:encoder\.block|decoder\.model)\.(?P<place>\d{1,2})\.block\.(?P<inner>\d)\." + _KIND)
_UNIT = re.compile(
    r"(?:encoder\.block|decoder\.model)\.(?P<place>\d{1,2})\.block\.(?P<unit>\d)\.block\.(?P<inner>[0-3])\." + _KIND
)
_QUANTIZER = re.compile(r"quantizer\.quantizers\.\d{1,3}\.(?:(?:in|out)_proj\.(?:weight|bias)|codebook\.weight)")
_UNIT_LAYERS = ("snake1", "conv1", "snake2", "conv2")


def convert(
    tensors: Mapping[str, Tensor], filename: str, metadata: Mapping[str, Any] | None
) -> tuple[dict[str, Any], dict[str, Tensor]] | None:
    """The (configuration, tensors) of an original DAC file as transformers would name them.

    Args:
        tensors: the state dict, weight norm merged.
        filename: the file's name, for messages.
        metadata: what the file holds beside the state dict.

    Returns None when this is no DAC file at all.

    Raises CheckpointError when it is one, but without the arguments of its model or with unknown entries.
    """
    if "encoder.block.0.weight" not in tensors or "decoder.model.0.weight" not in tensors:
        return None
    kwargs = None if metadata is None else metadata.get("kwargs")
    if not isinstance(kwargs, Mapping):
        raise CheckpointError(
            f"{filename}: a DAC state dict without its metadata; the original file is a dict of 'state_dict' and "
            "'metadata', whose 'kwargs' tell the sample rate and the sizes"
        )
    # The latents are as wide as the encoder unless a file says otherwise.
    missing = [name for name in _FIELDS if name not in kwargs and name != "latent_dim"]
    if missing:
        raise CheckpointError(f"{filename}: the kwargs of this DAC file lack {', '.join(missing)}")
    config: dict[str, Any] = {"model_type": "dac"}
    config |= {field: kwargs[name] for name, field in _FIELDS.items() if name in kwargs}
    rates = kwargs["encoder_rates"]
    blocks = len(rates) if isinstance(rates, (list, tuple)) else 0
    return config, {rename(name, blocks, filename): tensor for name, tensor in tensors.items()}


def rename(name: str, blocks: int, filename: str) -> str:
    """The Hugging Face name of an original entry, of a model with `blocks` strides. Raises CheckpointError."""
    if _QUANTIZER.fullmatch(name):
        return name
    half = name.partition(".")[0]
    # The encoder's blocks are three units, an activation and a convolution; the decoder's are the other way round.
    first_unit, others = (0, {3: "snake1", 4: "conv1"}) if half == "encoder" else (2, {0: "snake1", 1: "conv_t1"})
    ends = {0: "conv1", blocks + 1: "snake1", blocks + 2: "conv2"}
    if (found := _END.fullmatch(name)) and int(found["place"]) in ends:
        return f"{half}.{ends[int(found['place'])]}.{found['kind']}"
    if (found := _BLOCK.fullmatch(name)) and int(found["inner"]) in others:
        return f"{half}.block.{int(found['place']) - 1}.{others[int(found['inner'])]}.{found['kind']}"
    if (found := _UNIT.fullmatch(name)) and 0 <= int(found["unit"]) - first_unit < 3:
        unit, layer = int(found["unit"]) - first_unit + 1, _UNIT_LAYERS[int(found["inner"])]
        return f"{half}.block.{int(found['place']) - 1}.res_unit{unit}.{layer}.{found['kind']}"
    raise CheckpointError(f"{filename}: unknown entry {name!r} in what is otherwise a DAC state dict")
