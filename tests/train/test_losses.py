import pytest
import torch

from streamcodec.train.losses import LEVEL_FLOOR, ReconstructionLoss, levels, mel_filters, third_octaves


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
    found = loss(0.9 * target, target)
    assert min(found.mel, found.loudness, found.linear, found.wave) > 0
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


@pytest.mark.parametrize(("window", "bands"), [(64, 10), (512, 80), (2048, 320), (2048, 80)])
def test_mel_filters_cover_every_band(window: int, bands: int) -> None:
    filters = mel_filters(24000, window, bands)
    assert filters.shape == (window // 2 + 1, bands)
    torch.testing.assert_close(filters.sum(0), torch.ones(bands))
    peaks = filters.argmax(0)
    assert (peaks[1:] >= peaks[:-1]).all()


def modulated(seed: int, rows: int = 2) -> torch.Tensor:
    """Noise whose level wanders, as that of speech does, [rows, 0.8 s]."""
    rng = torch.Generator().manual_seed(seed)
    steps = torch.rand(rows, 1, 24, generator=rng) ** 2
    level = torch.nn.functional.interpolate(steps, size=19200, mode="linear")[:, 0]
    return 0.1 * level * torch.randn(rows, 19200, generator=rng)


def test_the_envelope_loss_hears_shapes_and_not_levels() -> None:
    loss = ReconstructionLoss(24000, (512,), envelope=True)
    target = modulated(0)
    assert loss(target, target).envelope.abs() < 1e-3  # the floor of the deviations
    assert loss(-0.5 * target, target).envelope.abs() < 1e-3
    near, far = loss(target + 0.5 * modulated(1), target).envelope, loss(modulated(1), target).envelope
    assert 0.01 < near < far
    assert 0.7 < far < 1.3
    assert ReconstructionLoss(24000, (512,))(modulated(1), target).envelope == 0


def test_loudness_hears_peaks_more_than_floors() -> None:
    """A tone and a noise floor 50 dB below, one of them halved."""
    loss = ReconstructionLoss(24000, (512,))
    time = torch.arange(19200) / 24000
    tone, floor = 0.3 * torch.sin(2 * torch.pi * 440 * time)[None], 1e-3 * modulated(0, 1) / modulated(0, 1).std()
    target = tone + floor
    weak_tone, weak_floor = loss(0.5 * tone + floor, target), loss(tone + 0.5 * floor, target)
    assert weak_tone.loudness / weak_floor.loudness > 4 * weak_tone.mel / weak_floor.mel


def test_mel_bands_hear_what_lies_between_harmonics() -> None:
    """A voice of 200 Hz as a codec gives it back that knows only its spectral envelope: noise in the same bands."""
    time = torch.arange(19200) / 24000
    voice = 0.2 * sum(torch.sin(2 * torch.pi * 200 * k * time) / k for k in range(1, 20))[None]
    noise = torch.randn(1, 19200, generator=torch.Generator().manual_seed(0))
    hann = torch.hann_window(2048)
    filters = mel_filters(24000, 2048, 20)
    spectra = [torch.stft(x[0], 2048, 512, window=hann, return_complex=True) for x in (voice, noise)]
    bands = [(spectrum.abs().square().mean(1) @ filters).sqrt() for spectrum in spectra]
    gains = (filters / filters.sum(1, keepdim=True).clamp_min(1e-9)) @ (bands[0] / bands[1])
    shaped = torch.istft(spectra[1] * gains[:, None], 2048, 512, window=hann, length=19200)[None]
    fine, coarse = (ReconstructionLoss(24000, (2048,), bands)(shaped, voice) for bands in (320, 80))
    assert fine.mel > 1.3 * coarse.mel
    assert fine.loudness > 1.3 * coarse.loudness


def test_the_envelope_loss_is_near_to_stoi() -> None:
    pystoi = pytest.importorskip("pystoi", reason="pystoi is not installed (extra [evaluate])")
    loss = ReconstructionLoss(24000, (512,), envelope=True)
    target = torch.cat([modulated(seed, 1) for seed in range(3)], 1)
    for share in (0.25, 0.5, 1.0):
        output = target + share * torch.cat([modulated(seed, 1) for seed in range(3, 6)], 1)
        measured = pystoi.stoi(target[0].numpy(), output[0].numpy(), 24000)
        assert float(1 - loss(output, target).envelope) == pytest.approx(measured, abs=0.1)


@pytest.mark.parametrize("samples", [2048, 9600, 40000])
def test_the_envelope_loss_has_finite_gradients_at_any_length(samples: int) -> None:
    loss = ReconstructionLoss(24000, (512,), envelope=True)
    for target in (torch.zeros(1, samples), 0.1 * torch.randn(1, samples, generator=torch.Generator().manual_seed(0))):
        output = torch.zeros(1, samples, requires_grad=True)
        loss(output, target).envelope.backward()
        assert torch.isfinite(output.grad).all()


def test_third_octaves() -> None:
    bands = third_octaves(24000, 616)
    assert bands.shape == (309, 15)
    assert (bands.sum(0) >= 1).all()
    assert (bands.sum(1) <= 1).all()
    hertz = torch.linspace(0, 12000, 309)
    assert hertz[bands[:, 0] > 0].min() >= 150 * 2 ** (-1 / 6)
    assert hertz[bands[:, -1] > 0].max() <= 150 * 2 ** (14 / 3 + 1 / 6)
