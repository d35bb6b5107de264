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

__all__ = ["Losses", "ReconstructionLoss", "levels", "mel_filters"]

# Amplitude under which a band counts as silence in the log: -80 dB of full scale. Lower values would make the model
# spend bits on the noise floor of recordings.
LOG_FLOOR = 1e-4
# RMS under which a crop counts as quiet and no longer gets the same say as the others: a third of what recordings have
# on average (0.05). Without it the quietest crops, where any output is a large relative error, would own the gradient.
LEVEL_FLOOR = 0.015


class Losses(NamedTuple):
    """Scalars: `mel` in nepers, `linear` and `wave` relative to the target's level."""

    mel: Tensor
    linear: Tensor
    wave: Tensor


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


def levels(target: Tensor) -> Tensor:
    """RMS of each row of [B, N], [B, 1], at least `LEVEL_FLOOR`: what a change of the output is measured against."""
    return target.square().mean(1, keepdim=True).sqrt().clamp_min(LEVEL_FLOOR)


class ReconstructionLoss(nn.Module):
    """Compares [B, N] audio with its target at several resolutions.

    windows: STFT lengths in samples, hop = window / 4. bands: mel bands of the longest window; shorter windows get
    proportionally fewer, at least 8.
    """

    def __init__(self, sample_rate: int, windows: tuple[int, ...] = (64, 128, 256, 512, 1024, 2048), bands: int = 80):
        super().__init__()
        self.windows = windows
        for window in windows:
            # Scaled so that a magnitude is an amplitude: a sine of amplitude 1 peaks at 0.5 whatever the window.
            hann = torch.hann_window(window)
            self.register_buffer(f"hann_{window}", hann / hann.sum(), persistent=False)
            count = max(8, bands * window // max(windows))
            self.register_buffer(f"mel_{window}", mel_filters(sample_rate, window, count), persistent=False)

    def _magnitude(self, x: Tensor, window: int) -> Tensor:
        """[B, N] to amplitudes [B, frames, window // 2 + 1]; the root is floored, so its gradient is finite at 0."""
        padded = F.pad(x, (window // 2, window // 2))
        frames = padded.unfold(1, window, window // 4) * self.get_buffer(f"hann_{window}")
        spectrum = torch.view_as_real(torch.fft.rfft(frames))
        power: Tensor = spectrum.square().sum(-1)
        return power.clamp_min(1e-12).sqrt()

    def forward(self, output: Tensor, target: Tensor) -> Losses:
        """Both [B, N] at the same rate; means over the batch."""
        level = levels(target)
        mel = output.new_zeros(())
        linear = output.new_zeros(())
        for window in self.windows:
            with torch.no_grad():
                wanted = self._magnitude(target, window)
            got = self._magnitude(output, window)
            filters = self.get_buffer(f"mel_{window}")
            difference = ((got @ filters) + LOG_FLOOR).log() - ((wanted @ filters) + LOG_FLOOR).log()
            mel = mel + difference.abs().mean()
            linear = linear + ((got - wanted).abs() / level[..., None]).mean()
        count = len(self.windows)
        return Losses(mel / count, linear / count, ((output - target).abs() / level).mean())
