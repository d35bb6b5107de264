import pytest
import torch

from streamcodec.train.losses import LEVEL_FLOOR, ReconstructionLoss, levels, mel_filters


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


def test_relative_terms_do_not_depend_on_the_level_above_the_floor() -> None:
    noise = torch.randn(2, 9600, generator=torch.Generator().manual_seed(2))
    seen = []
    for level in (0.03, 0.3):
        losses = ReconstructionLoss(24000)(0.7 * level * noise, level * noise)
        seen.append(torch.stack([losses.linear, losses.wave]))
    torch.testing.assert_close(seen[0], seen[1])
    assert float(levels(1e-3 * noise).max()) == pytest.approx(LEVEL_FLOOR)
    torch.testing.assert_close(levels(0.3 * noise)[:, 0], 0.3 * noise.square().mean(1).sqrt())


def test_rows_do_not_depend_on_each_other() -> None:
    """The mean over a batch is the mean of its rows' losses: what several processes need to be as one."""
    generator = torch.Generator().manual_seed(3)
    target = torch.tensor([[1.0], [0.01], [0.1]]) * torch.randn(3, 4800, generator=generator)
    output = target + 0.05 * torch.randn(3, 4800, generator=generator)
    loss = ReconstructionLoss(24000)
    rows = [torch.stack(loss(output[i : i + 1], target[i : i + 1])) for i in range(3)]
    torch.testing.assert_close(torch.stack(loss(output, target)), torch.stack(rows).mean(0))


@pytest.mark.parametrize(("window", "bands"), [(64, 8), (512, 20), (2048, 80)])
def test_mel_filters_cover_every_band(window: int, bands: int) -> None:
    filters = mel_filters(24000, window, bands)
    assert filters.shape == (window // 2 + 1, bands)
    torch.testing.assert_close(filters.sum(0), torch.ones(bands))
    peaks = filters.argmax(0)
    assert (peaks[1:] >= peaks[:-1]).all()
