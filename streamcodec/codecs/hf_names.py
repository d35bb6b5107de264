"""What several families have in common in the files of transformers: codebooks, and weights that are kept normed."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from ..nn.quantize import ResidualVectorQuantizer
from .tensors import TensorReader

__all__ = ["affordable_codebooks", "codebook_tensors", "split_weight_norm", "take_codebooks"]

# The state of training, which transformers expects to find beside the entries.
_TRAINING = ("embed_avg", "cluster_size", "inited")


def take_codebooks(reader: TensorReader, quantizer: ResidualVectorQuantizer, stages: str) -> None:
    """The entries of every stage. stages: how transformers calls the list of them, as "quantizer.layers"."""
    entries = []
    for prefix, codebook in _codebooks(quantizer, stages):
        embed = reader.take(f"{prefix}.embed", tuple(codebook.shape))
        entries.append(codebook if embed is None else embed)
        reader.drop(*(f"{prefix}.{name}" for name in _TRAINING))
    quantizer.set_codebooks(torch.stack(entries))


def codebook_tensors(quantizer: ResidualVectorQuantizer, stages: str) -> dict[str, Tensor]:
    """The inverse of `take_codebooks`."""
    tensors: dict[str, Tensor] = {}
    for prefix, embed in _codebooks(quantizer, stages):
        state = (embed, embed.new_ones(len(embed)), embed.new_ones(1))
        tensors |= {f"{prefix}.embed": embed}
        tensors |= {f"{prefix}.{name}": value for name, value in zip(_TRAINING, state, strict=True)}
    return tensors


def _codebooks(quantizer: ResidualVectorQuantizer, stages: str) -> Iterator[tuple[str, Tensor]]:
    for stage, codebook in enumerate(quantizer.codebooks):
        yield f"{stages}.{stage}.codebook", codebook


def split_weight_norm(weight: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """Norm and direction of a plain weight, as torch's weight norm keeps them. axis: the one that is not summed over.

    The direction is the weight itself, and the norm is taken by the routine that merges them again
    (w = v * (g / norm)), so that the weight comes back to the bit.
    """
    sizes = [size if i == axis else 1 for i, size in enumerate(weight.shape)]
    norm = torch._weight_norm_interface(weight, weight.new_ones(sizes), axis)[1].view(sizes)
    # A slice of zeros has no direction: any will do, at length 0.
    return norm, torch.where(norm == 0, 1.0, weight)


def affordable_codebooks(kbps: float, frame_rate: int, codebook_size: int) -> int:
    """Stages that a bandwidth pays for, as EnCodec counts them."""
    return int(1000 * kbps // (frame_rate * math.ceil(math.log2(codebook_size))))
