"""The original DAC files (``weights_24khz.pth`` and the like) in Hugging Face terms.

Source of the layout: `dac.model.dac` of descript-audio-codec (Kumar et al. 2023). The file is a dict of a state dict
and metadata, whose "kwargs" are the arguments that its model was made with. Of a bare state dict the shapes tell all
but the sample rate.
"""

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ..errors import CheckpointError
from .original import Original

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

# Parler-TTS has the original's weights under a configuration of its own.
_MODEL_TYPES = ("dac", "dac_on_the_hub")

# What sets the published models apart from each other (weights_16khz.pth, weights_24khz.pth, weights.pth and
# weights_44khz_16kbps.pth), by their sample rates in Hz.
_COMMON = {"codebook_size": 1024, "codebook_dim": 8, "encoder_hidden_size": 64, "decoder_hidden_size": 1536}
_PUBLISHED: tuple[tuple[int, dict[str, Any]], ...] = (
    (16_000, _COMMON | {"downsampling_ratios": [2, 4, 5, 8], "n_codebooks": 12}),
    (24_000, _COMMON | {"downsampling_ratios": [2, 4, 5, 8], "n_codebooks": 32}),
    (44_100, _COMMON | {"downsampling_ratios": [2, 4, 8, 8], "n_codebooks": 9}),
    (44_100, _COMMON | {"downsampling_ratios": [2, 4, 8, 8], "n_codebooks": 18}),
)

_KIND = r"(?P<kind>alpha|weight|bias)"
_END = re.compile(r"(?:encoder\.block|decoder\.model)\.(?P<place>\d{1,2})\." + _KIND)
_BLOCK = re.compile(r"(?:encoder\.block|decoder\.model)\.(?P<place>\d{1,2})\.block\.(?P<inner>\d)\." + _KIND)
_UNIT = re.compile(
    r"(?:encoder\.block|decoder\.model)\.(?P<place>\d{1,2})\.block\.(?P<unit>\d)\.block\.(?P<inner>[0-3])\." + _KIND
)
# What tells these files from SNAC's (`snac_original`).
_SNAKE_AT_THE_END = re.compile(r"encoder\.block\.\d{1,2}\.alpha")
_QUANTIZER = re.compile(r"quantizer\.quantizers\.\d{1,3}\.(?:(?:in|out)_proj\.(?:weight|bias)|codebook\.weight)")
_UNIT_LAYERS = ("snake1", "conv1", "snake2", "conv2")


def convert(original: Original) -> tuple[dict[str, Any], dict[str, Tensor]] | None:
    """The (configuration, tensors) of an original DAC file as transformers would name them.

    Returns None when this is no DAC file at all.

    Raises CheckpointError when it is one, but nothing tells its sample rate, or it has unknown entries.
    """
    tensors, filename = original.tensors, original.filename
    ends = "encoder.block.0.weight" in tensors and "decoder.model.0.weight" in tensors
    if not ends or not any(map(_SNAKE_AT_THE_END.fullmatch, tensors)):
        return None
    kwargs = (original.inside("metadata") or {}).get("kwargs")
    if isinstance(kwargs, Mapping):
        config = _from_arguments(kwargs, filename)
    else:
        config = _from_sizes(tensors, filename)
        config["sampling_rate"] = _sampling_rate(config, original)
    rates = config["downsampling_ratios"]
    blocks = len(rates) if isinstance(rates, (list, tuple)) else 0
    return config, {rename(name, blocks, filename): tensor for name, tensor in tensors.items()}


def _from_arguments(kwargs: Mapping[str, Any], filename: str) -> dict[str, Any]:
    # The latents are as wide as the encoder unless a file says otherwise.
    missing = [name for name in _FIELDS if name not in kwargs and name != "latent_dim"]
    if missing:
        raise CheckpointError(f"{filename}: the kwargs of this DAC file lack {', '.join(missing)}")
    return {"model_type": "dac"} | {field: kwargs[name] for name, field in _FIELDS.items() if name in kwargs}


def _from_sizes(tensors: Mapping[str, Tensor], filename: str) -> dict[str, Any]:
    """All of a DacConfig but the sample rate, which no weight tells."""

    def size(name: str, axis: int) -> int:
        if name not in tensors or tensors[name].dim() <= axis:
            raise CheckpointError(f"{filename}: a DAC state dict without {name!r}, or with one of other dimensions")
        return tensors[name].shape[axis]

    def rates(half: str, inner: int) -> list[int]:
        # Every block has one strided convolution, whose kernel is twice its stride.
        found = (re.fullmatch(rf"{half}\.(\d{{1,2}})\.block\.{inner}\.weight", name) for name in tensors)
        places = sorted(int(match[1]) for match in found if match)
        return [size(f"{half}.{place}.block.{inner}.weight", 2) // 2 for place in places]

    down = rates("encoder.block", 4)
    books = {match[1] for match in map(re.compile(r"quantizer\.quantizers\.(\d{1,3})\..*").fullmatch, tensors) if match}
    return {
        "model_type": "dac",
        "encoder_hidden_size": size("encoder.block.0.weight", 0),
        "downsampling_ratios": down,
        "upsampling_ratios": rates("decoder.model", 1),
        "hidden_size": size(f"encoder.block.{len(down) + 2}.weight", 0),
        "decoder_hidden_size": size("decoder.model.0.weight", 0),
        "n_codebooks": len(books),
        "codebook_size": size("quantizer.quantizers.0.codebook.weight", 0),
        "codebook_dim": size("quantizer.quantizers.0.codebook.weight", 1),
    }


def _sampling_rate(sizes: Mapping[str, Any], original: Original) -> Any:
    """From the configuration that came with the weights, else that of the published model of these very sizes."""
    config = original.config
    if config is not None:
        if config.get("model_type") not in _MODEL_TYPES or "sampling_rate" not in config:
            raise CheckpointError(
                f"{original.filename}: a DAC state dict, whose config.json says model_type "
                f"{config.get('model_type')!r} and sampling_rate {config.get('sampling_rate')!r}; a DAC's says 'dac' "
                "and the sample rate in Hz"
            )
        return config["sampling_rate"]
    for rate, published in _PUBLISHED:
        if all(sizes[name] == value for name, value in published.items()):
            return rate
    raise CheckpointError(
        f"{original.filename}: a DAC state dict without metadata, and its sizes ({sizes['n_codebooks']} codebooks, "
        f"strides {sizes['downsampling_ratios']}) are not those of a published model. Its sample rate cannot be told "
        "from its weights: put it as pytorch_model.bin into a folder with a config.json such as "
        '{"model_type": "dac", "sampling_rate": 44100}, or save it as the original does, a dict of \'state_dict\' and '
        "'metadata', whose 'kwargs' are the arguments of its model"
    )


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
