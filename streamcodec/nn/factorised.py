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

from .. import ops
from ..errors import InputError
from .derived import Derived
from .quantize import StraightThrough, entries_of

__all__ = ["FactorisedQuantizer"]


class FactorisedQuantizer(nn.Module):
    """Stages of: project down, take the entry of the nearest direction, project up, pass on what is left.

    codebooks: [K, N, d], stage, entry, dimension of the look-up; in_weight: [K, D, d], in_bias: [K, d]; out_weight:
    [K, d, D], out_bias: [K, D]; directions: [K, N, d], the entries at length 1; dimension: D.
    """

    codebooks: Tensor

    def __init__(self, num_codebooks: int, codebook_size: int, codebook_dim: int, dimension: int):
        super().__init__()
        self.dimension, self.backend = dimension, "auto"
        self.in_weight = nn.Parameter(torch.randn(num_codebooks, dimension, codebook_dim) / math.sqrt(dimension))
        self.in_bias = nn.Parameter(torch.zeros(num_codebooks, codebook_dim))
        self.out_weight = nn.Parameter(torch.randn(num_codebooks, codebook_dim, dimension) / math.sqrt(codebook_dim))
        self.out_bias = nn.Parameter(torch.zeros(num_codebooks, dimension))
        self.register_buffer("codebooks", torch.randn(num_codebooks, codebook_size, codebook_dim))
        self._directions: Derived[Tensor] = Derived()
        self._tables: Derived[_Tables] = Derived()

    @property
    def directions(self) -> Tensor:
        """[K, N, d], the entries at length 1, to the precision of the present element type; not part of the state."""
        return self._directions.get((self.codebooks,), self._make_directions)

    def set_codebooks(self, codebooks: Tensor) -> None:
        """Take new entries, [K, N, d]."""
        self.codebooks.copy_(codebooks)
        self._forget()

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> "FactorisedQuantizer":
        super()._apply(fn, recurse)
        self._forget()
        return self

    def _forget(self) -> None:
        self._directions.clear()
        self._tables.clear()

    @torch.no_grad()
    def encode(self, latents: Tensor, num_codebooks: int) -> Tensor:
        """[B, T, D] to codes [B, T, K] with the first `num_codebooks` stages; the lowest index on ties.

        Computed in the projected space (`ops.factorised_encode`), which gives `encode_reference`'s codes but for near
        ties. Raises InputError for a number of stages that there is not.
        """
        self._check_count(num_codebooks, len(self.codebooks))
        tables = self._tables.get(self._sources(), self._make_tables)
        if not tables.comparable:
            return self.encode_reference(latents, num_codebooks)
        backend = ops.backend_of("factorised_encode", self.backend, self.codebooks)
        return ops.factorised_encode(latents, *tables.first(num_codebooks, backend), backend=backend)

    def served_by(self) -> dict[str, str]:
        """Its operations, and the name of what each runs on."""
        tables = self._tables.get(self._sources(), self._make_tables)
        decode = ops.serving("factorised_decode", self.backend, self.codebooks, self.codebooks, self.codebooks)
        if not tables.comparable:
            return {"factorised_encode": "torch", "factorised_decode": decode}
        arguments = (self.codebooks, *tables.first(self.codebooks.shape[0]))
        encode = ops.serving("factorised_encode", self.backend, *arguments)
        return {"factorised_encode": encode, "factorised_decode": decode}

    @torch.no_grad()
    def encode_reference(self, latents: Tensor, num_codebooks: int) -> Tensor:
        """As `encode`, in upstream's order of operations: every stage goes up to D dimensions and down again."""
        self._check_count(num_codebooks, len(self.codebooks))
        residual, codes, directions = latents.reshape(-1, self.dimension), [], self.directions
        for stage in range(num_codebooks):
            projected = torch.addmm(self.in_bias[stage], residual, self.in_weight[stage])
            codes.append(self._nearest(projected, directions[stage]))
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
        stages = codes.shape[-1]
        # The sum of the stages' projections, as one product over all of their dimensions.
        rows = entries_of(self.codebooks, codes).flatten(-2)
        return self._project_up(rows, self.out_weight[:stages].flatten(0, 1), self.out_bias[:stages].sum(0))

    def _project_up(self, rows: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        backend = ops.backend_of("factorised_decode", self.backend, rows, weight, bias)
        return ops.factorised_decode(rows, weight, bias, backend=backend)

    def stages(self, codes: Tensor) -> Tensor:
        """Codes [B, T, K] to what each stage adds to the latents, [B, T, K, D]."""
        return self._up(entries_of(self.codebooks, codes))

    def _up(self, entries: Tensor) -> Tensor:
        """[B, T, K, d], one row for each of the first stages, projected up: [B, T, K, D]."""
        stages = entries.shape[2]
        return torch.einsum("btkd,kde->btke", entries, self.out_weight[:stages]) + self.out_bias[:stages]

    def straight_through(self, latents: Tensor, num_codebooks: int) -> StraightThrough:
        """`encode` and `decode` of [B, T, D], with gradients that pass straight through each stage's look-up.

        They go through the projections on both sides of it, and so reach their weights (as upstream's do).
        """
        codes = self.encode(latents, num_codebooks)
        entries = entries_of(self.codebooks, codes)
        residual, looked_up = latents, []
        for stage in range(num_codebooks):
            looked_up.append(residual @ self.in_weight[stage] + self.in_bias[stage])
            through = looked_up[-1] + (entries[:, :, stage] - looked_up[-1]).detach()
            residual = residual - (through @ self.out_weight[stage] + self.out_bias[stage])
        return StraightThrough(latents - residual, codes, torch.stack(looked_up, 2), entries)

    @staticmethod
    def _check_count(num_codebooks: int, most: int) -> None:
        if not 1 <= num_codebooks <= most:
            raise InputError(f"num_codebooks is {num_codebooks}; there are 1 to {most} stages to use")

    def _sources(self) -> tuple[Tensor, ...]:
        return self.in_weight, self.in_bias, self.out_weight, self.out_bias, self.codebooks

    def _make_directions(self) -> Tensor:
        return F.normalize(self.codebooks, dim=2)

    def _have_directions(self) -> bool:
        """Whether every entry has one."""
        return bool(((self.directions.double().norm(dim=2) - 1).abs() < 0.1).all())

    def _make_tables(self) -> "_Tables":
        return _Tables(self)


class _Tables:
    """What `ops.factorised_encode` needs of a quantizer, derived from its weights.

    With r_i the residual before stage i, stage i looks up p_i = r_i in_weight_i + in_bias_i, and r_i is z less what
    the earlier stages took: the sum over j < i of e_j out_weight_j + out_bias_j. So p_i is z's own projection, less
    e_j times the d x d matrix out_weight_j in_weight_i for every j < i (`cross`), less a constant (in `bias`).

    All matrices are K * K * d * d numbers: 256 KiB for the 32 stages of DAC 24 kHz in float32, 20 KiB for the 9 of
    44.1 kHz. Multiplied out for every entry they would be K * N * K * d, 32 MiB and 2.5 MiB, and save little time.

    comparable: every entry has a direction. Where one has length 0 the cosine means nothing, and upstream's own
    arithmetic, which still picks something, is the only definition of the codes.
    """

    def __init__(self, rvq: FactorisedQuantizer):
        directions = rvq.directions
        self.comparable = rvq._have_directions()
        stages, _, small = directions.shape

        # In float64 whatever the element type, and on the CPU: not every device has float64.
        def exact(tensor: Tensor) -> Tensor:
            return tensor.detach().cpu().double()

        def rounded(tensor: Tensor) -> Tensor:
            return tensor.to(rvq.codebooks).contiguous()

        down = exact(rvq.in_weight).transpose(0, 1).reshape(rvq.dimension, stages * small)
        stage = torch.arange(stages)
        is_later = (stage[None, :] > stage[:, None]).repeat_interleave(small, 1)  # [K, K * d]
        cross = (exact(rvq.out_weight).flatten(0, 1) @ down).view(stages, small, stages * small)
        constants = (exact(rvq.out_bias) @ down).masked_fill(~is_later, 0).sum(0)
        # Stored with the projections as rows, so that those of the first stages lie together.
        self.weight = rounded(down.T)
        self.bias = rounded(exact(rvq.in_bias).flatten() - constants)
        self.cross = rounded(cross.masked_fill(~is_later[:, None], 0))
        self.scan = directions.mT.contiguous()
        self.codebooks = rvq.codebooks.detach()
        self._scans: dict[str, Tensor] = {}  # for backends that read another
        self._made: dict[tuple[int, str], tuple[Tensor, ...]] = {}

    @torch.inference_mode(False)
    def first(self, count: int, backend: str = "torch") -> tuple[Tensor, ...]:
        """The arguments of `ops.factorised_encode` after z, for the first `count` stages: made once for a backend."""
        made = self._made.get((count, backend))
        if made is None:
            width = count * self.codebooks.shape[2]
            weight, scan, cross = self.weight[:width].T, self.scan, self.cross[:count, :, :width]
            if ops.arranges("factorised_encode", backend):
                if backend not in self._scans:
                    self._scans[backend] = ops.arranged("factorised_encode", backend, scan.mT)
                weight, scan, cross = weight.contiguous(), self._scans[backend], cross.contiguous()
            made = (weight, self.bias[:width], scan[:count], self.codebooks[:count], cross)
            self._made[count, backend] = made
        return made
