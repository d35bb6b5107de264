"""Moshi's own Mimi files (``tokenizer-e351c8d8-checkpoint125.safetensors``) in Hugging Face terms.

Source of the layout: `moshi.models.loaders.get_mimi` of the ``moshi`` package (Défossez et al. 2024). Its rotary
positions turn neighbouring values of a head together, transformers' value i and i + d / 2: the rows of queries and keys
are in another order. Weights do not tell the number of heads; it is that of the published model, or a config.json's.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from ..errors import CheckpointError
from .mimi_config import DEFAULT_CODEBOOKS_KEY, MimiConfig
from .original import Original

__all__ = ["convert", "for_moshi", "queries_keys_values", "size_of"]

DEFAULT_CODEBOOKS = 8  # of `get_mimi`, where none are asked for

_LAYER = r"(?P<half>encoder|decoder)_transformer\.transformer\.layers\.(?P<place>\d{1,3})\."
_CONV = r"(?P<half>encoder|decoder)\.model\.(?P<place>\d{1,3}(?:\.block\.\d)?)"
_RENAMED = tuple(
    (re.compile(pattern), target)
    for pattern, target in (
        (_CONV + r"\.(?:conv\.conv|convtr\.convtr)\.(?P<kind>weight|bias)", "{half}.layers.{place}.conv.{kind}"),
        (r"downsample\.conv\.conv\.conv\.weight", "downsample.conv.weight"),
        (r"upsample\.convtr\.convtr\.convtr\.weight", "upsample.conv.weight"),
        (
            _LAYER + r"self_attn\.out_proj(?:s\.0)?\.weight",
            "{half}_transformer.layers.{place}.self_attn.o_proj.weight",
        ),
        (_LAYER + r"norm1\.(?P<kind>weight|bias)", "{half}_transformer.layers.{place}.input_layernorm.{kind}"),
        (_LAYER + r"norm2\.(?P<kind>weight|bias)", "{half}_transformer.layers.{place}.post_attention_layernorm.{kind}"),
        (_LAYER + r"linear(?P<kind>1|2)\.weight", "{half}_transformer.layers.{place}.mlp.fc{kind}.weight"),
        (_LAYER + r"layer_scale_1\.scale", "{half}_transformer.layers.{place}.self_attn_layer_scale.scale"),
        (_LAYER + r"layer_scale_2\.scale", "{half}_transformer.layers.{place}.mlp_layer_scale.scale"),
    )
)
_INPUTS = re.compile(_LAYER + r"self_attn\.in_proj(?:s\.0\.|_|\.)weight")
_QUANTIZER = re.compile(
    r"quantizer\.rvq_(?P<part>first|rest)\."
    r"(?:(?P<proj>input_proj|output_proj)\.weight|vq\.layers\.(?P<place>\d{1,3})\._codebook\.(?P<kind>\w+))"
)
_PARTS = {"first": "semantic", "rest": "acoustic"}
_CODEBOOK = {"embedding_sum": "embed_sum", "cluster_usage": "cluster_usage", "_initialized": "initialized"}


def convert(original: Original) -> tuple[dict[str, Any], dict[str, Tensor]] | None:
    """The (configuration, tensors) of a Mimi file of moshi as transformers would name them.

    Returns None when this is no such file at all.

    Raises CheckpointError when it is one, but with unknown entries, or of another size than the published one without a
    config.json. Missing entries are found when the codec is built.
    """
    if not any(name.startswith("quantizer.rvq_first.") for name in original.tensors):
        return None
    config = _configuration(original)
    heads = config["num_attention_heads"]
    renamed: dict[str, Tensor] = {}
    for name, tensor in original.tensors.items():
        match = _INPUTS.fullmatch(name)
        if match:
            renamed |= queries_keys_values(
                "{half}_transformer.layers.{place}.self_attn".format(**match.groupdict()), tensor, heads
            )
        else:
            renamed[_rename(name, original.filename)] = tensor
    return config, renamed


def queries_keys_values(path: str, tensor: Tensor, heads: int) -> dict[str, Tensor]:
    """Queries, keys and values apart, the rows of the first two in transformers' order."""
    parts = dict(zip("qkv", tensor.chunk(3), strict=False))
    turned = {name: part for name, part in parts.items() if name != "v" and part.shape[0] % (2 * heads) == 0}
    for name, part in turned.items():
        parts[name] = part.unflatten(0, (heads, -1, 2)).transpose(1, 2).flatten(0, 2)
    return {f"{path}.{name}_proj.weight": part.contiguous() for name, part in parts.items()}


def for_moshi(names: Iterable[str], tensors: Mapping[str, Tensor], heads: int) -> dict[str, Tensor]:
    """The other way: for each of moshi's `names` its tensor, of those under transformers' names.

    Raises KeyError for one that is not among them, CheckpointError for a name that is none of a Mimi.
    """
    found = {}
    for name in names:
        match = _INPUTS.fullmatch(name)
        if match:
            path = "{half}_transformer.layers.{place}.self_attn".format(**match.groupdict())
            query, key, value = (tensors[f"{path}.{part}_proj.weight"] for part in "qkv")
            turned = [part.unflatten(0, (heads, 2, -1)).transpose(1, 2).flatten(0, 2) for part in (query, key)]
            found[name] = torch.cat([*turned, value])
        else:
            found[name] = tensors[_rename(name, "moshi")]
    return found


def _rename(name: str, filename: str) -> str:
    for pattern, target in _RENAMED:
        if match := pattern.fullmatch(name):
            return target.format(**match.groupdict())
    match = _QUANTIZER.fullmatch(name)
    if match and match["proj"]:
        return f"quantizer.{_PARTS[match['part']]}_residual_vector_quantizer.{match['proj']}.weight"
    if match and match["kind"] in _CODEBOOK:
        place = f"{_PARTS[match['part']]}_residual_vector_quantizer.layers.{match['place']}"
        return f"quantizer.{place}.codebook.{_CODEBOOK[match['kind']]}"
    raise CheckpointError(f"{filename}: a Mimi file of moshi's, but with an unknown entry {name!r}")


def _configuration(original: Original) -> dict[str, Any]:
    """That of a config.json, or the published one where all sizes are its."""
    books = sum(bool(re.fullmatch(r".*\._codebook\.embedding_sum", name)) for name in original.tensors)
    given = original.config
    if given is not None and given.get("model_type") == "mimi":
        return MimiConfig.from_dict({DEFAULT_CODEBOOKS_KEY: min(DEFAULT_CODEBOOKS, books), **given}).to_dict()
    published = MimiConfig(num_quantizers=max(2, books), default_codebooks=min(DEFAULT_CODEBOOKS, max(2, books)))
    found = {
        "hidden_size": size_of(original.tensors, "downsample.conv.conv.conv.weight", 0),
        "num_filters": size_of(original.tensors, "encoder.model.0.conv.conv.weight", 0),
        "codebook_size": size_of(original.tensors, "quantizer.rvq_first.vq.layers.0._codebook.embedding_sum", 0),
        "codebook_dim": size_of(original.tensors, "quantizer.rvq_first.vq.layers.0._codebook.embedding_sum", 1),
    }
    differs = [f"{name} {size}" for name, size in found.items() if size not in (0, getattr(published, name))]
    if differs:
        raise CheckpointError(
            f"{original.filename}: a Mimi file of moshi's, but not the published model: it has {', '.join(differs)}. "
            "Its number of heads and its sample rate cannot be told from its weights: put it as model.safetensors into "
            "a folder with a config.json of transformers' MimiConfig"
        )
    return published.to_dict()


def size_of(tensors: Mapping[str, Tensor], name: str, dimension: int) -> int:
    """A size of an entry, 0 where there is none."""
    tensor = tensors.get(name, torch.zeros(()))
    return tensor.shape[dimension] if tensor.ndim > dimension else 0
