"""Bands: where they lie, that levels are taken out of a spectrum, and that they can be put back."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from streamcodec.errors import ConfigError
from streamcodec.nn.bands import BandFeatures, BandGains, band_edges


@given(st.integers(2, 500), st.data(), st.integers(100, 96_000))
def test_bands_cover_all_bins_and_have_two_at_least(hop, data, rate):
    bands = data.draw(st.integers(1, hop // 2))
    edges = band_edges(hop, bands, rate)
    assert (edges[0], edges[-1], len(edges)) == (0, hop, bands + 1)
    assert min(b - a for a, b in pairwise(edges)) >= 2


def test_bands_are_wider_the_higher_they_lie():
    edges = band_edges(320, 32, 24_000)
    widths = [b - a for a, b in pairwise(edges)]
    assert widths[:7] == [2] * 7
    assert widths == sorted(widths)
    assert widths[-1] > 30


@pytest.mark.parametrize("bands", [0, 4])
def test_more_bands_than_bins_allow_are_refused(bands):
    with pytest.raises(ConfigError, match=rf"bands is {bands}; of 7 bins.*1 to 3 bands"):
        band_edges(7, bands, 16_000)


def test_the_level_of_audio_changes_its_level_features_alone():
    hop, edges = 40, band_edges(40, 5, 16_000)
    spectrum = torch.randn(1, 9, 2 * hop, generator=torch.Generator().manual_seed(0))
    loud, quiet = (BandFeatures(edges)(level * spectrum) for level in (1.0, 0.01))
    torch.testing.assert_close(loud[..., : 2 * hop], quiet[..., : 2 * hop], rtol=1e-3, atol=0)
    assert float(loud[..., : 2 * hop].square().mean()) == pytest.approx(0.25, rel=1e-3)
    steps = (loud - quiet)[..., 2 * hop :]
    torch.testing.assert_close(steps, torch.full_like(steps, torch.tensor(100.0).log() / 4), rtol=1e-3, atol=0)


def test_gains_undo_what_features_did_and_are_bounded():
    hop, edges = 40, band_edges(40, 5, 16_000)
    spectrum = torch.randn(1, 9, 2 * hop, generator=torch.Generator().manual_seed(0))
    spectrum *= torch.linspace(0, 3, 9).exp()[:, None] / 10
    heard = BandFeatures(edges)(spectrum)
    half = torch.cat([heard[..., :hop], heard[..., 2 * hop :]], -1)
    torch.testing.assert_close(2 * BandGains(edges)(half), spectrum[..., :hop], rtol=1e-4, atol=1e-6)
    wild = torch.cat([torch.ones(1, 1, hop), torch.tensor([[[99.0, -99.0, 0.0, 0.0, 0.0]]])], -1)
    gained = BandGains(edges)(wild)
    assert float(gained.max()) == pytest.approx(torch.tensor(3.0).exp().item())
    assert float(gained.min()) == pytest.approx(torch.tensor(-14.0).exp().item())
