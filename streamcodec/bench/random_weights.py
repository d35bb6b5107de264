"""Presets as codecs: of the published sizes with random weights: what a codec costs does not depend on what it learned.

It must not be degenerate either. Weights keep the level through the layers, since the sine of a huge argument costs
more than that of a small one, and the codebooks are made of latents, so that codes vary as a trained codec's do.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..codecs import Codec
from ..nn.conv import Conv1d, ConvTranspose1d
from ..nn.factorised import FactorisedQuantizer
from ..nn.layer import Sequential
from ..nn.levels import LevelQuantizer
from ..nn.residual import Residual
from ..nn.scaled import Scaled
from ..nn.snake import Snake, SnakeBeta
from ..nn.split import SplitQuantizer
from .presets import Preset

__all__ = ["make", "mixtures"]


def make(preset: Preset, seed: int = 0, frames: int = 256) -> Codec:
    """The codec of a preset with random weights, the same for the same seed.

    frames: of noise, whose latents the codebooks are made of; five for 32 tell the level of the audio.
    """
    torch.manual_seed(seed)
    codec = preset.build(preset.config).eval()
    with torch.no_grad():
        for half in (codec.encoder, codec.decoder):
            _settle(half)
        _fit(codec, frames)
        _set_level(codec, frames * 5 // 32)
    return codec


def _set_level(codec: Codec, frames: int) -> None:
    """Audio at about -12 dBFS, by the decoder's last convolution; measured far below a final tanh's bend."""
    last = [layer for layer in codec.decoder.modules() if isinstance(layer, Conv1d)][-1]
    if last.bias is not None:
        last.bias.zero_()
    frames = max(2, frames // _latents(codec))
    noise = 0.1 * torch.randn(1, codec.spec.channels, frames * codec.spec.hop_length)
    codes = codec.encode(noise, codec.spec.bandwidths[-1])
    for level in (1e-3, 0.25):
        last.weight.mul_(level / codec.decode(codes).std())


def _settle(half: nn.Module) -> None:
    """Random weights that keep the level: as He's rule has them, which is for ReLU, it grows with every layer."""
    for layer in half.modules():
        if isinstance(layer, Snake):
            layer.alpha.copy_(0.5 + 0.5 * torch.randn_like(layer.alpha).abs())
            if isinstance(layer, SnakeBeta):  # as Snake: its slope is at most 2, and no difference grows without end
                layer.alpha.log_()
                layer.beta.copy_(layer.alpha)
        elif isinstance(layer, (Conv1d, ConvTranspose1d)):
            layer.weight.mul_(0.5**0.5)
        elif isinstance(layer, Residual) and isinstance(layer.branch, Sequential):
            tail = layer.branch.chain[-1]
            if isinstance(tail, Scaled):
                tail.scale.fill_(0.3)  # what a branch adds to its skip
            elif isinstance(tail, Conv1d):
                tail.weight.mul_(0.3)


def _fit(codec: Codec, frames: int) -> None:
    """Codebooks made of what the stages before them leave of the latents of noise, moved a little."""
    frames = max(1, frames // _latents(codec))
    rows = 0.1 * torch.randn(1, frames * codec.spec.hop_length, codec.spec.channels)
    left = codec.analyse(rows).rows[0]
    quantizer = codec.quantizer
    entries = torch.empty_like(quantizer.codebooks)
    if isinstance(quantizer, LevelQuantizer):
        left = left.reshape(-1, left.shape[1] // quantizer.rows)
        for stage, count in enumerate(quantizer.levels):
            shared = quantizer.rows // count  # latents of a code
            means = left.unflatten(0, (-1, shared)).mean(1)
            left = left - _fit_factorised(quantizer, stage, means, entries[stage]).repeat_interleave(shared, 0)
    elif isinstance(quantizer, FactorisedQuantizer):
        for stage in range(len(entries)):
            left = left - _fit_factorised(quantizer, stage, left, entries[stage])
    elif isinstance(quantizer, SplitQuantizer):
        for part, used in quantizer.parts(len(entries)):
            _fit_stages(left @ quantizer.down[part], entries[used])
    else:
        _fit_stages(left, entries)
    quantizer.set_codebooks(entries)


def _latents(codec: Codec) -> int:
    """Latents of a frame."""
    return codec.quantizer.rows if isinstance(codec.quantizer, LevelQuantizer) else 1


def _fit_stages(left: Tensor, stages: Tensor) -> None:
    """Set stages [K, N, D] for the latents `left` [M, D]."""
    for entries in stages:
        entries.copy_(mixtures(left, len(entries)))
        left = left - entries[torch.cdist(left, entries).argmin(1)]


def mixtures(vectors: Tensor, count: int, generator: torch.Generator | None = None) -> Tensor:
    """`count` mixtures of `vectors` [M, D]: spread as they are, over six tenths of their width.

    No copies of them: each stage would leave next to nothing of its copies, so that later stages were dust, and of
    other audio every later code a near tie.
    """
    mean = vectors.mean(0)
    shares = torch.randn(count, len(vectors), generator=generator).to(vectors)
    return mean + 0.6 * (shares @ (vectors - mean)) / len(vectors) ** 0.5


def _fit_factorised(quantizer: FactorisedQuantizer, stage: int, left: Tensor, entries: Tensor) -> Tensor:
    """Set one stage, `entries` [N, d] too; returns what it makes of `left` [M, D]."""
    weight = quantizer.in_weight[stage]
    projected = torch.addmm(quantizer.in_bias[stage], left, weight)
    entries.copy_(mixtures(projected, len(entries)))
    # Half the way back up: the inverse of a random projection overshoots.
    quantizer.out_weight[stage].copy_(0.5 * torch.linalg.pinv(weight))
    nearest = (F.normalize(projected) @ F.normalize(entries).mT).argmax(1)
    up = entries[nearest] @ quantizer.out_weight[stage]
    quantizer.out_bias[stage].copy_((left - up).mean(0))
    return up + quantizer.out_bias[stage]
