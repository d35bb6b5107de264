"""The files of Pocket TTS (``model.safetensors`` of the package ``pocket-tts``) in Hugging Face terms.

Source of the layout: `pocket_tts.models.mimi` of the ``pocket-tts`` package. The tokenizer is the part of such a file
under ``mimi.``. Rotary positions are as in moshi's files (see `mimi_original`). Weights do not tell the number of
heads; it is that of the published model, or a config.json's.
"""

import re
from typing import Any

from torch import Tensor

from ..errors import CheckpointError
from .mimi_original import queries_keys_values, size_of
from .original import Original
from .pocket_tts import MODEL_TYPE, PocketTtsConfig

__all__ = ["convert"]

_LAYER = r"(?P<half>encoder|decoder)_transformer\.transformer\.layers\.(?P<place>\d{1,3})\."
_OURS = "{half}.{half}_transformer.layers.{place}."
_RENAMED = tuple(
    (re.compile(pattern), target)
    for pattern, target in (
        (
            r"(?P<half>encoder|decoder)\.model\.(?P<place>\d{1,3}(?:\.block\.\d)?)\.(?:conv|convtr)\.(?P<kind>weight|bias)",
            "{half}.{half}_seanet.layers.{place}.conv.{kind}",
        ),
        (r"downsample\.conv\.conv\.weight", "encoder.downsample.conv.weight"),
        (r"upsample\.convtr\.convtr\.weight", "decoder.upsample.conv.weight"),
        (r"quantizer\.output_proj\.weight", "latent_proj.weight"),
        (_LAYER + r"self_attn\.out_proj\.weight", _OURS + "self_attn.o_proj.weight"),
        (_LAYER + r"norm1\.(?P<kind>weight|bias)", _OURS + "input_layernorm.{kind}"),
        (_LAYER + r"norm2\.(?P<kind>weight|bias)", _OURS + "post_attention_layernorm.{kind}"),
        (_LAYER + r"linear(?P<kind>1|2)\.weight", _OURS + "mlp.fc{kind}.weight"),
        (_LAYER + r"layer_scale_1\.scale", _OURS + "self_attn_layer_scale.scale"),
        (_LAYER + r"layer_scale_2\.scale", _OURS + "mlp_layer_scale.scale"),
    )
)
_INPUTS = re.compile(_LAYER + r"self_attn\.in_proj(?:\.|_)weight")


def convert(original: Original) -> tuple[dict[str, Any], dict[str, Tensor]] | None:
    """The (configuration, tensors) of a file of Pocket TTS as transformers would name them.

    Returns None when this is no such file at all.

    Raises CheckpointError when it is one, but with unknown entries, of another size than the published one without a
    config.json, or with an encoder whose latents are not those that its decoder takes. Missing entries are found when
    the codec is built.
    """
    if not {"quantizer.output_proj.weight", "downsample.conv.conv.weight"} <= original.tensors.keys():
        return None
    config = _configuration(original)
    renamed: dict[str, Tensor] = {}
    for name, tensor in original.tensors.items():
        if match := _INPUTS.fullmatch(name):
            path = (_OURS + "self_attn").format(**match.groupdict())
            renamed |= queries_keys_values(path, tensor, config["num_attention_heads"])
        else:
            renamed[_rename(name, original.filename)] = tensor
    return config, renamed


def _rename(name: str, filename: str) -> str:
    for pattern, target in _RENAMED:
        if match := pattern.fullmatch(name):
            return target.format(**match.groupdict())
    raise CheckpointError(f"{filename}: a file of Pocket TTS, but with an unknown entry {name!r}")


def _configuration(original: Original) -> dict[str, Any]:
    """That of a config.json, or the published one where all sizes are its."""
    given, tensors = original.config, original.tensors
    latents, taken = (
        size_of(tensors, "downsample.conv.conv.weight", 0),
        size_of(tensors, "quantizer.output_proj.weight", 1),
    )
    if latents != taken:
        raise CheckpointError(
            f"{original.filename}: its encoder gives {latents} channels and its decoder takes {taken}: what this "
            "encoder gives are no latents of this decoder (as in models whose encoder is for cloning voices alone)"
        )
    if given is not None and given.get("model_type") == MODEL_TYPE:
        return PocketTtsConfig.from_dict(given).to_dict()
    published = PocketTtsConfig()
    found = {
        "hidden_size": size_of(tensors, "downsample.conv.conv.weight", 1),
        "latent_dim": latents,
        "latent_stride": size_of(tensors, "downsample.conv.conv.weight", 2) // 2,
        "num_filters": size_of(tensors, "encoder.model.0.conv.weight", 0),
    }
    differs = [f"{name} {size}" for name, size in found.items() if size not in (0, getattr(published, name))]
    if differs:
        raise CheckpointError(
            f"{original.filename}: a file of Pocket TTS, but not the published model: it has {', '.join(differs)}. Its "
            "number of heads and its sample rate cannot be told from its weights: put it as model.safetensors into a "
            "folder with a config.json of transformers' PocketTTSAudioTokenizerConfig"
        )
    return published.to_dict()
