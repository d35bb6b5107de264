"""Quantizers in two parts that see the same latents: Mimi's (Défossez et al. 2024, "Moshi", section 3.3.2)."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import ops
from .quantize import ResidualVectorQuantizer, StraightThrough, entries_of

__all__ = ["SplitQuantizer", "TranslatingQuantizer"]


class SplitQuantizer(ResidualVectorQuantizer):
    """The first codebooks (semantic) quantize the latents, and so do the others (acoustic); what both give is added.

    down: [2, D, d], up: [2, d, D], the products before and after each part; codebooks: [K, N, d], those of both; first:
    how many are the semantic part's; dimension: D.
    """

    def __init__(self, first: int, num_codebooks: int, codebook_size: int, codebook_dim: int, dimension: int):
        super().__init__(num_codebooks, codebook_size, codebook_dim)
        self.first, self.dimension = first, dimension
        self.down = nn.Parameter(torch.randn(2, dimension, codebook_dim) / math.sqrt(dimension))
        self.up = nn.Parameter(torch.randn(2, codebook_dim, dimension) / math.sqrt(codebook_dim))

    def entries(self, used: slice) -> Tensor:
        """What the codes of the codebooks `used` stand for, [K, N, d]."""
        return self.codebooks[used]

    def parts(self, count: int) -> list[tuple[int, slice]]:
        """The parts that `count` codebooks are of, and which they are."""
        parts = [(0, slice(min(self.first, count)))]
        return parts if count <= self.first else [*parts, (1, slice(self.first, count))]

    def encode(self, latents: Tensor, num_codebooks: int) -> Tensor:
        """[B, T, D] to codes [B, T, K] with the first `num_codebooks` stages."""
        each = self.parts(num_codebooks)
        return torch.cat([self._search(self._project(latents, self.down[part]), used) for part, used in each], -1)

    def decode(self, codes: Tensor) -> Tensor:
        """Codes [B, T, K], K at most the number of stages, to latents [B, T, D]."""
        backend = ops.backend_of("rvq_decode", self.backend, self.entries(slice(0)))
        parts = self.parts(codes.shape[-1])
        each = [(ops.rvq_decode(codes[..., used], self.entries(used), backend=backend), part) for part, used in parts]
        first, *second = (self._project(entries, self.up[part]) for entries, part in each)
        return first + second[0] if second else first

    def _project(self, x: Tensor, weight: Tensor) -> Tensor:
        return ops.project(x, weight, backend=ops.backend_of("project", self.backend, x, weight))

    def stages(self, codes: Tensor) -> Tensor:
        """Codes [B, T, K] to what each stage adds to the latents, [B, T, K, D]."""
        parts = self.parts(codes.shape[-1])
        each = [entries_of(self.entries(used), codes[..., used]) @ self.up[part] for part, used in parts]
        return torch.cat(each, 2)

    def straight_through(self, latents: Tensor, num_codebooks: int) -> StraightThrough:
        """`encode` and `decode` of [B, T, D], with gradients: those of the result are those of the latents."""
        with torch.no_grad():
            codes = self.encode(latents, num_codebooks)
            taken = self.decode(codes)
        parts = []
        for part, used in self.parts(num_codebooks):
            entries = entries_of(self.codebooks[used], codes[..., used])
            before = F.pad(entries.detach().cumsum(2)[:, :, :-1], (0, 0, 1, 0))
            parts.append(((latents @ self.down[part])[:, :, None] - before, entries))
        looked_up, entries = (torch.cat(each, 2) for each in zip(*parts, strict=True))
        return StraightThrough(latents + (taken - latents).detach(), codes, looked_up, entries)


class TranslatingQuantizer(SplitQuantizer):
    """A `SplitQuantizer` whose codes stand for other entries than those that they were found by: the latents before it
    and after it are not the same space, though both have D channels.

    meanings: [K, N, e], what each code stands for; up: [2, e, D].
    """

    meanings: Tensor

    def __init__(
        self, first: int, num_codebooks: int, codebook_size: int, codebook_dim: int, meaning_dim: int, dimension: int
    ):
        super().__init__(first, num_codebooks, codebook_size, codebook_dim, dimension)
        self.register_buffer("meanings", torch.randn(num_codebooks, codebook_size, meaning_dim))
        self.up = nn.Parameter(torch.randn(2, meaning_dim, dimension) / math.sqrt(meaning_dim))

    def entries(self, used: slice) -> Tensor:
        return self.meanings[used]
