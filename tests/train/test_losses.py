import pytest
import torch

from streamcodec.train.losses import ReconstructionLoss, mel_filters


@pytest.mark.parametrize("level", [0.0, 1e-6, 0.5])
@pytest.mark.parametrize("output_level", [0.0, 0.5])
def test_gradients_are_finite(level: float, output_level: float) -> None:
    generator = torch.Generator().manual_seed(0)
    target = level * torch.randn(2, 4800, generator=generator)
    output = (output_level * torch.randn(2, 4800, generator=generator)).requires_grad_()
    losses = ReconstructionLoss(24000)(output, target)
    sum(losses).backward()
    assert all(torch.isfinite(value) for value in losses)
    assert torch.isfinite(output.grad).all()


def test_zero_only_for_equal_signals() -> None:
    loss = ReconstructionLoss(24000)
    target = torch.randn(2, 4800, generator=torch.Generator().manual_seed(1))
    assert all(value == 0 for value in loss(target, target))
    assert all(value > 0 for value in loss(0.9 * target, target))
    # A changed sign is invisible to the spectra: only the waveform term tells.
    flipped = loss(-target, target)
    assert flipped.mel < 1e-6
    assert flipped.linear < 1e-6
    assert flipped.wave > 1


def test_silence_counts_as_an_error_of_one() -> None:
    """The relative terms are shares of the target's level, whatever that is."""
    for level in (0.01, 0.3):
        target = level * torch.randn(2, 9600, generator=torch.Generator().manual_seed(2))
        losses = ReconstructionLoss(24000)(torch.zeros_like(target), target)
        torch.testing.assert_close(torch.stack([losses.linear, losses.wave]), torch.ones(2), rtol=0.02, atol=0)


@pytest.mark.parametrize(("window", "bands"), [(64, 8), (512, 20), (2048, 80)])
def test_mel_filters_cover_every_band(window: int, bands: int) -> None:
    filters = mel_filters(24000, window, bands)
    assert filters.shape == (window // 2 + 1, bands)
    torch.testing.assert_close(filters.sum(0), torch.ones(bands))
    peaks = filters.argmax(0)
    assert (peaks[1:] >= peaks[:-1]).all()
