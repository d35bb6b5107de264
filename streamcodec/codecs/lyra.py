"""Lyra v2 (google/lyra 1.3): a causal SoundStream for speech (Zeghidour et al. 2021) with convolutions in groups."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from ..errors import ConfigError
from ..nn.conv import Conv1d, ConvTranspose1d, DepthwiseConv1d, GroupedConv1d, GroupedConvTranspose1d
from ..nn.layer import Elementwise, Layer, Sequential
from ..nn.quantize import ResidualVectorQuantizer
from ..nn.residual import Residual
from ..program import Padding
from .base import Codec
from .tensors import TensorReader, layers_for

__all__ = ["LyraCodec"]

RATE, HOP, LATENTS = 16_000, 320, 64  # Hz, samples, channels
BANDWIDTHS = {3.2: 16, 6.0: 30, 9.2: 46}  # kbps: stages of four bits
ENTRIES = 16
GROUP = 64  # channels of a group, in the encoder and in residual blocks


def _conv(channels: int, outputs: int, kernel: int, groups: int, stride: int = 1) -> Conv1d:
    padding = Padding(kernel - stride)
    return GroupedConv1d(channels, outputs, kernel, groups=groups, stride=stride, padding=padding)


def _up(channels: int, outputs: int, kernel: int, stride: int, groups: int) -> ConvTranspose1d:
    return GroupedConvTranspose1d(channels, outputs, kernel, groups=groups, stride=stride, trim_right=kernel - stride)


def _residuals(channels: int) -> list[Layer]:
    return [
        Residual(
            Sequential(
                [
                    Elementwise("leaky_relu"),
                    DepthwiseConv1d(channels, 3, dilation=dilation, padding=Padding(2 * dilation)),
                    Conv1d(channels, channels, 1),
                    Elementwise("leaky_relu"),
                    _conv(channels, channels, 1, channels // GROUP),
                ]
            )
        )
        for dilation in (1, 3, 9)
    ]


def lyra_encoder() -> Sequential:
    """Audio [B, N, 1] to latents [B, floor(N / 320), 64]."""
    layers: list[Layer] = [Conv1d(1, 64, 64, stride=16, padding=Padding(48))]
    for channels, stride in ((64, 5), (128, 2), (256, 2)):
        layers += [*_residuals(channels), Elementwise("leaky_relu")]
        layers.append(_conv(channels, 2 * channels, 2 * stride, channels // GROUP, stride))
    return Sequential([*layers, Elementwise("leaky_relu"), _conv(512, LATENTS, 3, 4)])


def lyra_decoder() -> Sequential:
    """Latents [B, T, 64] to audio [B, 320 * T, 1]."""
    layers: list[Layer] = [_conv(LATENTS, 512, 3, 4)]
    for channels, stride, groups in ((512, 2, 4), (256, 2, 2), (128, 5, 1)):
        layers += [Elementwise("leaky_relu"), _up(channels, channels // 2, 2 * stride, stride, groups)]
        layers += _residuals(channels // 2)
    return Sequential([*layers, Elementwise("leaky_relu"), _up(64, 1, 64, 16, 1)])


class LyraCodec(Codec):
    """Lyra v2. With `tensors` None it has random weights.

    config: the dict of a config.json, which says no more than the kind; tensors: what `to_huggingface` gave. Raises
    ConfigError, CheckpointError.
    """

    floors = True
    encoder: Sequential
    decoder: Sequential
    quantizer: ResidualVectorQuantizer

    def __init__(
        self,
        config: Mapping[str, Any] | None = None,
        tensors: Mapping[str, Tensor] | None = None,
        name: str = "lyra_v2",
    ):
        super().__init__()
        self.config = {"model_type": "lyra_v2", "sampling_rate": RATE, "dtype": "float32"}
        if (config or {}).get("sampling_rate", RATE) != RATE:
            raise ConfigError(f"sampling_rate is {(config or {})['sampling_rate']!r}; Lyra v2 runs at {RATE}")
        with layers_for(tensors):
            self.encoder, self.decoder = lyra_encoder(), lyra_decoder()
            self.quantizer = ResidualVectorQuantizer(max(BANDWIDTHS.values()), ENTRIES, LATENTS)
        if tensors is not None:
            self._take(TensorReader(tensors))
        self.finish_construction(
            name=name,
            sample_rate=RATE,
            channels=1,
            hop_length=HOP,
            bandwidths=tuple(BANDWIDTHS),
            default_bandwidth=max(BANDWIDTHS),
            bandwidth_codebooks=tuple(BANDWIDTHS.values()),
        )

    def _convolutions(self) -> Iterator[tuple[str, Conv1d | ConvTranspose1d]]:
        """In the order in which they run, under the names that files have."""
        for half in ("encoder", "decoder"):
            found = [one for one in getattr(self, half).modules() if isinstance(one, (Conv1d, ConvTranspose1d))]
            yield from ((f"{half}.{place}", conv) for place, conv in enumerate(found))

    @torch.no_grad()
    def _take(self, reader: TensorReader) -> None:
        for path, conv in self._convolutions():
            weight = reader.take(f"{path}.weight", tuple(conv.torch_weight().shape))
            bias = reader.take(f"{path}.bias", (conv.out_channels,))
            if weight is not None:
                conv.set_weight(weight, bias)
        books = reader.take("quantizer.codebooks", tuple(self.quantizer.codebooks.shape))
        if books is not None:
            self.quantizer.set_codebooks(books)
        reader.finish()

    def to_huggingface(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """In transformers' manner of files. It has no model of this kind: `load` of this package reads them."""
        tensors = {"quantizer.codebooks": self.quantizer.codebooks.detach()}
        for path, conv in self._convolutions():
            tensors[f"{path}.weight"] = conv.torch_weight().detach().contiguous()
            if conv.bias is not None:
                tensors[f"{path}.bias"] = conv.bias.detach()
        return dict(self.config), tensors
