"""Factorised residual vector quantization: each stage looks up in a space of few dimensions, by direction alone.

Source: Kumar et al. 2023, "High-Fidelity Audio Compression with Improved RVQGAN", section 3.2; factorised and
L2-normalised codes are from Yu et al. 2021 (ViT-VQGAN), section 3.2.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["FactorisedQuantizer"]


class FactorisedQuantizer(nn.Module):
    """Stages of: project down, take the entry of the nearest direction, project up, pass on what is left.

    codebooks: [K, N, d], stage, entry, dimension of the look-up; in_weight: [K, D, d], in_bias: [K, d]; out_weight:
    [K, d, D], out_bias: [K, D]; directions: [K, N, d], the entries at length 1; dimension: D.
    """

    codebooks: Tensor
    directions: Tensor

    def __init__(self, num_codebooks: int, codebook_size: int, codebook_dim: int, dimension: int):
        super().__init__()
        self.dimension = dimension
        self.in_weight = nn.Parameter(torch.randn(num_codebooks, dimension, codebook_dim) / math.sqrt(dimension))
        self.in_bias = nn.Parameter(torch.zeros(num_codebooks, codebook_dim))
        self.out_weight = nn.Parameter(torch.randn(num_codebooks, codebook_dim, dimension) / math.sqrt(codebook_dim))
        self.out_bias = nn.Parameter(torch.zeros(num_codebooks, dimension))
        entries = torch.randn(num_codebooks, codebook_size, codebook_dim)
        self.register_buffer("codebooks", entries)
        self.register_buffer("directions", F.normalize(entries, dim=2), persistent=False)

    def set_codebooks(self, codebooks: Tensor) -> None:
        """Take new entries, [K, N, d]."""
        self.codebooks.copy_(codebooks)
        self.directions.copy_(F.normalize(self.codebooks, dim=2))

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> "FactorisedQuantizer":
        super()._apply(fn, recurse)
        # In another element type the lengths are 1 to that type's precision, not to the old one's.
        self.directions = F.normalize(self.codebooks, dim=2)
        return self

    @torch.no_grad()
    def encode(self, latents: Tensor, num_codebooks: int) -> Tensor:
        """[B, T, D] to codes [B, T, K] with the first `num_codebooks` stages; the lowest index on ties."""
        residual, codes = latents.reshape(-1, self.dimension), []
        for stage in range(num_codebooks):
            projected = torch.addmm(self.in_bias[stage], residual, self.in_weight[stage])
            codes.append(self._nearest(projected, self.directions[stage]))
            if stage + 1 < num_codebooks:
                entries = self.codebooks[stage].index_select(0, codes[-1])
                # Upstream's straight-through sum. It is not the entry to the last bit, and the next stage sees that.
                entries = projected + (entries - projected)
                residual = residual - torch.addmm(self.out_bias[stage], entries, self.out_weight[stage])
        return torch.stack(codes, 1).view(*latents.shape[:-1], num_codebooks)

    @staticmethod
    def _nearest(projected: Tensor, directions: Tensor) -> Tensor:
        """Rows [M, d] to indices [M], in upstream's order of operations: near ties then mostly fall as there."""
        unit = F.normalize(projected)
        distance = unit.square().sum(1, keepdim=True) - 2 * unit @ directions.mT
        return (directions.square().sum(1) - distance).argmax(1)  # documented to return the first of several maxima

    def decode(self, codes: Tensor) -> Tensor:
        """Codes [B, T, K], K at most the number of stages, to latents [B, T, D]."""
        stages, size = codes.shape[-1], self.codebooks.shape[1]
        first = torch.arange(0, stages * size, size, device=codes.device)
        entries = F.embedding(codes + first, self.codebooks.flatten(0, 1))
        # The sum of the stages' projections, as one product over all of their dimensions.
        rows = entries.reshape(-1, stages * self.codebooks.shape[2])
        weight, bias = self.out_weight[:stages].flatten(0, 1), self.out_bias[:stages].sum(0)
        return torch.addmm(bias, rows, weight).view(*codes.shape[:-1], self.dimension)
