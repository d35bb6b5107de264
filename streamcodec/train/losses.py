"""Reconstruction losses: multi-scale log-mel and linear spectra, and a waveform term.

The spectral distance at several window lengths follows EnCodec (Défossez et al. 2022, section 3.4) and DDSP's
multi-scale spectrogram loss (Engel et al. 2020). Every loss is a mean over the rows of a batch, none of which depends
on another; what they weigh against each other is the balancer's affair.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["Losses", "ReconstructionLoss", "correlation_loss", "levels", "mel_filters", "third_octaves"]

# Amplitude under which a band counts as silence in the log: -80 dB of full scale. Lower values would make the model
# spend bits on the noise floor of recordings.
LOG_FLOOR = 1e-4
# RMS under which a crop counts as quiet and no longer gets the same say as the others: a third of what recordings have
# on average (0.05). Without it the quietest crops, where any output is a large relative error, would own the gradient.
LEVEL_FLOOR = 0.015


# Of the envelopes that carry words: 15 third-octave bands from 150 Hz on, heard through windows of 25.6 ms every
# 12.8 ms in stretches of 30, 384 ms (Taal et al. 2011, section II).
OCTAVE_BANDS, LOWEST_BAND = 15, 150.0
ENVELOPE_SECONDS, ENVELOPE_FRAMES = 0.0256, 30
# Loudness grows with the power of a band to this exponent (Zwicker & Feldtkeller 1967, as in PESQ, ITU-T P.862).
LOUDNESS = 0.23


class Losses(NamedTuple):
    """Scalars: `mel` in nepers; `loudness`, `linear` and `wave` relative to the target's level; `envelope` 0 to 2."""

    mel: Tensor
    loudness: Tensor
    linear: Tensor
    wave: Tensor
    envelope: Tensor


def _hertz_to_mel(hertz: float) -> float:
    """O'Shaughnessy 1987, the formula that HTK made common."""
    return 2595.0 * math.log10(1.0 + hertz / 700.0)


def mel_filters(sample_rate: int, window: int, bands: int) -> Tensor:
    """Triangular filters [window // 2 + 1, bands] from 0 Hz to the Nyquist frequency, each of sum 1.

    A band narrower than a bin would be empty; its centre is then the nearest bin, so that no band is blind.
    """
    top = _hertz_to_mel(sample_rate / 2)
    mels = torch.linspace(0, top, bands + 2, dtype=torch.float64)
    edges = 700.0 * (10 ** (mels / 2595.0) - 1.0)
    bins = torch.linspace(0, sample_rate / 2, window // 2 + 1, dtype=torch.float64)[:, None]
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    filters = torch.minimum(rising, falling).clamp_min(0)
    nearest = (bins - edges[1:-1]).abs().argmin(0)
    empty = filters.sum(0) == 0
    filters[nearest[empty], empty.nonzero()[:, 0]] = 1.0
    return (filters / filters.sum(0)).float()


def third_octaves(sample_rate: int, window: int) -> Tensor:
    """Bands [window // 2 + 1, 15] of bins, 1 where a bin is nearer to a band's centre than a sixth of an octave."""
    centres = LOWEST_BAND * 2.0 ** (torch.arange(OCTAVE_BANDS, dtype=torch.float64) / 3)
    bins = torch.linspace(0, sample_rate / 2, window // 2 + 1, dtype=torch.float64)[:, None]
    inside = (bins >= centres * 2 ** (-1 / 6)) & (bins < centres * 2 ** (1 / 6))
    return inside.float()


def correlation_loss(got: Tensor, wanted: Tensor) -> Tensor:
    """1 - the correlation over time of envelopes [B, T, bands], mean over stretches of 384 ms, bands and rows.

    What the measure STOI averages, without its clipping and with no frame left out as silent; so it is a loss that is
    near to a figure that `streamcodec evaluate` reports. A stretch without change (of the target, -60 dB of the row's
    level) counts little: the deviations are floored.
    """
    frames = wanted.shape[1] // ENVELOPE_FRAMES * ENVELOPE_FRAMES or wanted.shape[1]
    length = min(frames, ENVELOPE_FRAMES)
    floor = 1e-3 * wanted.square().sum(2).mean(1).sqrt()[:, None, None] + 1e-8

    def shape(x: Tensor) -> Tensor:
        x = x[:, :frames].reshape(x.shape[0], -1, length, x.shape[2])
        return x - x.mean(2, keepdim=True)

    one, other = shape(got), shape(wanted)
    sizes = (one.square().mean(2) + floor.square()).sqrt() * (other.square().mean(2) + floor.square()).sqrt()
    return 1 - ((one * other).mean(2) / sizes).mean()


def levels(target: Tensor) -> Tensor:
    """RMS of each row of [B, N], [B, 1], at least `LEVEL_FLOOR`: what a change of the output is measured against."""
    return target.square().mean(1, keepdim=True).sqrt().clamp_min(LEVEL_FLOOR)


class ReconstructionLoss(nn.Module):
    """Compares [B, N] audio with its target at several resolutions.

    windows: STFT lengths in samples, hop = window / 4. bands: mel bands of the longest window; shorter windows get
    proportionally fewer, at least 8. 320 for 2,048 samples, as in DAC (Kumar et al. 2023, section 3.4): coarser ones do
    not tell harmonics from what lies between them. envelope: whether that loss is wanted; it is 0 otherwise.
    """

    def __init__(
        self,
        sample_rate: int,
        windows: tuple[int, ...] = (64, 128, 256, 512, 1024, 2048),
        bands: int = 320,
        envelope: bool = False,
    ):
        super().__init__()
        # A multiple of 4, as every window here: the hop is a quarter of it.
        self.envelope_window = 4 * round(sample_rate * ENVELOPE_SECONDS / 4) if envelope else 0
        if envelope:
            hann = torch.hann_window(self.envelope_window)
            self.register_buffer(f"hann_{self.envelope_window}", hann / hann.sum(), persistent=False)
            self.register_buffer("octaves", third_octaves(sample_rate, self.envelope_window), persistent=False)
        self.windows = windows
        for window in windows:
            # Scaled so that a magnitude is an amplitude: a sine of amplitude 1 peaks at 0.5 whatever the window.
            hann = torch.hann_window(window)
            self.register_buffer(f"hann_{window}", hann / hann.sum(), persistent=False)
            count = max(8, bands * window // max(windows))
            self.register_buffer(f"mel_{window}", mel_filters(sample_rate, window, count), persistent=False)

    def _power(self, x: Tensor, window: int, overlap: int = 4) -> Tensor:
        """[B, N] to squared amplitudes [B, frames, window // 2 + 1]."""
        padded = F.pad(x, (window // 2, window // 2))
        frames = padded.unfold(1, window, window // overlap) * self.get_buffer(f"hann_{window}")
        spectrum = torch.view_as_real(torch.fft.rfft(frames))
        power: Tensor = spectrum.square().sum(-1)
        return power

    def _magnitude(self, x: Tensor, window: int) -> Tensor:
        """[B, N] to amplitudes [B, frames, window // 2 + 1]; the root is floored, so its gradient is finite at 0."""
        return self._power(x, window).clamp_min(1e-12).sqrt()

    def _envelopes(self, x: Tensor) -> Tensor:
        """[B, N] to the amplitudes of third-octave bands, [B, frames, 15]."""
        power = self._power(x, self.envelope_window, 2) @ self.get_buffer("octaves")
        return power.clamp_min(1e-12).sqrt()

    def _envelope(self, output: Tensor, target: Tensor) -> Tensor:
        if not self.envelope_window:
            return output.new_zeros(())
        with torch.no_grad():
            wanted = self._envelopes(target)
        return correlation_loss(self._envelopes(output), wanted)

    def forward(self, output: Tensor, target: Tensor) -> Losses:
        """Both [B, N] at the same rate; means over the batch."""
        level = levels(target)
        mel = output.new_zeros(())
        loudness = output.new_zeros(())
        linear = output.new_zeros(())
        for window in self.windows:
            with torch.no_grad():
                wanted = self._magnitude(target, window)
            got = self._magnitude(output, window)
            filters = self.get_buffer(f"mel_{window}")
            bands, wanted_bands = (got @ filters) + LOG_FLOOR, (wanted @ filters) + LOG_FLOOR
            logs, wanted_logs = bands.log(), wanted_bands.log()
            mel = mel + (logs - wanted_logs).abs().mean()
            # Amplitudes to the power of 2 * LOUDNESS.
            sones, wanted_sones = ((2 * LOUDNESS * x).exp() for x in (logs, wanted_logs))
            loudness = loudness + ((sones - wanted_sones).abs() / level[..., None] ** (2 * LOUDNESS)).mean()
            linear = linear + ((got - wanted).abs() / level[..., None]).mean()
        count = len(self.windows)
        wave = ((output - target).abs() / level).mean()
        return Losses(mel / count, loudness / count, linear / count, wave, self._envelope(output, target))
