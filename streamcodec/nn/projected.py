"""A residual quantizer whose stages look up in fewer dimensions, by distance: that of Higgs Audio's tokenizer."""

import math

import torch
from torch import Tensor, nn

from .. import ops
from .quantize import ResidualVectorQuantizer, StraightThrough, entries_of

__all__ = ["ProjectedQuantizer"]


class ProjectedQuantizer(ResidualVectorQuantizer):
    """Each stage projects what is left, takes the nearest entry (euclidean), and passes on what that projected back
    leaves over.

    codebooks: [K, N, d]; in_weight: [K, D, d], in_bias: [K, d], the projections before the look-up; out_weight:
    [K, d, D], out_bias: [K, D], those after it; dimension: D.
    """

    def __init__(self, num_codebooks: int, codebook_size: int, codebook_dim: int, dimension: int):
        super().__init__(num_codebooks, codebook_size, codebook_dim)
        self.dimension = dimension
        self.in_weight = nn.Parameter(torch.randn(num_codebooks, dimension, codebook_dim) / math.sqrt(dimension))
        self.in_bias = nn.Parameter(torch.zeros(num_codebooks, codebook_dim))
        self.out_weight = nn.Parameter(torch.randn(num_codebooks, codebook_dim, dimension) / math.sqrt(codebook_dim))
        self.out_bias = nn.Parameter(torch.zeros(num_codebooks, dimension))

    def encode(self, latents: Tensor, num_codebooks: int) -> Tensor:
        codes, left = [], latents
        for stage in range(num_codebooks):
            codes.append(self._search(self._down(left, stage), slice(stage, stage + 1)))
            left = left - self._up(self._entries(codes[-1], stage), stage)
        return torch.cat(codes, -1)

    def decode(self, codes: Tensor) -> Tensor:
        latents = self._up(self._entries(codes[..., :1], 0), 0)
        for stage in range(1, codes.shape[-1]):
            latents = latents + self._up(self._entries(codes[..., stage : stage + 1], stage), stage)
        return latents

    def stages(self, codes: Tensor) -> Tensor:
        count = codes.shape[-1]
        entries = entries_of(self.codebooks, codes)
        return torch.einsum("btkd,kde->btke", entries, self.out_weight[:count]) + self.out_bias[:count]

    def straight_through(self, latents: Tensor, num_codebooks: int) -> StraightThrough:
        with torch.no_grad():
            codes = self.encode(latents, num_codebooks)
        entries, looked_up, left = entries_of(self.codebooks, codes), [], latents
        taken = torch.zeros_like(latents)
        for stage in range(num_codebooks):
            looked_up.append(self._down(left, stage))
            found = looked_up[-1] + (entries[:, :, stage] - looked_up[-1]).detach()
            added = self._up(found, stage)
            taken, left = taken + added, left - added
        return StraightThrough(taken, codes, torch.stack(looked_up, 2), entries)

    def _entries(self, codes: Tensor, stage: int) -> Tensor:
        """Codes [B, T, 1] to the entries of one stage, [B, T, d]."""
        backend = ops.backend_of("rvq_decode", self.backend, self.codebooks)
        return ops.rvq_decode(codes, self.codebooks[stage : stage + 1], backend=backend)

    def _down(self, latents: Tensor, stage: int) -> Tensor:
        return latents @ self.in_weight[stage] + self.in_bias[stage]

    def _up(self, entries: Tensor, stage: int) -> Tensor:
        return entries @ self.out_weight[stage] + self.out_bias[stage]
