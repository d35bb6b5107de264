"""Residual quantization at several rates (Siuzdak et al. 2024, "SNAC: Multi-Scale Neural Audio Codec", section 3.1).

A frame has several latents. The first level quantizes the mean of all of them and the next ones means of fewer, down to
each by itself. What a level finds is taken off every latent that its mean was made of.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import ops
from .derived import Derived
from .factorised import FactorisedQuantizer
from .quantize import StraightThrough
from .stack import stacked, unstacked

__all__ = ["LevelQuantizer"]


class _Level(NamedTuple):
    """place: among the levels; codes: of it that are used, of a frame; whole: of it that a frame has."""

    place: int
    codes: int
    whole: int


class LevelQuantizer(FactorisedQuantizer):
    """A stage for each level, of ``levels[i]`` codes a frame; the codes of a frame are K = sum(levels), level by level.

    rows: latents of a frame; the rows that it takes and gives have them side by side, [D]. codebooks: [levels, N, d].
    With fewer codes than K, what lacks adds nothing to the latents.
    """

    def __init__(self, levels: Sequence[int], codebook_size: int, codebook_dim: int, rows: int, channels: int):
        super().__init__(len(levels), codebook_size, codebook_dim, channels)
        self.levels, self.rows, self.dimension = tuple(levels), rows, rows * channels
        self._scan: Derived[tuple[Tensor, bool]] = Derived()
        self._arranged: Derived[Tensor] = Derived()  # the same for a backend that reads another

    def encode(self, latents: Tensor, num_codebooks: int) -> Tensor:
        """[B, T, D] to codes [B, T, K]. Raises InputError for a number of codes that there is not."""
        return self._encode(latents, num_codebooks, self._search)

    def encode_reference(self, latents: Tensor, num_codebooks: int) -> Tensor:
        """As `encode`, in upstream's order of operations."""
        return self._encode(latents, num_codebooks, self._search_reference)

    @torch.no_grad()
    def _encode(self, latents: Tensor, num_codebooks: int, search: Callable[[int, Tensor], Tensor]) -> Tensor:
        self._check_count(num_codebooks, sum(self.levels))
        left, codes = unstacked(latents, self.rows), []
        for level in self._used(num_codebooks):
            found = search(level.place, self._means(left, level))  # [B, T * whole]
            codes.append(found.unflatten(1, (-1, level.whole)))
            left = left - unstacked(self._rows_of(self._up_level(level.place, codes[-1])), self.rows)
        return torch.cat(codes, 2)[:, :, :num_codebooks]

    def decode(self, codes: Tensor) -> Tensor:
        """Codes [B, T, K] to latents [B, T, D]."""
        each = [self._rows_of(self._up_level(level.place, part)) for level, part in self._parts(codes)]
        return sum(each[1:], each[0])

    def stages(self, codes: Tensor) -> Tensor:
        """Codes [B, T, K] to what each adds to the latents, [B, T, K, D]."""
        each = []
        for level, part in self._parts(codes):
            up = self._up_level(level.place, part)[:, :, : level.codes, None]
            own = torch.eye(level.whole, dtype=up.dtype, device=up.device)[: level.codes]
            where = own.repeat_interleave(self.rows // level.whole, 1)  # [n, rows]: the latents that each code is of
            each.append((where[:, :, None] * up).flatten(3))
        return torch.cat(each, 2)

    def straight_through(self, latents: Tensor, num_codebooks: int) -> StraightThrough:
        """`encode` and `decode` of [B, T, D], with gradients that pass straight through each level's look-up."""
        codes = self.encode(latents, num_codebooks)
        left, looked_up, found = unstacked(latents, self.rows), [], []
        for level, part in self._parts(codes):
            means = self._means(left, level).unflatten(1, (-1, level.whole))[:, :, : level.codes]
            looked_up.append(means @ self.in_weight[level.place] + self.in_bias[level.place])
            found.append(F.embedding(part, self.codebooks[level.place]))
            through = looked_up[-1] + (found[-1] - looked_up[-1]).detach()
            up = self._filled(through @ self.out_weight[level.place] + self.out_bias[level.place], level.whole)
            left = left - unstacked(self._rows_of(up), self.rows)
        taken = latents - stacked(left, self.rows)
        return StraightThrough(taken, codes, torch.cat(looked_up, 2), torch.cat(found, 2))

    def served_by(self) -> dict[str, str]:
        """Its operations, and the name of what each runs on."""
        scan, _ = self._directions_for_search()
        encode = ops.serving("factorised_encode", self.backend, self.codebooks, *self._tables_of(0, scan))
        decode = ops.serving("factorised_decode", self.backend, self.codebooks, self.codebooks, self.codebooks)
        return {"factorised_encode": encode, "factorised_decode": decode}

    # -- levels ------------------------------------------------------------------------------------------------------

    def _used(self, count: int) -> Iterator[_Level]:
        """The levels that the first `count` codes of a frame are of."""
        for place, whole in enumerate(self.levels):
            if count > 0:
                yield _Level(place, min(count, whole), whole)
            count -= whole

    def _parts(self, codes: Tensor) -> Iterator[tuple[_Level, Tensor]]:
        """The codes of each level, [B, T, at most whole]."""
        levels = list(self._used(codes.shape[2]))
        return zip(levels, codes.split([level.codes for level in levels], 2), strict=True)

    def _means(self, rows: Tensor, level: _Level) -> Tensor:
        """Latents [B, T * rows, C] to the means that a level quantizes, [B, T * whole, C]."""
        return rows.unflatten(1, (-1, self.rows // level.whole)).mean(2)

    def _up_level(self, place: int, codes: Tensor) -> Tensor:
        """Codes of a level [B, T, n] to what they add, [B, T, whole, C], zeros where codes lack."""
        entries = F.embedding(codes, self.codebooks[place])
        return self._filled(self._project_up(entries, self.out_weight[place], self.out_bias[place]), self.levels[place])

    @staticmethod
    def _filled(up: Tensor, whole: int) -> Tensor:
        return up if up.shape[2] == whole else F.pad(up, (0, 0, 0, whole - up.shape[2]))

    def _rows_of(self, up: Tensor) -> Tensor:
        """[B, T, whole, C] to each repeated for the latents that it is of, [B, T, D]."""
        return up.repeat_interleave(self.rows // up.shape[2], 2).flatten(2)

    # -- looking up --------------------------------------------------------------------------------------------------

    def _search(self, place: int, means: Tensor) -> Tensor:
        """[B, n, C] to the entries of a level with the nearest directions, [B, n]."""
        scan, comparable = self._directions_for_search()
        if not comparable:
            return self._search_reference(place, means)
        backend = ops.backend_of("factorised_encode", self.backend, means, self.codebooks)
        if ops.arranges("factorised_encode", backend):
            directions = self.directions
            scan = self._arranged.get((self.codebooks,), lambda: ops.arranged("factorised_encode", backend, directions))
        return ops.factorised_encode(means, *self._tables_of(place, scan), backend=backend)[:, :, 0]

    def _search_reference(self, place: int, means: Tensor) -> Tensor:
        projected = means @ self.in_weight[place] + self.in_bias[place]
        return self._nearest(projected.flatten(0, 1), self.directions[place]).view(projected.shape[:2])

    def _directions_for_search(self) -> tuple[Tensor, bool]:
        """[levels, d, N], and whether every entry has a direction."""

        def make() -> tuple[Tensor, bool]:
            return self.directions.mT.contiguous(), self._have_directions()

        return self._scan.get((self.codebooks,), make)

    def _tables_of(self, place: int, scan: Tensor) -> tuple[Tensor, ...]:
        """The arguments of `ops.factorised_encode` after z, for a level alone."""
        small = self.codebooks.shape[2]
        own = slice(place, place + 1)
        nothing = scan.new_zeros(1, small, small)
        return self.in_weight[place], self.in_bias[place], scan[own], self.codebooks[own], nothing

    def _forget(self) -> None:
        super()._forget()
        self._scan.clear()
        self._arranged.clear()
