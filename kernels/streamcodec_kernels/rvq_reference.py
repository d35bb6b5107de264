"""The same operations as in rvq.py, written plainly in torch: what the kernels are held to, and timed against."""

import math

import torch
from torch import Tensor

__all__ = ["NEAR_TIE", "excess_distance", "random_problem", "rvq_decode", "rvq_encode"]

# Two candidates whose distances differ by less than this part of their size are a tie that float32 may break either
# way: rounding moves a distance by a few times 2**-24 (6e-8) of the vectors' lengths.
NEAR_TIE = 1e-5


@torch.no_grad()
def rvq_encode(z: Tensor, codebooks: Tensor, half_norms: Tensor | None = None) -> Tensor:
    """The nearest code vector, stage after stage: z [M, D], codebooks [K, N, D] to codes [M, K] int64."""
    if half_norms is None:
        half_norms = codebooks.square().sum(-1) * 0.5
    codes, residual = [], z
    for vectors, half_norm in zip(codebooks, half_norms, strict=True):
        scores = torch.addmm(half_norm, residual, vectors.t(), beta=-1)
        codes.append(scores.argmax(1))
        residual = residual - vectors[codes[-1]]
    return torch.stack(codes, 1)


def rvq_decode(codes: Tensor, codebooks: Tensor) -> Tensor:
    """The sum of the chosen vectors, first stage first: codes [M, K'], codebooks [K, N, D] to [M, D]."""
    total = codebooks.new_zeros(codes.shape[0], codebooks.shape[2])
    for stage in range(codes.shape[1]):
        total = total + codebooks[stage][codes[:, stage]]
    return total


@torch.no_grad()
def excess_distance(z: Tensor, codebooks: Tensor, codes: Tensor) -> Tensor:
    """How much farther the chosen vectors are than the nearest: z [M, D], codes [M, K'] to [M, K'] float64.

    As a part of the chosen distance, in float64, each stage judged by the residual that the earlier `codes` leave.
    0: the nearest was chosen; below `NEAR_TIE`: as good as the nearest. Codes that disagree with another encoder's
    are right, and so is the other's, where both stay below it: after one near tie the two go separate ways.
    """
    excess = torch.zeros(codes.shape, dtype=torch.float64, device=codes.device)
    # 1,024 rows at a time: [1024, N] distances, whatever M is.
    for residual, code, out in zip(z.double().split(1024), codes.split(1024), excess.split(1024), strict=True):
        for stage in range(codes.shape[1]):
            vectors = codebooks[stage].double()
            distance = torch.cdist(residual, vectors, compute_mode="donot_use_mm_for_euclid_dist")
            chosen = distance.gather(1, code[:, stage : stage + 1])[:, 0]
            gap = chosen - distance.amin(1)
            out[:, stage] = torch.where(gap > 0, gap / chosen, 0.0)
            residual = residual - vectors[code[:, stage]]
    return excess


def random_problem(
    rows: int, stages: int, size: int, dimension: int, device: torch.device | str = "cpu", seed: int = 0
) -> tuple[Tensor, Tensor]:
    """z [M, D] and codebooks [K, N, D] whose stages get smaller as the residual does, so that every stage matters.

    The best of 1,000 random directions lies within a cosine of about 3.2 / sqrt(D) of the residual. A vector of that
    length is the best step there, and leaves sqrt(1 - cosine^2) of the residual.
    """
    generator = torch.Generator().manual_seed(seed)
    cosine = min(0.9, 3.2 / math.sqrt(dimension))
    length = cosine * (1 - cosine**2) ** (torch.arange(stages) / 2)
    codebooks = torch.randn(stages, size, dimension, generator=generator) * length.view(-1, 1, 1)
    return torch.randn(rows, dimension, generator=generator).to(device), codebooks.to(device)
