"""The original X-Codec files (``xcodec_speech_wavlm_mls.pth`` and the like) in Hugging Face terms.

Source of the layout: `models/soundstream_semantic.py` of X-Codec (Ye et al. 2024). The file is a state dict that holds
the speech model too; which one that is and the bandwidths are in a YAML file that is published beside it.
"""

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ..errors import CheckpointError
from . import dac_original
from .original import Original

__all__ = ["convert"]

# What the YAML calls the speech model, in upstream's own spelling of "teacher"; all three are of the base size.
_SPEECH_MODELS = {"hubert_base": "hubert", "hubert_base_general": "hubert", "wavlm_base_plus": "wavlm"}
_FIELDS = ("ratios", "D", "target_bandwidths", "sample_rate", "bins", "semantic_techer")

_RENAMED = {"fc_prior.": "fc.", "fc_post1.": "fc1.", "fc_post2.": "fc2."}
_CODEBOOK = re.compile(r"quantizer\.vq\.layers\.(\d{1,3})\._codebook\.(embed|embed_avg|cluster_size|inited)")
# Convolutions of the semantic branch sit in wrappers that add one more ".conv".
_WRAPPED = re.compile(r"\b(conv\d?)\.conv\.")


def convert(original: Original) -> tuple[dict[str, Any], dict[str, Tensor]] | None:
    """The (configuration, tensors) of an original X-Codec file as transformers would name them.

    Returns None when this is no X-Codec file at all.

    Raises CheckpointError when it is one, but without its YAML file or with unknown entries.
    """
    tensors, filename = original.tensors, original.filename
    if "fc_prior.weight" not in tensors or "decoder_2.model.0.weight" not in tensors:
        return None
    published = yaml_name(filename)
    found = original.beside((f"{filename.rpartition('.')[0]}.yaml", published))
    settings = _generator(found, filename, published)
    ratios = settings["ratios"]
    blocks = len(ratios) if isinstance(ratios, (list, tuple)) else 0
    renamed = {_rename(name, blocks, filename): tensor for name, tensor in tensors.items()}
    renamed.pop(None, None)
    config = _config(settings, tensors)
    if found is not None and "audio_norm_scale" in found:
        config["audio_norm_scale"] = found["audio_norm_scale"]
    return config, {name: tensor for name, tensor in renamed.items() if name is not None}


def yaml_name(filename: str) -> str:
    """The YAML file that upstream publishes for a checkpoint of this name."""
    if "wavlm" in filename:
        return "config_wavlm.yaml"
    return "config_hubert_general.yaml" if "general" in filename else "config_hubert.yaml"


def _generator(settings: Mapping[str, Any] | None, filename: str, published: str) -> Mapping[str, Any]:
    if settings is None:
        raise CheckpointError(
            f"{filename}: an X-Codec state dict without its configuration; put the YAML file that is published with it "
            f"({published}, from the same repository) into the same folder"
        )
    generator = settings.get("generator")
    values = generator.get("config") if isinstance(generator, Mapping) else None
    if not isinstance(values, Mapping):
        raise CheckpointError(f"{filename}: the YAML file beside it has no mapping generator.config; is it X-Codec's?")
    if missing := [name for name in _FIELDS if name not in values]:
        raise CheckpointError(f"{filename}: generator.config in the YAML file beside it lacks {', '.join(missing)}")
    if not isinstance(values["semantic_techer"], str) or values["semantic_techer"] not in _SPEECH_MODELS:
        raise CheckpointError(
            f"{filename}: the YAML file beside it says semantic_techer: {values['semantic_techer']!r}; known are "
            f"{', '.join(_SPEECH_MODELS)}"
        )
    return values


def _config(settings: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    return {
        "model_type": "xcodec",
        "target_bandwidths": settings["target_bandwidths"],
        "sample_rate": settings["sample_rate"],
        "codebook_size": settings["bins"],
        "acoustic_model_config": {
            "encoder_hidden_size": _size(tensors, "encoder.block.0.weight"),
            "decoder_hidden_size": _size(tensors, "decoder_2.model.0.weight"),
            "hidden_size": settings["D"],
            "sampling_rate": settings["sample_rate"],
            "downsampling_ratios": settings["ratios"],
            "upsampling_ratios": settings["ratios"],
        },
        "semantic_model_config": _speech(settings["semantic_techer"], tensors),
    }


def _speech(name: str, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """The base model's configuration (transformers' defaults); its sizes are those of the weights."""
    prefix = "semantic_model."
    count = len({key.split(".")[3] for key in tensors if key.startswith(f"{prefix}encoder.layers.")})
    found: dict[str, Any] = {
        "hidden_size": _size(tensors, f"{prefix}encoder.layer_norm.weight"),
        "intermediate_size": _size(tensors, f"{prefix}encoder.layers.0.feed_forward.intermediate_dense.weight"),
        "num_hidden_layers": count,
        "num_conv_pos_embeddings": _size(tensors, f"{prefix}encoder.pos_conv_embed.conv.weight", -1),
    }
    sizes = [_size(tensors, f"{prefix}feature_extractor.conv_layers.{i}.conv.weight") for i in range(7)]
    if all(sizes):
        found["conv_dim"] = sizes
    return {"model_type": _SPEECH_MODELS[name]} | {key: value for key, value in found.items() if value}


def _size(tensors: Mapping[str, Tensor], name: str, axis: int = 0) -> int:
    """A dimension of an entry; 0 where there is none, which is found out when all of them are taken."""
    tensor = tensors.get(name)
    return 0 if tensor is None or tensor.dim() == 0 else tensor.shape[axis]


def _rename(name: str, blocks: int, filename: str) -> str | None:
    """The new name; None for what belongs to no part of the codec, which upstream's own conversion leaves out too."""
    for old, new in _RENAMED.items():
        if name.startswith(old):
            return new + name.removeprefix(old)
    if name.startswith(("encoder_semantic.", "decoder_semantic.")):
        return _WRAPPED.sub(r"\1.", name)
    if name.startswith("semantic_model."):
        return name
    if found := _CODEBOOK.fullmatch(name):
        return f"quantizer.quantizers.{found[1]}.codebook.{found[2]}"
    for old, half in (("encoder.", "encoder."), ("decoder_2.", "decoder.")):
        if name.startswith(old):
            try:
                return f"acoustic_{dac_original.rename(half + name.removeprefix(old), blocks, filename)}"
            except CheckpointError:
                break
    else:
        if not name.startswith("quantizer."):
            return None
    raise CheckpointError(f"{filename}: unknown entry {name!r} in what is otherwise an X-Codec state dict")
