"""The same operation as in factorised.py, written plainly in torch: what the kernel is held to, and timed against."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["NEAR_TIE", "excess_direction", "factorised_encode", "random_problem"]

# A projection is a sum of products. In float32 it is off by about u = 2**-24 of the sum of their absolute values L
# (Higham 2002, section 3.1, has n * u * L as the worst case of n products; summed in blocks, with errors of random
# sign, it is u * L or so), and by at most 8 u L is the allowance here. Two directions are unit vectors at most 2 apart,
# so their scores may change sides where they differ by less than 2 * 8 * u * L = 2**-20 L.
NEAR_TIE = 2.0**-20


@torch.no_grad()
def factorised_encode(projected: Tensor, scan: Tensor, codebooks: Tensor, cross: Tensor) -> Tensor:
    """Stage after stage the entry of the nearest direction: projected [M, K * d] to codes [M, K] int64.

    scan: [K, d, N], the entries at length 1; codebooks: [K, N, d]; cross: [K, d, K * d].
    """
    codes, dimension = [], codebooks.shape[2]
    for stage, entries in enumerate(codebooks):
        own = projected[:, stage * dimension : (stage + 1) * dimension]
        codes.append((own @ scan[stage]).argmax(1))
        projected = projected - entries[codes[-1]] @ cross[stage]
    return torch.stack(codes, 1)


@torch.no_grad()
def excess_direction(
    projected: Tensor,
    codebooks: Tensor,
    cross: Tensor,
    codes: Tensor,
    projected_size: Tensor | None = None,
    cross_size: Tensor | None = None,
) -> Tensor:
    """How much worse the chosen directions are than the nearest: codes [M, K'] to [M, K'] float64, a pure number.

    projected: [M, K * d], codebooks: [K, N, d], cross: [K, d, K * d], all in float64, each stage judged by the
    projections that the earlier `codes` leave. The excess is the projection's component along the nearest direction
    less that along the chosen one (both lengths in the projected space), as a part of L, the length of the vector of
    the sums of absolute values that the projection was computed from: what float32 can tell is a part of L, and a
    projection that has all but cancelled has no direction that could be told. 0: the nearest was chosen; below
    `NEAR_TIE`: as good as the nearest.

    projected_size, cross_size: the same sums over absolute values, where codes come from arithmetic that computed
    projections of latents, or went through the latents' space; absent, `projected` and `cross` are taken as given.
    """
    dimension = codebooks.shape[2]
    left = projected.double()
    size = left.abs() if projected_size is None else projected_size.double()
    cross_size = cross.abs() if cross_size is None else cross_size
    excess = torch.zeros(codes.shape, dtype=torch.float64, device=codes.device)
    for stage in range(codes.shape[1]):
        own = slice(stage * dimension, (stage + 1) * dimension)
        scores = left[:, own] @ F.normalize(codebooks[stage].double(), dim=1).mT
        gap = scores.amax(1) - scores.gather(1, codes[:, stage : stage + 1])[:, 0]
        excess[:, stage] = torch.where(gap > 0, gap / size[:, own].norm(dim=1), 0.0)
        entries = codebooks[stage][codes[:, stage]].double()
        left = left - entries @ cross[stage].double()
        size = size + entries.abs() @ cross_size[stage].double()
    return excess


def random_problem(
    rows: int, stages: int, size: int, dimension: int, device: torch.device | str = "cpu", seed: int = 0
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """projected [M, K * d], scan, codebooks and cross, in which earlier choices matter as much as the input does.

    cross has entries of variance 1 / (2 d K), so that all choices before the last stage add up to half the input's.
    """
    generator = torch.Generator().manual_seed(seed)
    width = stages * dimension
    projected = torch.randn(rows, width, generator=generator)
    codebooks = torch.randn(stages, size, dimension, generator=generator)
    cross = torch.randn(stages, dimension, width, generator=generator) / math.sqrt(2 * width)
    for stage in range(stages):
        cross[stage, :, : (stage + 1) * dimension] = 0
    scan = F.normalize(codebooks, dim=2).mT.contiguous()
    return projected.to(device), scan.to(device), codebooks.to(device), cross.to(device)
