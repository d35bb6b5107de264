"""Blend two codecs of one shape: the weights between theirs.

A codec and what a further training made of it are joined by a line of good codecs. Half-way, most of what the training
gained is there, and less of what it cost (Wortsman et al. 2022, "Robust fine-tuning of zero-shot models"). Two codecs
from different random weights have no such line between them.
"""

from collections.abc import Mapping
from typing import Any

import torch

from ..codecs import Codec
from ..errors import ConfigError

__all__ = ["blend"]

_PRECISION = "dtype"  # of the file, not of the codec


def _shape(config: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in config.items() if name != _PRECISION}


@torch.no_grad()
def blend(codec: Codec, other: Codec, share: float) -> Codec:
    """`codec` itself, each of its weights and codebook entries moved by `share` of the way to that of `other`.

    share: 0 leaves `codec` as it is, 1 makes it `other`. Raises ConfigError unless it lies between, and where the two
    differ in more than their weights.
    """
    if not 0 <= share <= 1:
        raise ConfigError(f"the share is {share:g}; it must be from 0, the first codec, to 1, the second")
    one, two = _shape(codec.to_huggingface()[0]), _shape(other.to_huggingface()[0])
    different = sorted(name for name in one.keys() | two.keys() if one.get(name) != two.get(name))
    if different:
        found = ", ".join(f"{name} ({one.get(name)!r} and {two.get(name)!r})" for name in different)
        raise ConfigError(f"only codecs of one shape can be blended; these differ in {found}")
    for parameter, aim in zip(codec.parameters(), other.parameters(), strict=True):
        parameter.lerp_(aim, share)
    codec.quantizer.set_codebooks(codec.quantizer.codebooks.lerp(other.quantizer.codebooks, share))
    return codec
