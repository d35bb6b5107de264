"""Starting weights that make an EnCodec a transform codec, so that training begins with audio that comes through.

A SEANet with random weights has to find a filter bank before anything else, which takes it a large share of a short
training. Here some channels of every level carry the waveform instead: the encoder's strided convolutions gather
blocks of samples and take their discrete cosine transform (DCT-II), level by level; the latents are the lowest
coefficients of a frame and, for the other half, what random features tell of its bands' log energies; the decoder goes
the same way back. An ELU bends what is below zero, so a coefficient has two channels, one of either sign: the
difference of their ELUs is odd and nearly linear as far as `LOUDEST` goes, and needs no offset. All other channels are
random features whose weights into the former are zero at first: they add nothing until training finds a use for them.
Frames do not overlap: a causal codec has to give a frame from the codes up to its own.
"""

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..nn.conv import Conv1d, ConvTranspose1d
from ..nn.layer import Sequential
from ..nn.lstm import LSTM
from ..nn.residual import Residual
from .losses import mel_filters

__all__ = ["start_as_transform"]

# Deviation of the largest coefficient of a level: elu(x) - elu(-x) is nearly 2x for small x, and x + 1 for large ones.
# Loud speech is 10 dB over the mean level and its peaks 12 dB over its own: at the peaks, about 1, a fifth is lost.
LOUDEST = 0.1
# Deviation of the random features: large enough that their ELUs bend and tell of energies, small enough that an update
# of what they add to the former is a small part of those. At 1 the first hundred updates drown the waveform.
RANDOM = 0.3
# Share of a level's channels that may carry the waveform, in pairs; the others are for learning.
SHARE = 0.75
# A channel is divided by its deviation to this power: 0 would leave the 50 dB between low and high frequencies of
# speech, 1 would make the noise of the quietest coefficients as large as the signal.
EVEN = 0.75
# Share of the latents that are coefficients; the others begin as log energies of mel bands.
WAVE_SHARE = 0.5
# Frames' worth of samples that an energy is measured over, and the RMS of a band (of audio at unit level) that counts
# as silence: 60 dB under it.
ENERGY_FRAMES, SILENCE = 2, 1e-3
# Of the least squares that give energies from random features, relative to a feature's own power.
RIDGE = 1e-2


def _cosines(size: int, kept: int) -> Tensor:
    """The first `kept` rows of the orthonormal DCT-II of `size` samples, [kept, size] float64."""
    place = (torch.arange(size, dtype=torch.float64) + 0.5) * math.pi / size
    rows = torch.cos(torch.arange(kept, dtype=torch.float64)[:, None] * place) * math.sqrt(2 / size)
    rows[0] /= math.sqrt(2)
    return rows


@dataclass(frozen=True)
class _Level:
    """Channels that carry blocks of `size` samples: pair i is plus and minus scale[i] times coefficient i.

    Pairs are two halves, [plus 0 .. kept - 1, minus 0 .. kept - 1]. basis: [kept, size], scale: [kept], float64.
    """

    size: int
    basis: Tensor
    scale: Tensor

    @classmethod
    def of(cls, samples: Tensor, size: int, kept: int) -> "_Level":
        """samples: [B, N], N a multiple of `size`, on which the scales are measured."""
        basis = _cosines(size, min(size, max(1, kept)))
        coefficients = samples.double().reshape(-1, size) @ basis.T
        deviation = coefficients.std(0).clamp_min(1e-3)
        return cls(size, basis, LOUDEST * deviation**-EVEN * deviation.max() ** (EVEN - 1))

    @property
    def kept(self) -> int:
        return len(self.scale)

    def gather(self, finer: "_Level") -> Tensor:
        """Weights [blocks, finer.kept, kept] from consecutive finer blocks to this level's coefficients."""
        cut = self.basis.T.reshape(-1, finer.size, self.kept)
        return finer.basis / finer.scale[:, None] @ cut * self.scale

    def spread(self, finer: "_Level") -> Tensor:
        """Weights [kept, blocks, finer.kept] from this level's coefficients to consecutive finer blocks."""
        cut = self.basis.reshape(self.kept, -1, finer.size)
        return (cut @ finer.basis.T) * finer.scale / self.scale[:, None, None]


def _settle(module: Conv1d | ConvTranspose1d, x: Tensor, first: int) -> None:
    """Give output channels from `first` on mean 0 and deviation `RANDOM` on the input `x`."""
    if first >= module.out_channels:
        return
    weight, bias = module.weight, cast(nn.Parameter, module.bias)
    output = module(x)[..., first:].flatten(0, 1)
    mean, deviation = output.mean(0), output.std(0).clamp_min(1e-6)
    bias[first:] = RANDOM * (bias[first:] - mean) / deviation
    weight[..., first:] *= RANDOM / deviation


def _unbent(x: Tensor, pairs: int) -> Tensor:
    """By what to multiply the differences of the first `pairs` pairs of `x`, after an ELU, to get coefficients."""
    bent = x[..., :pairs] - x[..., pairs : 2 * pairs]
    # What an ELU made of x is undone for the comparison: x where above zero, log(1 + x) below.
    plus = torch.where(x > 0, x, torch.log1p(x.clamp(min=-1 + 1e-6)))[..., :pairs]
    return (bent * plus).sum() / bent.square().sum().clamp_min(1e-30)


def _both_signs(weight: Tensor, axis: int = -1) -> Tensor:
    """Weights to (or, along another axis, from) pairs, from weights to coefficients."""
    return torch.cat([weight, -weight], axis)


def _carry(module: Conv1d, x: Tensor, weight: Tensor, pairs: int) -> None:
    """Set the newest taps [taps, kept in, kept out] of a convolution. pairs: of `x`, 0 where it is no pairs' level."""
    if pairs:
        weight = _both_signs(weight * _unbent(x, pairs), 1)
    taps, inputs, outputs = weight.shape
    module.weight[..., :outputs] = 0
    module.weight[-taps:, :inputs, :outputs] = weight.to(x)
    cast(nn.Parameter, module.bias)[:outputs] = 0
    _settle(module, x, outputs)


def _carry_back(module: ConvTranspose1d, x: Tensor, weight: Tensor) -> None:
    """The same for the newest tap [kept in, stride, kept out] of a transposed convolution."""
    weight = _both_signs(weight * _unbent(x, len(weight)), 0)
    inputs, _, outputs = weight.shape
    module.weight[..., :outputs] = 0
    module.weight[-1, :inputs, :, :outputs] = weight.to(x)
    cast(nn.Parameter, module.bias)[:outputs] = 0
    _settle(module, x, outputs)


def _silence(layer: nn.Module, x: Tensor, carried: int) -> None:
    """Make a residual block or an LSTM give its first `carried` channels unchanged (a residual block: all of them)."""
    if isinstance(layer, Residual):
        elu, inner, _, outer = cast(Sequential, layer.branch).chain
        _settle(cast(Conv1d, inner), elu(x), 0)
        for parameter in outer.parameters():
            parameter.zero_()
        if isinstance(layer.shortcut, Conv1d):
            layer.shortcut.set_weight(torch.eye(x.shape[-1]).to(x)[..., None], x.new_zeros(x.shape[-1]))
    elif isinstance(layer, LSTM):
        size = layer.channels
        for tensors in layer.lstm.all_weights:
            for tensor in tensors:
                tensor[2 * size : 2 * size + carried] = 0  # the candidates: a cell without one stays at zero


@torch.no_grad()
def start_as_transform(encoder: nn.Module, decoder: nn.Module, audio: Tensor, sample_rate: int) -> None:
    """Set the weights of a fresh causal codec. audio: [B, N] at unit level and `sample_rate` Hz, whole frames."""
    inwards, outwards = _flat(encoder), _flat(decoder)
    convolutions = [layer for layer in inwards if isinstance(layer, Conv1d)]
    ratios = [layer.stride for layer in convolutions if layer.stride > 1]
    sizes = [math.prod(ratios[:i]) for i in range(len(ratios) + 1)]
    levels = [
        _Level.of(audio, n, int(SHARE * conv.out_channels / 2)) for n, conv in zip(sizes, convolutions, strict=False)
    ]
    latents = _Level.of(audio, sizes[-1], min(levels[-1].kept, math.ceil(WAVE_SHARE * convolutions[-1].out_channels)))
    plan = [
        levels[0].scale.reshape(1, 1, 1),
        *(coarse.gather(fine) for fine, coarse in pairwise(levels)),
    ]
    rows, pairs = audio[..., None], 0
    for layer in inwards:
        if isinstance(layer, Conv1d) and plan:
            weight = _both_signs(plan.pop(0))
            _carry(layer, rows, weight, pairs)
            pairs = weight.shape[-1] // 2
        elif isinstance(layer, Conv1d):
            _carry(layer, rows, _straight(levels[-1], latents), pairs)
            _hear_energies(layer, rows, audio, sizes[-1], latents.kept, sample_rate)
        else:
            _silence(layer, rows, 2 * pairs)
        rows = layer(rows)
    _decoder(outwards, rows, levels, latents)


def _energies(samples: Tensor, frame: int, bands: int, sample_rate: int) -> Tensor:
    """Log amplitudes of mel bands up to the end of each frame, [B, T, bands]."""
    window = ENERGY_FRAMES * frame
    hann = torch.hann_window(window).to(samples)
    pieces = F.pad(samples, (window - frame, 0)).unfold(1, window, frame) * (hann / hann.square().sum().sqrt())
    amplitudes = torch.fft.rfft(pieces).abs() @ mel_filters(sample_rate, window, bands).to(samples)
    return (amplitudes + SILENCE).log()


def _hear_energies(last: Conv1d, x: Tensor, samples: Tensor, frame: int, first: int, sample_rate: int) -> None:
    """Make the outputs of the last convolution from `first` on what its input `x` tells of the bands' log energies.

    By least squares, each with mean 0 and deviation 1, then all scaled to the power of the outputs before them.
    """
    bands = last.out_channels - first
    if bands < 1:
        return
    wanted = _energies(samples, frame, bands, sample_rate).flatten(0, 1).double()
    wanted = (wanted - wanted.mean(0)) / wanted.std(0).clamp_min(1e-6)
    features = x.flatten(0, 1).double()
    mean = features.mean(0)
    centred = features - mean
    gram = centred.T @ centred
    gram += RIDGE * torch.diag(gram.diagonal().clamp_min(1e-6))
    weight = torch.linalg.solve(gram, centred.T @ wanted)
    carried = last(x)[..., :first].flatten(0, 1)
    weight *= (carried.square().sum(1).mean() / (centred @ weight).square().sum(1).mean()).sqrt()
    last.weight[..., first:] = 0
    last.weight[-1, :, first:] = weight.to(x)
    cast(nn.Parameter, last.bias)[first:] = -(mean @ weight).to(x)


def _straight(one: _Level, other: _Level) -> Tensor:
    """Weights [1, one.kept, other.kept] between channels of equal blocks."""
    weight = torch.zeros(1, one.kept, other.kept, dtype=torch.float64)
    both = torch.arange(min(one.kept, other.kept))
    weight[0, both, both] = other.scale[: len(both)] / one.scale[: len(both)]
    return weight


def _decoder(layers: list[nn.Module], rows: Tensor, levels: list[_Level], latents: _Level) -> None:
    """The way back; rows: latents [B, T, D]; levels: finest first."""
    level = levels.pop()
    for layer in layers[:-1]:
        if isinstance(layer, ConvTranspose1d):
            finer = levels.pop()
            _carry_back(layer, rows, _both_signs(level.spread(finer)))
            level = finer
        elif isinstance(layer, Conv1d):
            _carry(layer, rows, _both_signs(_straight(latents, level)), 0)
        else:
            _silence(layer, rows, 2 * level.kept)
        rows = layer(rows)
    last = cast(Conv1d, layers[-1])
    last.weight.zero_()
    last.weight[-1, :2] = _both_signs(_unbent(rows, 1) / level.scale, 0)[:, None].to(rows)
    cast(nn.Parameter, last.bias).zero_()


def _flat(half: nn.Module) -> list[nn.Module]:
    if not isinstance(half, Sequential):
        return [half]
    return [inner for layer in half.chain for inner in _flat(layer)]
