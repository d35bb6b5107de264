"""Residual vector quantization (Zeghidour et al. 2021, "SoundStream", section III-C)."""

from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import ops
from .derived import Derived

__all__ = ["Quantizer", "ResidualVectorQuantizer", "StraightThrough", "entries_of"]


class StraightThrough(NamedTuple):
    """What a quantizer makes of latents, with gradients.

    latents: [B, T, D], those that the codes stand for; their gradient passes straight through to the latents given;
    codes: [B, T, K]; looked_up: [B, T, K, d], what each stage was to find an entry for; entries: [B, T, K, d], those
    that it found.
    """

    latents: Tensor
    codes: Tensor
    looked_up: Tensor
    entries: Tensor


def entries_of(codebooks: Tensor, codes: Tensor) -> Tensor:
    """The entries [B, T, K, d] of `codebooks` [at least K, N, d] that codes [B, T, K] name."""
    size = codebooks.shape[1]
    first = torch.arange(0, codes.shape[-1] * size, size, device=codes.device)
    return F.embedding(codes + first, codebooks.flatten(0, 1))


class Quantizer(Protocol):
    """What a codec needs of its quantizer.

    codebooks: [K, N, d], stage, entry, dimension of an entry; dimension: D, the latents' channels; backend: what its
    operations are asked to run on (see `ops`).
    """

    codebooks: Tensor
    dimension: int
    backend: str

    def served_by(self) -> dict[str, str]:
        """Its operations, and the name of what each runs on."""

    def set_codebooks(self, codebooks: Tensor) -> None:
        """Take new entries, [K, N, d]."""

    def encode(self, latents: Tensor, num_codebooks: int) -> Tensor:
        """[B, T, D] to codes [B, T, K] with the first `num_codebooks` stages."""

    def decode(self, codes: Tensor) -> Tensor:
        """Codes [B, T, K], K at most the number of stages, to latents [B, T, D]."""

    def stages(self, codes: Tensor) -> Tensor:
        """Codes [B, T, K] to what each stage adds to the latents, [B, T, K, D]."""

    def straight_through(self, latents: Tensor, num_codebooks: int) -> StraightThrough:
        """`encode` and `decode` of [B, T, D], with gradients (van den Oord et al. 2017, section 3.2)."""


class ResidualVectorQuantizer(nn.Module):
    """Each stage takes the nearest entry of its codebook (euclidean) and passes on what is left.

    codebooks: [K, N, D], stage, entry, dimension; dimension: D.
    """

    codebooks: Tensor

    def __init__(self, num_codebooks: int, codebook_size: int, dimension: int):
        super().__init__()
        self.dimension, self.backend = dimension, "auto"
        self.register_buffer("codebooks", torch.randn(num_codebooks, codebook_size, dimension))
        # By backend, and stages: what searches, and what looks up; and what all searches read, by backend.
        self._searches: Derived[dict[tuple[str, int | None, int | None], ops.Bound]] = Derived()
        self._lookups: Derived[dict[str, ops.Bound]] = Derived()
        self._half_norms: Derived[Tensor] = Derived()
        self._scans: Derived[dict[str, Tensor]] = Derived()

    @torch.no_grad()
    def set_codebooks(self, codebooks: Tensor) -> None:
        """Take new entries, [K, N, D]."""
        self.codebooks.copy_(codebooks)
        for made in (self._searches, self._lookups, self._half_norms, self._scans):
            made.clear()

    def encode(self, latents: Tensor, num_codebooks: int) -> Tensor:
        """[B, T, D] to codes [B, T, K] with the first `num_codebooks` stages."""
        return self._search(latents, slice(num_codebooks))

    def _search(self, latents: Tensor, used: slice) -> Tensor:
        """Latents [..., D], as the codebooks' entries are, to codes [..., K] of the stages `used`."""
        return self.bound_search(used)(latents)

    def bound_search(self, used: slice) -> ops.Bound:
        """The search through the stages `used`: the same one until the codebooks change."""
        codebooks, key = self.codebooks, (self.backend, used.start, used.stop)
        searches = self._searches.get((codebooks,), dict)
        if key not in searches:
            backend = ops.backend_of("rvq_encode", self.backend, codebooks.detach())  # codes have no gradient
            tables = codebooks.detach()[used], self._norms()[used], self._scan(backend)[used]
            searches[key] = ops.rvq_search(*tables, backend=backend)
        return searches[key]

    def _norms(self) -> Tensor:
        """Half the squared length of each entry, [K, N]."""
        return self._half_norms.get((self.codebooks,), lambda: ops.rvq_half_norms(self.codebooks.detach()))

    def _scan(self, backend: str) -> Tensor:
        """The codebooks as the search of a backend reads them."""
        scans, kind = self._scans.get((self.codebooks,), dict), backend if ops.arranges("rvq_encode", backend) else ""
        if kind not in scans:
            scans[kind] = ops.arranged("rvq_encode", backend, self.codebooks.detach())
        return scans[kind]

    def decode(self, codes: Tensor) -> Tensor:
        """Codes [B, T, K], K at most the number of stages, to latents [B, T, D]."""
        codebooks = self.codebooks
        if codebooks.requires_grad and torch.is_grad_enabled():
            return ops.rvq_decode(codes, codebooks, backend=ops.backend_of("rvq_decode", self.backend, codebooks))
        return self.bound_lookup()(codes)

    def bound_lookup(self) -> ops.Bound:
        """The look-up, likewise."""
        codebooks = self.codebooks
        lookups = self._lookups.get((codebooks,), dict)
        if self.backend not in lookups:
            backend = ops.backend_of("rvq_decode", self.backend, codebooks.detach())
            lookups[self.backend] = ops.rvq_lookup(codebooks.detach(), backend=backend)
        return lookups[self.backend]

    def stages(self, codes: Tensor) -> Tensor:
        """Codes [B, T, K] to what each stage adds to the latents, [B, T, K, D]."""
        return entries_of(self.codebooks, codes)

    def straight_through(self, latents: Tensor, num_codebooks: int) -> StraightThrough:
        """`encode` and `decode` of [B, T, D], with gradients: those of the result are those of the latents."""
        with torch.no_grad():
            codes = self.encode(latents, num_codebooks)
        entries = self.stages(codes)
        taken = entries.detach().cumsum(2)
        looked_up = latents[:, :, None] - F.pad(taken[:, :, :-1], (0, 0, 1, 0))
        return StraightThrough(latents + (taken[:, :, -1] - latents).detach(), codes, looked_up, entries)

    def served_by(self) -> dict[str, str]:
        """Its operations, and the name of what each runs on."""
        arguments = {
            "rvq_encode": (self.codebooks, self.codebooks, self.codebooks, self.codebooks),
            "rvq_decode": (self.codebooks, self.codebooks),
        }
        return {name: ops.serving(name, self.backend, *given) for name, given in arguments.items()}
