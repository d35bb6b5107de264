"""Bands of a spectrum of `hop` bins: their levels taken out of a frame, and put back into one.

Bands are even on Bark's scale of hearing, nearly: f = 600 sinh(b) Hz (Schroeder et al. 1979), each at least two bins.
"""

import math

import torch
from torch import Tensor

from ..errors import ConfigError
from ..program import Known, Program, Value
from .layer import Layer

__all__ = ["BandFeatures", "BandGains", "band_edges"]

CORNER = 600.0  # Hz: bands are about even below it, and even in octaves above
NARROWEST = 2  # bins
SILENCE = 1e-9  # power of a bin that counts as none: 90 dB below full scale
# Level features are (log amplitude + 6) / 4, about -1 to 1; gains are the way back, and bounded.
CENTRE, SPREAD = 6.0, 4.0
LEAST, MOST = -14.0, 3.0  # log amplitudes


def band_edges(hop: int, bands: int, sample_rate: int) -> list[int]:
    """First bins of the bands, and `hop`. Raises ConfigError where there are more bands than bins for them."""
    if bands < 1 or bands * NARROWEST > hop:
        raise ConfigError(
            f"bands is {bands}; of {hop} bins, one for each sample of a hop, 1 to {hop // NARROWEST} bands can be made"
        )
    top = sample_rate / 2
    edges = [0]
    for i in range(1, bands):
        wanted = round(CORNER * math.sinh(i / bands * math.asinh(top / CORNER)) / top * hop)
        edges.append(min(max(edges[-1] + NARROWEST, wanted), hop - (bands - i) * NARROWEST))
    return [*edges, hop]


class _Bands(Layer):
    """band: [hop], the band of each bin."""

    band: Tensor

    def __init__(self, edges: list[int]):
        super().__init__()
        self.edges = tuple(edges)
        bins = torch.arange(edges[-1], device="cpu")  # also while weights are made without values
        first = torch.tensor(edges[1:], device="cpu")
        self.register_buffer("band", torch.searchsorted(first, bins, right=True), persistent=False)

    def spread(self, values: Tensor) -> Tensor:
        """Values of bands [..., bands] to their bins [..., hop]."""
        return values.index_select(-1, self.band)


class BandFeatures(_Bands):
    """Cosines and sines [B, T, 2 * hop] to those at level 1/2 in each band, and the bands' levels, as logarithms.

    [B, T, 2 * hop + bands]. So what a network hears is of one size whether the audio is loud or quiet.
    """

    mean: Tensor

    def __init__(self, edges: list[int]):
        super().__init__(edges)
        member = torch.nn.functional.one_hot(self.band, len(edges) - 1).float()
        self.register_buffer("mean", member / member.sum(0) / 2, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        cosines, sines = x.chunk(2, -1)
        power = (cosines.square() + sines.square()) @ self.mean + SILENCE
        level = self.spread(0.5 * torch.rsqrt(power))
        return torch.cat([cosines * level, sines * level, (0.5 * torch.log(power) + CENTRE) / SPREAD], -1)

    def lower(self, program: Program, x: Value, path: str) -> Value:
        return program.rows(self.forward, x, Known("band_features", self.edges, (SILENCE, CENTRE, SPREAD)))


class BandGains(_Bands):
    """[B, T, hop + bands], a spectrum and the logarithms of its bands' gains, to the spectrum [B, T, hop]."""

    def forward(self, x: Tensor) -> Tensor:
        hop = len(self.band)
        gains = torch.exp((SPREAD * x[..., hop:] - CENTRE).clamp(LEAST, MOST))
        return x[..., :hop] * self.spread(gains)

    def lower(self, program: Program, x: Value, path: str) -> Value:
        return program.rows(self.forward, x, Known("band_gains", self.edges, (SPREAD, CENTRE, LEAST, MOST)))
