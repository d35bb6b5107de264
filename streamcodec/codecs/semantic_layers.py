"""The semantic encoder and decoder of X-Codec: their configuration, their layers and Hugging Face's names for these."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import ConfigError
from ..nn.conv import Conv1d, ConvTranspose1d
from ..nn.layer import Elementwise, Layer, Sequential
from ..nn.residual import Residual
from ..program import Padding
from .dac import Weighted

__all__ = ["SemanticConfig", "semantic_decoder", "semantic_encoder", "semantic_layers"]


@dataclass(frozen=True)
class SemanticConfig:
    """The semantic encoder and decoder, with the defaults of `transformers.XcodecConfig`.

    kernel_size: of the first and last convolution; channel_ratios: channels of each block over those of the features;
    strides: of each block; block_dilations, unit_kernel_size: of a block's residual units.
    """

    kernel_size: int = 3
    channel_ratios: tuple[float, ...] = (1, 1)
    strides: tuple[int, ...] = (1, 1)
    block_dilations: tuple[int, ...] = (1, 1)
    unit_kernel_size: int = 3

    def __post_init__(self) -> None:
        if len(self.strides) != len(self.channel_ratios) or not self.strides:
            raise ConfigError(
                f"strides are {list(self.strides)} and channel_ratios {list(self.channel_ratios)}; there must be one "
                "of each per block, and a block at least"
            )
        for name in ("kernel_size", "unit_kernel_size"):
            if getattr(self, name) % 2 == 0:
                raise ConfigError(f"{name} is {getattr(self, name)}; an even kernel would shift the features")
        if min(*self.strides, *self.block_dilations, self.kernel_size, self.unit_kernel_size) < 1:
            raise ConfigError("strides, block_dilations and kernel sizes must be at least 1")
        if min(self.channel_ratios) <= 0:
            raise ConfigError(f"channel_ratios are {list(self.channel_ratios)}; they must be above 0")

    @classmethod
    def from_dict(cls, config: Mapping[str, Any]) -> "SemanticConfig":
        """Its fields of a config.json. Raises ConfigError for a value of the wrong type or out of range."""
        values: dict[str, Any] = {name: config[name] for name in cls.__dataclass_fields__ if name in config}
        for name, value in values.items():
            listed, entries = isinstance(value, (list, tuple)), value if isinstance(value, (list, tuple)) else [value]
            kinds = (int, float) if name == "channel_ratios" else (int,)
            if listed == name.endswith("size") or not entries or not all(type(entry) in kinds for entry in entries):
                kind = "a whole number" if name.endswith("size") else "a list of numbers"
                raise ConfigError(f"{name} is {value!r}; it must be {kind}")
            values[name] = tuple(value) if listed else value
        return cls(**values)

    def channels(self, features: int) -> tuple[int, ...]:
        """Channels after each block of the encoder, for features of `features` channels."""
        return tuple(max(1, int(features * ratio)) for ratio in self.channel_ratios)


def _same(channels: int, outputs: int, kernel: int, dilation: int = 1, bias: bool = False) -> Conv1d:
    pad = (kernel - 1) // 2 * dilation
    return Conv1d(channels, outputs, kernel, dilation=dilation, padding=Padding(pad, pad), bias=bias)


def _units(config: SemanticConfig, channels: int) -> list[Layer]:
    return [
        Residual(
            Sequential(
                [
                    Elementwise("elu"),
                    _same(channels, channels, config.unit_kernel_size, dilation),
                    Elementwise("elu"),
                    _same(channels, channels, 1),
                ]
            )
        )
        for dilation in config.block_dilations
    ]


def semantic_encoder(config: SemanticConfig, features: int) -> Sequential:
    """Features [B, F, features] to semantic latents [B, F / product of strides, channels of the last block]."""
    channels = features
    layers: list[Layer] = [_same(channels, channels, config.kernel_size)]
    for stride, outputs in zip(config.strides, config.channels(features), strict=True):
        kernel = 3 if stride == 1 else 2 * stride
        pad = (kernel - 1) // 2
        down = Conv1d(channels, outputs, kernel, stride=stride, padding=Padding(pad, pad))
        layers.append(Sequential([*_units(config, channels), down]))
        channels = outputs
    return Sequential(layers)


def semantic_decoder(config: SemanticConfig, features: int) -> Sequential:
    """Latents [B, T, features] to features [B, T * product of strides, features]; for training alone."""
    widths = config.channels(features)
    layers: list[Layer] = [_same(features, widths[0], config.kernel_size)]
    for stride, channels, outputs in zip(config.strides, widths, (*widths[1:], features), strict=True):
        up: Layer
        if stride == 1:
            up = _same(channels, outputs, 3, bias=True)
        else:
            trim = (stride + 1) // 2
            right = trim - stride % 2
            up = ConvTranspose1d(
                channels, outputs, 2 * stride, stride=stride, trim_left=trim, trim_right=right, bias=False
            )
        layers.append(Sequential([up, *_units(config, outputs)]))
    return Sequential([*layers, _same(features, features, config.kernel_size)])


def semantic_layers(prefix: str, half: Sequential) -> Iterator[tuple[str, Weighted]]:
    """Every layer with weights of `semantic_encoder` or `semantic_decoder`, under Hugging Face's name for it."""
    first, *blocks = half.chain
    last = blocks.pop() if isinstance(blocks[-1], Conv1d) else None
    names = ("conv", "") if last is None else ("conv1", "conv2")
    for name, layer in zip(names, (first, last), strict=True):
        if isinstance(layer, Conv1d):
            yield f"{prefix}.{name}", layer
    for place, block in enumerate(blocks):
        assert isinstance(block, Sequential)
        unit = 0
        for layer in block.chain:
            if isinstance(layer, (Conv1d, ConvTranspose1d)):
                yield f"{prefix}.conv_blocks.{place}.conv", layer
            elif isinstance(layer, Residual) and isinstance(layer.branch, Sequential):
                convolutions = [inner for inner in layer.branch.chain if isinstance(inner, Conv1d)]
                for number, inner in enumerate(convolutions, 1):
                    yield f"{prefix}.conv_blocks.{place}.res_units.{unit}.conv{number}", inner
                unit += 1
