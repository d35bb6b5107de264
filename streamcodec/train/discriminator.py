"""Discriminators and their losses: multi-scale STFT ones, and periodic ones.

The STFT ones are those of EnCodec (Défossez et al. 2022, section 3.4, "Discriminative Loss").

Each scale looks at the complex spectrogram of one window length, real and imaginary parts as channels, with 2-D
convolutions: dilated over time (1, 2, 4) and halving the frequencies. A stride of the first convolution over the
frequencies makes all that follows cheaper: what a CPU can afford. The spectrum may be cut into bands, each with
convolutions of its own, which high frequencies gain by (Kumar et al. 2023, section 3.3).

The periodic ones are those of HiFi-GAN, which DAC has too (Kong et al. 2020, section 2.3): each looks at the waveform
with as many samples side by side as its period has, so that what repeats with it stands in columns.
"""

from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from ..errors import ConfigError

__all__ = ["Discriminators", "PeriodDiscriminator", "Verdict", "adversarial_loss", "discriminator_loss", "feature_loss"]

SLOPE = 0.2  # of the leaky ReLUs
DILATIONS = (1, 2, 4)
PERIOD_WIDTHS = (1, 4, 16, 32, 32)  # channels of each convolution of a periodic one, relative to the first


class Verdict(NamedTuple):
    """What one discriminator makes of audio: logits [B, 1, T, F], high for real; features, of each layer: [B, C, T, F].

    Of a periodic one F is the period, and T counts periods.
    """

    logits: Tensor
    features: list[Tensor]


def _conv(inputs: int, outputs: int, kernel: tuple[int, int], stride: int = 1, dilation: int = 1) -> nn.Module:
    padding = ((kernel[0] - 1) // 2 * dilation, (kernel[1] - 1) // 2)
    made: nn.Module = weight_norm(
        nn.Conv2d(inputs, outputs, kernel, stride=(1, stride), dilation=(dilation, 1), padding=padding)
    )
    return made


def _convs(filters: int, stride: int) -> nn.ModuleList:
    """Those of a band, but for the last one, which all bands share."""
    return nn.ModuleList(
        [
            _conv(2, filters, (3, max(9, 2 * stride + 1)), stride),
            *(_conv(filters, filters, (3, 9), stride=2, dilation=dilation) for dilation in DILATIONS),
            _conv(filters, filters, (3, 3)),
        ]
    )


class StftDiscriminator(nn.Module):
    """One scale. window: STFT length in samples, hop a quarter of it; filters: channels of each convolution.

    stride: of the first convolution over the frequencies, whose kernel covers twice as many bins, at least nine; bands:
    edges as shares of the spectrum, from 0 to 1.
    """

    def __init__(self, window: int, filters: int, stride: int = 1, bands: tuple[float, ...] = (0.0, 1.0)):
        super().__init__()
        self.window = window
        bins = window // 2 + 1
        edges = [round(edge * bins) for edge in bands]
        self.widths = [high - low for low, high in pairwise(edges)]
        if min(self.widths) < 1:
            raise ConfigError(
                f"discriminator.bands {list(bands)} leave one without any of the {bins} bins of window {window}"
            )
        hann = torch.hann_window(window)
        # Unit energy: a sample of white noise of deviation 1 gives a bin of deviation 1 at every window length.
        self.register_buffer("hann", hann / hann.square().sum().sqrt(), persistent=False)
        self.layers = _convs(filters, stride)  # of the lowest band
        self.higher = nn.ModuleList(_convs(filters, stride) for _ in self.widths[1:])
        self.last = _conv(filters, 1, (3, 3))

    def spectrogram(self, audio: Tensor) -> Tensor:
        """[B, N] to [B, 2, frames, window // 2 + 1]; whole windows only, N at least one of them."""
        frames = audio.unfold(1, self.window, self.window // 4) * self.get_buffer("hann")
        return torch.view_as_real(torch.fft.rfft(frames)).permute(0, 3, 1, 2).contiguous()

    def forward(self, audio: Tensor) -> Verdict:
        """Audio [B, N] of about unit level."""
        with torch.autocast(audio.device.type, enabled=False):  # transforms have no bfloat16
            x = self.spectrogram(audio.float())
        features, tops = [], []
        for band, layers in zip(x.split(self.widths, 3), (self.layers, *self.higher), strict=True):
            for layer in layers:
                band = F.leaky_relu(layer(band), SLOPE)
                features.append(band)
            tops.append(band)
        return Verdict(self.last(torch.cat(tops, 3)), features)


class PeriodDiscriminator(nn.Module):
    """One period, in samples. filters: channels of the first convolution."""

    def __init__(self, period: int, filters: int):
        super().__init__()
        self.period = period
        channels = [1, *(factor * filters for factor in PERIOD_WIDTHS)]
        strides = [3] * (len(PERIOD_WIDTHS) - 1) + [1]
        self.layers = nn.ModuleList(
            weight_norm(nn.Conv2d(one, other, (5, 1), stride=(stride, 1), padding=(2, 0)))
            for (one, other), stride in zip(pairwise(channels), strides, strict=True)
        )
        self.last = _conv(channels[-1], 1, (3, 1))

    def forward(self, audio: Tensor) -> Verdict:
        """Audio [B, N] of about unit level; zeros fill the last period."""
        x = F.pad(audio, (0, -audio.shape[1] % self.period)).unflatten(1, (-1, self.period))[:, None]
        features = []
        for layer in self.layers:
            x = F.leaky_relu(layer(x), SLOPE)
            features.append(x)
        return Verdict(self.last(x), features)


class Discriminators(nn.Module):
    """One of each window and of each period, with weights of their own."""

    def __init__(
        self,
        windows: tuple[int, ...],
        filters: int,
        stride: int = 1,
        bands: tuple[float, ...] = (0.0, 1.0),
        periods: tuple[int, ...] = (),
        period_filters: int = 1,
    ):
        super().__init__()
        made: list[nn.Module] = [StftDiscriminator(window, filters, stride, bands) for window in windows]
        made += [PeriodDiscriminator(period, period_filters) for period in periods]
        self.scales = nn.ModuleList(made)

    def forward(self, audio: Tensor) -> list[Verdict]:
        """[B, N] to a verdict each."""
        return [scale(audio) for scale in self.scales]


def _mean(values: list[Tensor]) -> Tensor:
    return torch.stack(values).mean()


def discriminator_loss(real: list[Verdict], fake: list[Verdict]) -> Tensor:
    """Hinge loss, mean over the scales: real audio should come out above 1, the codec's below -1."""
    scales = zip(real, fake, strict=True)
    return _mean([F.relu(1 - r.logits.float()).mean() + F.relu(1 + f.logits.float()).mean() for r, f in scales])


def adversarial_loss(fake: list[Verdict]) -> Tensor:
    """The codec's side of it, max(0, 1 - D(output)), mean over the scales."""
    return _mean([F.relu(1 - verdict.logits.float()).mean() for verdict in fake])


def feature_loss(real: list[Verdict], fake: list[Verdict]) -> Tensor:
    """Mean distance of the features, each relative to the mean magnitude of the real ones, row by row.

    Row by row, where the paper divides by the batch's mean: so a row's loss does not depend on the rows beside it.
    """
    distances = []
    for one, other in zip(real, fake, strict=True):
        for wanted, got in zip(one.features, other.features, strict=True):
            wanted = wanted.detach().float()
            size = wanted.abs().mean((1, 2, 3)).clamp_min(1e-8)
            distances.append(((got.float() - wanted).abs().mean((1, 2, 3)) / size).mean())
    return _mean(distances)
