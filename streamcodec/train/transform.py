"""Starting weights that make an EnCodec a transform codec, so that training begins with audio that comes through.

A SEANet with random weights has to find a filter bank before anything else, which takes it a large share of a short
training. Here some channels of every level carry the waveform instead: the encoder's strided convolutions gather
blocks of samples and take their discrete cosine transform (DCT-II), level by level; the latents are the lowest
coefficients of a frame and, for the other half, what random features tell of its bands' log energies; the decoder goes
the same way back. An ELU is the identity above zero, so it lets these channels pass unchanged on an offset of `KNEE`;
one more channel of each level is the constant 1, which takes the offsets off again. All others are random features
whose weights into the former are zero at first: they add nothing until training finds a use for them. Frames do not
overlap: a causal codec has to give a frame from the codes up to its own.
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

# How far below zero a channel may go before its ELU bends it, where the largest channel of a level has deviation 1.
# Audio is heavy-tailed: loud speech is 10 dB over the mean level, and its peaks 12 dB over its own.
KNEE = 6.0
# Share of a level's channels that may carry the waveform; the others are for learning.
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
    """Channels that carry blocks of `size` samples: channel i is scale[i] times coefficient i, [kept] float64."""

    size: int
    basis: Tensor
    scale: Tensor

    @classmethod
    def of(cls, samples: Tensor, size: int, channels: int) -> "_Level":
        """samples: [B, N], N a multiple of `size`, on which the scales are measured."""
        basis = _cosines(size, min(size, max(1, int(SHARE * channels))))
        coefficients = samples.double().reshape(-1, size) @ basis.T
        deviation = coefficients.std(0).clamp_min(1e-3)
        return cls(size, basis, deviation**-EVEN * deviation.max() ** (EVEN - 1))

    @property
    def kept(self) -> int:
        return len(self.scale)

    def gather(self, finer: "_Level") -> Tensor:
        """Weights [blocks, finer.kept, kept] from consecutive finer blocks to this level's channels."""
        cut = self.basis.T.reshape(-1, finer.size, self.kept)
        return finer.basis / finer.scale[:, None] @ cut * self.scale

    def spread(self, finer: "_Level") -> Tensor:
        """Weights [kept, blocks, finer.kept] from this level's channels to consecutive finer blocks."""
        cut = self.basis.reshape(self.kept, -1, finer.size)
        return (cut @ finer.basis.T) * finer.scale / self.scale[:, None, None]


def _settle(module: Conv1d | ConvTranspose1d, x: Tensor, first: int) -> None:
    """Give output channels from `first` on mean 0 and deviation 1 on the input `x`."""
    weight, bias = module.weight, cast(nn.Parameter, module.bias)
    output = module(x)[..., first:].flatten(0, 1)
    mean, deviation = output.mean(0), output.std(0).clamp_min(1e-6)
    bias[first:] = (bias[first:] - mean) / deviation
    weight[..., first:] /= deviation


def _carry(module: Conv1d, x: Tensor, weight: Tensor, centre: float = KNEE) -> None:
    """Set the newest taps [taps, kept in, kept out]; outputs that they feed come out around `centre`.

    Channel `kept in` of `x` is the constant 1 and takes the offsets of the others off; audio itself has none.
    """
    taps, inputs, outputs = weight.shape
    module.weight[..., :outputs] = 0
    module.weight[-taps:, :inputs, :outputs] = weight.to(x)
    if inputs < x.shape[-1]:
        module.weight[-taps:, inputs, :outputs] = (-KNEE * weight.sum(1)).to(x)
    cast(nn.Parameter, module.bias)[:outputs] = centre
    if centre:
        _constant(module, outputs)
        outputs += 1
    if outputs < module.out_channels:
        _settle(module, x, outputs)


def _carry_back(module: ConvTranspose1d, x: Tensor, weight: Tensor) -> None:
    """The same for the newest tap [kept in, stride, kept out] of a transposed convolution."""
    inputs, _, outputs = weight.shape
    module.weight[..., :outputs] = 0
    module.weight[-1, :inputs, :, :outputs] = weight.to(x)
    module.weight[-1, inputs, :, :outputs] = (-KNEE * weight.sum(0)).to(x)
    cast(nn.Parameter, module.bias)[:outputs] = KNEE
    _constant(module, outputs)
    if outputs + 1 < module.out_channels:
        _settle(module, x, outputs + 1)


def _constant(module: Conv1d | ConvTranspose1d, channel: int) -> None:
    """Make an output channel the constant 1."""
    module.weight[..., channel] = 0
    cast(nn.Parameter, module.bias)[channel] = 1.0


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
        size, offset = layer.channels, x.mean((0, 1))
        for tensors in layer.lstm.all_weights:
            tensors[2].sub_(tensors[0] @ offset)
            for tensor in tensors:
                tensor[2 * size : 2 * size + carried] = 0  # the candidates: a cell without one stays at zero
            offset = torch.zeros_like(offset)


@torch.no_grad()
def start_as_transform(encoder: nn.Module, decoder: nn.Module, audio: Tensor, sample_rate: int) -> None:
    """Set the weights of a fresh causal codec. audio: [B, N] at unit level and `sample_rate` Hz, whole frames."""
    inwards, outwards = _flat(encoder), _flat(decoder)
    ratios = [layer.stride for layer in inwards if isinstance(layer, Conv1d) and layer.stride > 1]
    sizes = [math.prod(ratios[:i]) for i in range(len(ratios) + 1)]
    convolutions = [layer for layer in inwards if isinstance(layer, Conv1d)]
    levels = [_Level.of(audio, n, conv.out_channels) for n, conv in zip(sizes, convolutions, strict=False)]
    latents = _Level.of(audio, sizes[-1], int(convolutions[-1].out_channels / SHARE))
    latents = _shorter(latents, min(levels[-1].kept, math.ceil(WAVE_SHARE * convolutions[-1].out_channels)))
    plan = [
        levels[0].scale.reshape(1, 1, 1),
        *(coarse.gather(fine) for fine, coarse in pairwise(levels)),
    ]
    plan.append(_straight(levels[-1], latents))
    rows, carried = audio[..., None], 1
    for layer in inwards:
        if isinstance(layer, Conv1d):
            weight = plan.pop(0)
            carried = weight.shape[-1]
            _carry(layer, rows, weight, KNEE if plan else 0.0)
            if not plan:
                _hear_energies(layer, rows, audio, sizes[-1], carried, sample_rate)
        else:
            _silence(layer, rows, carried + 1)
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


def _shorter(level: _Level, kept: int) -> _Level:
    """Its first `kept` channels alone."""
    return _Level(level.size, level.basis[:kept], level.scale[:kept])


def _straight(one: _Level, other: _Level) -> Tensor:
    """Weights [1, one.kept, other.kept] between channels of equal blocks."""
    weight = torch.zeros(1, one.kept, other.kept, dtype=torch.float64)
    both = torch.arange(min(one.kept, other.kept))
    weight[0, both, both] = other.scale[: len(both)] / one.scale[: len(both)]
    return weight


def _takes(first: Conv1d, rows: Tensor, weight: Tensor) -> None:
    """Set the newest tap [kept in, kept out] of the decoder's first convolution: latents have no offset to take off."""
    inputs, outputs = weight.shape
    first.weight[..., :outputs] = 0
    first.weight[-1, :inputs, :outputs] = weight.to(rows)
    cast(nn.Parameter, first.bias)[:outputs] = KNEE
    _constant(first, outputs)
    if outputs + 1 < first.out_channels:
        _settle(first, rows, outputs + 1)


def _decoder(layers: list[nn.Module], rows: Tensor, levels: list[_Level], latents: _Level) -> None:
    """The way back; rows: latents [B, T, D]; levels: finest first."""
    first, last = cast(Conv1d, layers[0]), cast(Conv1d, layers[-1])
    level = levels.pop()
    _takes(first, rows, _straight(latents, level)[0])
    rows = first(rows)
    for layer in layers[1:-1]:
        if isinstance(layer, ConvTranspose1d):
            finer = levels.pop()
            _carry_back(layer, rows, level.spread(finer))
            level = finer
        else:
            _silence(layer, rows, level.kept + 1)
        rows = layer(rows)
    last.weight.zero_()
    last.weight[-1, 0] = 1 / level.scale.to(rows)
    cast(nn.Parameter, last.bias).fill_(float(-KNEE / level.scale[0]))


def _flat(half: nn.Module) -> list[nn.Module]:
    if not isinstance(half, Sequential):
        return [half]
    return [inner for layer in half.chain for inner in _flat(layer)]
