"""DAC's quantisation while it is learnt: entries that are found by direction, in a space of few dimensions.

Its entries follow by moving averages what is projected onto them, as other codebooks follow the encoder; that is where
DAC's codebook loss would have them, too. The projections on both sides of a look-up are weights of the networks:
gradients pass straight through each look-up and reach them (Kumar et al. 2023, section 3.2).
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..codecs import Codec
from ..nn.factorised import FactorisedQuantizer
from .quantizer import CodebookLearner, Quantized, k_means

__all__ = ["FactorisedLearner", "learner_of", "nearest_direction"]


def nearest_direction(x: Tensor, codebook: Tensor) -> Tensor:
    """Index of the entry of `codebook` [N, d] with the direction closest to that of each row of `x` [M, d]."""
    return (x @ F.normalize(codebook).T).argmax(1)


def learner_of(codec: Codec, dead: float) -> CodebookLearner:
    """What learns the codebooks of `codec`."""
    if isinstance(codec.quantizer, FactorisedQuantizer):
        return FactorisedLearner(codec.quantizer, dead=dead)
    stages, entries, dimension = codec.quantizer.codebooks.shape
    return CodebookLearner(stages, entries, dimension, dead=dead)


class FactorisedLearner(CodebookLearner):
    """Learns the entries [K, N, d] of `quantizer`, whose projections it uses as they are.

    variance: [K], of what each stage looks up.
    """

    def __init__(self, quantizer: FactorisedQuantizer, decay: float = 0.99, dead: float = 0.1):
        stages, entries, small = quantizer.codebooks.shape
        super().__init__(stages, entries, small, decay, dead)
        self.variance = torch.ones(stages)
        self._quantizer = (quantizer,)  # in a tuple: no part of this module, nor of its state

    def look_up(self, stage: int, residual: Tensor) -> Tensor:
        (rvq,) = self._quantizer
        return residual @ rvq.in_weight[stage] + rvq.in_bias[stage]

    def nearest(self, given: Tensor, codebook: Tensor) -> Tensor:
        return nearest_direction(given, codebook)

    def taken(self, stage: int, entries: Tensor) -> Tensor:
        (rvq,) = self._quantizer
        return entries @ rvq.out_weight[stage] + rvq.out_bias[stage]

    def spread(self, residuals: Tensor) -> Tensor:
        return residuals.var(1).sum(1)

    @torch.no_grad()
    def start(self, latents: Tensor, generator: torch.Generator, iterations: int = 10) -> None:
        """As for other codebooks; projections begin as the principal directions of what each stage is given."""
        entries = self.codebooks.shape[1]

        def fit(stage: int, given: Tensor) -> Tensor:
            return k_means(given, entries, iterations, generator, self.nearest)

        self._fit(latents, fit, self._aim)

    def _aim(self, stage: int, residual: Tensor) -> None:
        """Set a stage's projections: down to the principal directions of `residual` [M, D], and back."""
        (rvq,) = self._quantizer
        mean = residual.mean(0)
        centred = residual - mean
        down = torch.linalg.eigh(centred.T @ centred).eigenvectors[:, -rvq.codebooks.shape[2] :]
        rvq.in_weight[stage], rvq.in_bias[stage] = down, -(mean @ down)
        rvq.out_weight[stage], rvq.out_bias[stage] = down.T, mean

    @torch.no_grad()
    def begin(self, codebooks: Tensor, latents: Tensor) -> None:
        super().begin(codebooks, latents)
        every = torch.full((1,), len(codebooks), device=latents.device)
        self.variance.copy_(self.spread(self(latents[None], every).residuals))

    def forward(self, z: Tensor, used: Tensor) -> Quantized:
        """Quantise `z` [B, T, D], row b with its first used[b] codebooks; residuals are [K, B * T, d]."""
        rows = z.reshape(-1, z.shape[-1])
        residual, quantised = rows, torch.zeros_like(rows)
        commitment = z.new_zeros(())
        books = used.repeat_interleave(z.shape[1])[:, None]
        codes, residuals = [], []
        for k, codebook in enumerate(self.codebooks):
            given, active = self.look_up(k, residual), k < books
            codes.append(self.nearest(given.detach(), codebook))
            residuals.append(given.detach())
            entry = codebook[codes[-1]]
            commitment = commitment + ((given - entry).square() * active).sum(1).mean() / self.variance[k]
            taken = self.taken(k, given + (entry - given).detach())
            quantised = quantised + taken * active
            residual = residual - taken
        return Quantized(quantised.view_as(z), torch.stack(codes), torch.stack(residuals), commitment)
