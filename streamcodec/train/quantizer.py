"""Residual vector quantisation while its codebooks are learnt: k-means start, moving averages, revival.

Codebooks follow the encoder by exponential moving averages (van den Oord et al. 2017, appendix A.1); gradients pass
straight through; a random number of codebooks is used per batch row (quantizer dropout), so that one model serves every
bandwidth (Zeghidour et al. 2021, section III.C). Entries that go out of use are moved onto vectors of the current
batch: without that a codebook collapses onto a few entries. Generators draw on the CPU, wherever the codebooks are.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

__all__ = ["CodebookLearner", "Nearest", "Quantized", "k_means", "lloyd", "nearest", "perplexity"]

Nearest = Callable[[Tensor, Tensor], Tensor]  # rows [M, D] and entries [N, D] to the index of each row's entry, [M]


class Quantized(NamedTuple):
    """latents: [B, T, D] with straight-through gradients.

    codes: [K, B * T]; residuals: [K, B * T, D], what each codebook was given. commitment: scalar, relative to the
    variance of the encoder's output, so that shrinking the output does not lower it.
    """

    latents: Tensor
    codes: Tensor
    residuals: Tensor
    commitment: Tensor


def nearest(x: Tensor, codebook: Tensor) -> Tensor:
    """Index of the closest entry of `codebook` [N, D] for each row of `x` [M, D]."""
    # |x - c|^2 without |x|^2, which is the same for every entry.
    return (codebook.square().sum(1) - 2 * x @ codebook.T).argmin(1)


def k_means(x: Tensor, entries: int, iterations: int, generator: torch.Generator, nearest: Nearest = nearest) -> Tensor:
    """Centroids [entries, D] of the rows of `x` [M, D], M >= 1; an empty cluster restarts on a random row."""
    rows = torch.randperm(x.shape[0], generator=generator).to(x.device)
    # Fewer rows than entries: rows repeat.
    return lloyd(x, x[rows.repeat(-(-entries // len(rows)))[:entries]].clone(), iterations, generator, nearest)


def lloyd(
    x: Tensor, centroids: Tensor, iterations: int, generator: torch.Generator, nearest: Nearest = nearest
) -> Tensor:
    """Centroids [N, D] moved to the means of the rows of `x` [M, D] that are nearest to them, some times over."""
    entries = len(centroids)
    for _ in range(iterations):
        codes = nearest(x, centroids)
        counts = torch.bincount(codes, minlength=entries).to(x.dtype)
        sums = torch.zeros_like(centroids).index_add_(0, codes, x)
        empty = counts == 0
        centroids = sums / counts.clamp_min(1)[:, None]
        drawn = torch.randint(x.shape[0], (entries,), generator=generator).to(x.device)
        centroids[empty] = x[drawn[empty]]
    return centroids


def perplexity(counts: Tensor) -> Tensor:
    """Effective number of entries in use, [...] from counts [..., N]: exp of the entropy; N when used evenly."""
    share = counts / counts.sum(-1, keepdim=True).clamp_min(1e-12)
    return torch.exp(torch.special.entr(share).sum(-1))


class CodebookLearner(nn.Module):
    """Learns residual codebooks [K, N, D].

    decay: of the moving averages, per batch. dead: an entry whose average use falls under this share of even use is
    revived. counts, sums: the averages, [K, N] relative to even use and [K, N, D]; variance: of the encoder's output.

    What a stage looks up in, and what an entry then takes away, is that of EnCodec's quantiser: all of what is left,
    the nearest entry, and the entry itself. A kind that does it otherwise overrides `look_up`, `nearest`, `taken`.
    """

    codebooks: Tensor
    counts: Tensor
    sums: Tensor
    variance: Tensor

    def __init__(self, num_codebooks: int, entries: int, dimension: int, decay: float = 0.99, dead: float = 0.1):
        super().__init__()
        self.decay, self.dead = decay, dead
        self.register_buffer("codebooks", torch.zeros(num_codebooks, entries, dimension))
        self.register_buffer("counts", torch.zeros(num_codebooks, entries))
        self.register_buffer("sums", torch.zeros(num_codebooks, entries, dimension))
        self.register_buffer("variance", torch.ones(()))

    @torch.no_grad()
    def start(self, latents: Tensor, generator: torch.Generator, iterations: int = 10) -> None:
        """K-means on encoder outputs [M, D], each codebook on what the ones before it left."""
        entries = self.codebooks.shape[1]
        self._fit(latents, lambda _, given: k_means(given, entries, iterations, generator, self.nearest))

    @torch.no_grad()
    def refit(self, latents: Tensor, generator: torch.Generator, iterations: int) -> None:
        """Fit the codebooks that stand to encoder outputs [M, D], each to what the ones before it leave."""
        books = self.codebooks
        self._fit(latents, lambda k, given: lloyd(given, books[k], iterations, generator, self.nearest))

    def _fit(
        self,
        latents: Tensor,
        fit: Callable[[int, Tensor], Tensor],
        aim: Callable[[int, Tensor], None] = lambda stage, residual: None,
    ) -> None:
        """Take the codebooks that `fit` makes of a stage and what it looks up, one stage after the other.

        aim: is told what each stage is given, before it looks up.
        """
        residual, codebooks = latents, []
        for k in range(len(self.codebooks)):
            aim(k, residual)
            given = self.look_up(k, residual)
            codebooks.append(fit(k, given))
            residual = residual - self.taken(k, codebooks[-1][self.nearest(given, codebooks[-1])])
        self.begin(torch.stack(codebooks), latents)

    def look_up(self, stage: int, residual: Tensor) -> Tensor:
        """What a stage is to find an entry for, [M, d], of what the stages before left, [M, D]."""
        return residual

    def nearest(self, given: Tensor, codebook: Tensor) -> Tensor:
        """The entry that a stage finds, [M]."""
        return nearest(given, codebook)

    def taken(self, stage: int, entries: Tensor) -> Tensor:
        """What entries [M, d] of a stage stand for in the latents, [M, D]."""
        return entries

    @torch.no_grad()
    def begin(self, codebooks: Tensor, latents: Tensor) -> None:
        """Take codebooks [K, N, D] that fit encoder outputs [M, D]; averages begin as if each entry was used evenly."""
        self.codebooks.copy_(codebooks)
        self.counts.fill_(1.0)
        self.sums.copy_(codebooks)
        self.variance.copy_(latents.var(0).sum())

    def forward(self, z: Tensor, used: Tensor) -> Quantized:
        """Quantise `z` [B, T, D], row b with its first used[b] codebooks; learns nothing (see `learn`)."""
        rows = z.reshape(-1, z.shape[-1])
        residual, total = rows.detach(), torch.zeros_like(rows)
        commitment = z.new_zeros(())
        books = used.repeat_interleave(z.shape[1])[:, None]
        codes, residuals, quantised = [], [], torch.zeros_like(rows)
        for k in range(len(self.codebooks)):
            code = nearest(residual, self.codebooks[k])
            entry = self.codebooks[k][code]
            total = total + entry
            active = k < books
            # The gradient of the commitment is with respect to z alone: codebooks learn by averages.
            commitment = commitment + ((rows - total).square() * active).sum(1).mean() / self.variance
            quantised = torch.where(active, total, quantised)
            codes.append(code)
            residuals.append(residual)
            # Codebooks that a row does not use still see what it leaves, so that all of them learn from every row.
            residual = residual - entry
        straight = z + (quantised.view_as(z) - z).detach()
        return Quantized(straight, torch.stack(codes), torch.stack(residuals), commitment)

    def spread(self, residuals: Tensor) -> Tensor:
        """The variance that a commitment is relative to, of what the stages were given, [K, M, d]."""
        return residuals[0].var(0).sum()

    @torch.no_grad()
    def learn(self, codes: Tensor, residuals: Tensor, generator: torch.Generator) -> None:
        """Move the codebooks towards what one batch brought them: codes [K, M], residuals [K, M, D]."""
        self.variance.lerp_(self.spread(residuals).clamp_min(1e-8), 1 - self.decay)
        entries = self.counts.shape[1]
        # Counts are kept relative to even use, so that they mean the same whatever the batch size.
        share = entries / codes.shape[1]
        for k, (code, residual) in enumerate(zip(codes, residuals, strict=True)):
            batch = torch.bincount(code, minlength=entries).to(residual.dtype)
            self.counts[k].lerp_(share * batch, 1 - self.decay)
            sums = torch.zeros_like(self.sums[k]).index_add_(0, code, residual)
            self.sums[k].lerp_(share * sums, 1 - self.decay)
            dead = (self.counts[k] < self.dead).nonzero()[:, 0]
            drawn = residual[torch.randint(len(residual), (len(dead),), generator=generator).to(residual.device)]
            # Half-way to even use: time enough to find its place, and soon moved again if it does not.
            begin = (1 + self.dead) / 2
            self.counts[k, dead] = begin
            self.sums[k, dead] = begin * drawn
        self.codebooks.copy_(self.sums / self.counts[..., None])
