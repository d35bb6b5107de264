"""The lapped transform: its cosines give the audio back, and its sines are a quarter of a period beside them."""

import math

import pytest
import torch

from streamcodec.nn.lapped import LappedTransform, OverlapAdd


@pytest.mark.parametrize("hop", [1, 2, 7, 320])
def test_cosines_overlapped_are_the_audio_but_for_its_last_frame(hop: int) -> None:
    x = torch.randn(2, 6 * hop, 1, generator=torch.Generator().manual_seed(hop))
    spectrum = LappedTransform(hop)(x)
    assert spectrum.shape == (2, 6, 2 * hop)
    audio = OverlapAdd(hop)(spectrum[..., :hop])
    torch.testing.assert_close(audio, x[:, : 5 * hop], rtol=0, atol=1e-5)


def test_cosines_and_sines_together_have_the_level_of_a_tone_whatever_its_phase() -> None:
    hop = 64
    x = torch.sin(2 * math.pi * 0.1 * torch.arange(40 * hop))[None, :, None]
    cosines, sines = LappedTransform(hop)(x)[:, 2:].chunk(2, -1)
    one, both = cosines.square().sum(-1), (cosines.square() + sines.square()).sum(-1)
    assert one.std() / one.mean() > 0.1
    assert both.std() / both.mean() < 0.01
    assert float(both.mean()) == pytest.approx(hop, rel=0.01)  # twice the power of a hop of the tone


def test_the_weights_are_constants() -> None:
    for layer in (LappedTransform(8), OverlapAdd(8)):
        assert not list(layer.parameters())
        assert not layer.state_dict()
        assert layer.double().weight.dtype == torch.float64
