"""The codec as training sees it: networks at unit level, latents in between, codebooks that are learnt elsewhere."""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..codecs import Codec
from ..codecs.semantic import SemanticBase
from ..codecs.spectral import SpectralCodec
from ..nn.factorised import FactorisedQuantizer
from ..nn.layer import Elementwise, Sequential
from .initialise import scale_input, scale_output, scale_to_data
from .transform import start_as_transform

__all__ = ["GAIN", "Latents", "Networks", "install"]

# Audio is about 1 / GAIN RMS. While training, the networks see it at unit level; otherwise the last layer's weights
# would be as small as Adam's steps. The factor is folded into the outer convolutions before and after.
GAIN = 16.0


class Latents(NamedTuple):
    """values: [B, T, D]; features: of the speech model, [B, F, C], for codecs that have one.

    scale: [B], what a codec that normalises its segments divided each crop by, and multiplies it by again.
    """

    values: Tensor
    features: Tensor | None = None
    scale: Tensor | None = None


def _modules(codec: Codec) -> nn.ModuleDict:
    """What is trained, under the names that checkpoints of a training use."""
    parts: dict[str, nn.Module] = {"encoder": codec.encoder, "decoder": codec.decoder}
    if isinstance(codec, SemanticBase):
        for name in ("encoder_semantic", "decoder_semantic", "fc", "fc1"):
            parts[name] = getattr(codec, name)
    if isinstance(codec.quantizer, FactorisedQuantizer):
        parts["quantizer"] = codec.quantizer  # its projections; its entries are no parameters
    return nn.ModuleDict(parts)


def _has_norms(codec: Codec) -> bool:
    return any(isinstance(module, nn.GroupNorm) for module in codec.encoder.modules())


def _normalises(codec: Codec) -> bool:
    return codec.segments is not None and codec.segments.normalize


def _gain(codec: Codec) -> float:
    """1 where levels are the codec's own affair.

    A spectral codec takes them out of the audio itself, and its outermost convolutions are constants. What is
    normalised by segment is at unit level, and what a norm follows cannot be scaled.
    """
    return 1.0 if isinstance(codec, SpectralCodec) or _normalises(codec) or _has_norms(codec) else GAIN


def _change_level(codec: Codec, factor: float) -> None:
    """Make the networks expect and give audio of `factor` times the level."""
    if factor == 1:
        return
    scale_input(codec.encoder, 1 / factor)
    scale_output(codec.decoder, factor)


@torch.no_grad()
def install(codec: Codec, weights: Mapping[str, Tensor], codebooks: Tensor) -> None:
    """Put weights, as a training holds them, and codebooks into `codec`, ready for use."""
    for name, parameter in _modules(codec).named_parameters():
        parameter.copy_(weights[name])
    _change_level(codec, 1 / _gain(codec))
    codec.quantizer.set_codebooks(codebooks)


class Networks:
    """A codec's networks while they are trained; `codec` itself is of no other use until `install`.

    Audio is [B * C, N] here and wherever it is compared: the channels of a crop are rows that follow each other.
    device: where they compute; bfloat16: whether they do so in bfloat16, all but the first and the last layer: those
    carry audio, whose weak high frequencies eight bits of mantissa would drown.
    """

    def __init__(self, codec: Codec, device: torch.device, bfloat16: bool):
        self.codec, self.device, self.bfloat16 = codec.to(device), device, bfloat16
        self.gain = _gain(codec)
        _change_level(codec, self.gain)
        self.modules = _modules(codec)
        self.parameters = dict(self.modules.named_parameters())

    def _rows(self, audio: Tensor) -> Tensor:
        """[B * C, N] to [B, N, C]."""
        return audio.unflatten(0, (-1, self.codec.spec.channels)).transpose(1, 2)

    def initialise(self, audio: Tensor, start: str = "random") -> None:
        """Scale fresh random weights on audio, or make them a transform; not for weights trained before."""
        codec = self.codec
        if isinstance(codec, SpectralCodec) or _has_norms(codec):
            return  # its normalisations keep the level
        if start == "transform":
            start_as_transform(codec.encoder, codec.decoder, self.gain * audio, codec.spec.sample_rate)
            return
        latents = scale_to_data(codec.encoder, self.gain * self._level(self._rows(audio))[0])
        if isinstance(codec, SemanticBase):
            latents = codec.join(latents, codec.encoder_semantic(codec.features(self._rows(audio))))
        scale_to_data(codec.decoder, latents)

    def autocast(self) -> torch.autocast:
        """Where the networks' precision holds."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16)

    def _level(self, rows: Tensor) -> tuple[Tensor, Tensor | None]:
        """Crops [B, N, C] as the networks hear them, and their scale [B]: a crop is a segment."""
        if self.codec.segments is None or not self.codec.segments.normalize:
            return rows, None
        scale = self.codec.segments.scale(rows)
        return rows / scale[:, None, None], scale

    def encode(self, audio: Tensor) -> Latents:
        """[B * C, N], N whole frames, to float32 latents."""
        codec = self.codec
        assert isinstance(codec.encoder, Sequential)
        first, *others = codec.encoder.chain
        heard, scale = self._level(self._rows(audio))
        rows = first(self.gain * heard)
        with self.autocast():
            for layer in others:
                rows = layer(rows)
            if not isinstance(codec, SemanticBase):
                return Latents(rows.float(), scale=scale)
            features = codec.features(heard)
            return Latents(codec.join(rows, codec.encoder_semantic(features)).float(), features)

    def decode(self, latents: Tensor, scale: Tensor | None = None) -> Tensor:
        """Latents [B, T, D] to float32 audio [B * C, N'], from its first sample on: a decoder that lags gives fewer.

        scale: that of `Latents`.
        """
        layers, bends = _flat(self.codec.decoder), []
        while isinstance(layers[-1], Elementwise):  # DAC's tanh, which is for audio at its own level
            bends.append(layers.pop())
        rows = latents
        with self.autocast():
            for layer in layers[:-1]:
                rows = layer(rows)
        audio: Tensor = layers[-1](rows.float()) / self.gain
        for bend in reversed(bends):
            audio = bend(audio)
        if scale is not None:
            audio = audio * scale[:, None, None]
        return audio.transpose(1, 2).flatten(0, 1)

    def semantic(self, quantised: Tensor, heard: Latents) -> Tensor | None:
        """X-Codec's semantic reconstruction loss: mean squared error of the features that quantised latents give back.

        None for codecs without a semantic branch (Ye et al. 2024, "Codec Does Matter", section 3.2).
        """
        codec = self.codec
        if not isinstance(codec, SemanticBase) or heard.features is None:
            return None
        with self.autocast():
            got = codec.decoder_semantic(codec.fc1(quantised))
        return nn.functional.mse_loss(got.float(), heard.features.float())


def _flat(half: nn.Module) -> list[nn.Module]:
    """The layers of a decoder in order, those of sequences inside it one by one."""
    if not isinstance(half, Sequential):
        return [half]
    return [inner for layer in half.chain for inner in _flat(layer)]
