"""SNAC (Siuzdak et al. 2024, "SNAC: Multi-Scale Neural Audio Codec")."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch
from torch import Tensor

from ..errors import ConfigError
from ..nn.conv import Conv1d, ConvTranspose1d, DepthwiseConv1d
from ..nn.layer import Elementwise, Layer, Sequential
from ..nn.levels import LevelQuantizer
from ..nn.noise import NoiseBlock
from ..nn.residual import Residual
from ..nn.snake import Snake
from ..nn.stack import Stack, Unstack
from ..nn.window_attention import WindowAttention
from ..noise import seed_of
from ..program import Padding
from .base import Codec
from .config_fields import check_type, numbers
from .dac import DILATIONS, Weighted, give_layers, give_quantizer, take_layers, take_quantizer
from .tensors import TensorReader, layers_for
from .tracked import NOISE_KEY, Noise

__all__ = ["SnacCodec", "SnacConfig"]

HEAD = 64  # channels of a head of the attention
LARGEST_SEED = 1 << 31


@dataclass(frozen=True)
class SnacConfig:
    """The arguments of `snac.SNAC`, with the values of the published 24 kHz model.

    encoder_rates, decoder_rates: strides in order; attn_window_size: latents that attend to each other, None for no
    attention; vq_strides: latents that share a code of each level; noise: whether the decoder has noise blocks;
    depthwise: whether the convolutions of its units take every channel by itself; seed: of their noise, or "off".
    """

    sampling_rate: int = 24_000
    encoder_dim: int = 48
    encoder_rates: tuple[int, ...] = (2, 4, 8, 8)
    decoder_dim: int = 1024
    decoder_rates: tuple[int, ...] = (8, 8, 4, 2)
    attn_window_size: int | None = None
    codebook_size: int = 4096
    codebook_dim: int = 8
    vq_strides: tuple[int, ...] = (4, 2, 1)
    noise: bool = True
    depthwise: bool = True
    seed: Noise = 0

    def __post_init__(self) -> None:
        for name in ("encoder_rates", "decoder_rates"):
            rates = getattr(self, name)
            if not rates or not all(type(rate) is int for rate in rates) or min(rates) < 2:
                raise ConfigError(f"{name} is {list(rates)}; it needs whole numbers of at least 2")
        if math.prod(self.encoder_rates) != math.prod(self.decoder_rates):
            raise ConfigError(
                f"encoder_rates is {list(self.encoder_rates)} and decoder_rates {list(self.decoder_rates)}; both must "
                "multiply to the samples of a latent"
            )
        if self.decoder_dim % 2 ** len(self.decoder_rates):
            raise ConfigError(
                f"decoder_dim is {self.decoder_dim}; each of the {len(self.decoder_rates)} blocks halves it, so it "
                f"must be a multiple of {2 ** len(self.decoder_rates)}"
            )
        if self.codebook_size < 2 or self.codebook_size & (self.codebook_size - 1):
            raise ConfigError(f"codebook_size is {self.codebook_size}; it must be a power of 2, at least 2")
        if not self.vq_strides or not all(type(stride) is int for stride in self.vq_strides):
            raise ConfigError(f"vq_strides is {list(self.vq_strides)}; it needs whole numbers, one a level")
        if any(self.latents % stride for stride in self.vq_strides):
            raise ConfigError(f"vq_strides is {list(self.vq_strides)}; each must divide the first one")
        if self.seed != "off" and not (type(self.seed) is int and 0 <= self.seed < LARGEST_SEED):
            raise ConfigError(f"{NOISE_KEY} is {self.seed!r}; it must be 'off' or a seed from 0 to {LARGEST_SEED - 1}")

    @classmethod
    def from_dict(cls, config: Mapping[str, Any]) -> "SnacConfig":
        """From a config.json. Raises ConfigError for a value of the wrong type or out of range."""
        values = {field.name: config[field.name] for field in fields(cls) if field.name in config}
        for name in ("encoder_rates", "decoder_rates", "vq_strides"):
            if name in values:
                values[name] = numbers(name, values[name])
        for field in fields(cls):
            if field.name in values and field.name != "attn_window_size":
                check_type(field.name, values[field.name], field.default)
        window = values.get("attn_window_size")
        if window is not None and (type(window) is not int or window < 1):
            raise ConfigError(f"attn_window_size is {window!r}; it must be a whole number, at least 1, or null")
        values["seed"] = config.get(NOISE_KEY, cls.seed)
        made = cls(**values)
        if config.get("latent_dim") not in (None, made.latent_channels):
            raise ConfigError(
                f"latent_dim is {config['latent_dim']!r}; with the other sizes of this SNAC it must be "
                f"{made.latent_channels}"
            )
        return made

    def to_dict(self) -> dict[str, Any]:
        """As a config.json: the arguments of `snac.SNAC`, and ours."""
        values = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}
        seed = values.pop("seed")
        return {"model_type": "snac", **values} | ({} if seed == 0 else {NOISE_KEY: seed})

    @property
    def latent_channels(self) -> int:
        """Channels of a latent."""
        return self.encoder_dim * 2 ** len(self.encoder_rates)

    @property
    def latents(self) -> int:
        """Latents of a frame: the fewest that fill a code of each level, and a window of the attention."""
        return math.lcm(self.vq_strides[0] if self.vq_strides else 1, self.attn_window_size or 1)

    @property
    def hop_length(self) -> int:
        """Samples per frame."""
        return self.latents * math.prod(self.encoder_rates)

    @property
    def levels(self) -> tuple[int, ...]:
        """Codes of a frame of each level."""
        return tuple(self.latents // stride for stride in self.vq_strides)

    @property
    def bandwidth_codebooks(self) -> tuple[int, ...]:
        """Codes of a frame of the first level, the first two, and so on."""
        return tuple(sum(self.levels[: count + 1]) for count in range(len(self.levels)))

    @property
    def bandwidths(self) -> tuple[float, ...]:
        """kbps of these, to the bit per second so that they can be typed."""
        bits = math.log2(self.codebook_size) * self.sampling_rate / self.hop_length
        return tuple(round(count * bits) / 1000 for count in self.bandwidth_codebooks)

    def seed_of(self, block: int) -> int | None:
        """The seed of a noise block, None for no noise."""
        return None if self.seed == "off" else seed_of(self.seed, block)


def _wide(channels: int, kernel: int, dilation: int, depthwise: bool) -> Conv1d:
    """A convolution that keeps length and channels, zeros on both sides."""
    pad = (kernel - 1) * dilation // 2
    if depthwise:
        return DepthwiseConv1d(channels, kernel, dilation=dilation, padding=Padding(pad, pad))
    return Conv1d(channels, channels, kernel, dilation=dilation, padding=Padding(pad, pad))


def _units(channels: int, depthwise: bool) -> list[Layer]:
    return [Residual(_unit(channels, dilation, depthwise)) for dilation in DILATIONS]


def _unit(channels: int, dilation: int, depthwise: bool) -> Sequential:
    wide, mixed = _wide(channels, 7, dilation, depthwise), Conv1d(channels, channels, 1)
    return Sequential([Snake(channels), wide, Snake(channels), mixed])


def _attention(config: SnacConfig, channels: int) -> list[Layer]:
    window = config.attn_window_size
    return [] if window is None else [WindowAttention(channels, window, HEAD)]


def snac_encoder(config: SnacConfig) -> Sequential:
    """Audio [B, N, 1] to latents [B, T, latent_channels]."""
    channels = config.encoder_dim
    layers: list[Layer] = [Conv1d(1, channels, 7, padding=Padding(3, 3))]
    for ratio in config.encoder_rates:
        pad = math.ceil(ratio / 2)
        down = Conv1d(channels, 2 * channels, 2 * ratio, stride=ratio, padding=Padding(pad, pad))
        layers.append(Sequential([*_units(channels, config.depthwise), Snake(channels), down]))
        channels *= 2
    return Sequential([*layers, *_attention(config, channels), _wide(channels, 7, 1, config.depthwise)])


def snac_decoder(config: SnacConfig) -> Sequential:
    """Latents [B, T, latent_channels] to audio [B, N, 1]."""
    channels, latent = config.decoder_dim, config.latent_channels
    layers: list[Layer]
    if config.depthwise:
        layers = [_wide(latent, 7, 1, True), Conv1d(latent, channels, 1)]
    else:
        layers = [Conv1d(latent, channels, 7, padding=Padding(3, 3))]
    layers += _attention(config, channels)
    for place, ratio in enumerate(config.decoder_rates):
        trim = math.ceil(ratio / 2)
        up = ConvTranspose1d(
            channels, channels // 2, 2 * ratio, stride=ratio, trim_left=trim, trim_right=trim - ratio % 2
        )
        channels //= 2
        noise = [NoiseBlock(channels, config.seed_of(place))] if config.noise else []
        layers.append(Sequential([Snake(2 * channels), up, *noise, *_units(channels, config.depthwise)]))
    return Sequential([*layers, Snake(channels), Conv1d(channels, 1, 7, padding=Padding(3, 3)), Elementwise("tanh")])


class SnacCodec(Codec):
    """A SNAC model. With `tensors` None it has random weights.

    A frame is the least that can be coded: at 24 kHz 2,048 samples, four latents, 1 + 2 + 4 codes. Its latents stand
    side by side, and its codes level by level (`CodecSpec.levels`).

    config: a `SnacConfig` or the dict of a config.json; tensors: weights under the snac package's names, weight norm
    merged. Raises ConfigError, CheckpointError.
    """

    floors = True
    encoder: Sequential
    decoder: Sequential
    quantizer: LevelQuantizer

    def __init__(
        self, config: SnacConfig | Mapping[str, Any], tensors: Mapping[str, Tensor] | None = None, name: str = "snac"
    ):
        super().__init__()
        settings = config if isinstance(config, SnacConfig) else SnacConfig.from_dict(config)
        self.settings, self.config = settings, settings.to_dict()
        self.noise = settings.seed if settings.noise else None
        with layers_for(tensors):
            self.encoder = Sequential([snac_encoder(settings), Stack(settings.latents)])
            self.decoder = Sequential([Unstack(settings.latents), snac_decoder(settings)])
            self.quantizer = LevelQuantizer(
                settings.levels, settings.codebook_size, settings.codebook_dim, settings.latents,
                settings.latent_channels,
            )  # fmt: skip
        if tensors is not None:
            self._take(TensorReader(tensors))
        self.finish_construction(
            name=name,
            sample_rate=settings.sampling_rate,
            channels=1,
            hop_length=settings.hop_length,
            bandwidths=settings.bandwidths,
            default_bandwidth=settings.bandwidths[-1],
            bandwidth_codebooks=settings.bandwidth_codebooks,
            levels=settings.levels,
        )

    def _layers(self) -> Iterator[tuple[str, Layer]]:
        """Every layer with weights under the name that the snac package gives it."""
        for name, half in (("encoder.block", self.encoder.chain[0]), ("decoder.model", self.decoder.chain[1])):
            assert isinstance(half, Sequential)
            for place, layer in enumerate(half.chain):
                yield from _weighted(f"{name}.{place}", layer)

    def _convolutions(self) -> Iterator[tuple[str, Weighted]]:
        """Those outside the attention, and the Snakes."""
        for path, layer in self._layers():
            if isinstance(layer, (Snake, Conv1d, ConvTranspose1d)):
                yield path, layer

    def _matrices(self) -> Iterator[tuple[str, Tensor]]:
        """The attention's: views of our weights, in the layout of the file."""
        for path, layer in self._layers():
            if isinstance(layer, WindowAttention):
                yield f"{path}.norm.weight", layer.norm.weight
                yield f"{path}.norm.bias", layer.norm.bias
                yield f"{path}.to_qkv.weight", layer.inputs.weight[0].T
                yield f"{path}.to_out.weight", layer.out.weight[0].T

    @torch.no_grad()
    def _take(self, reader: TensorReader) -> None:
        take_layers(reader, self._convolutions())
        for name, matrix in self._matrices():
            tensor = reader.take(name, tuple(matrix.shape))
            if tensor is not None:
                matrix.copy_(tensor)
        for path, _ in self._layers():
            reader.drop(f"{path}.rel_pos.inv_freq")  # the angles of the attention's positions, which follow from sizes
        take_quantizer(reader, self.quantizer)
        reader.finish()

    def to_huggingface(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        tensors = give_layers(self._convolutions()) | {name: each.contiguous() for name, each in self._matrices()}
        tensors |= give_quantizer(self.quantizer)
        return dict(self.config), {name: tensor.detach() for name, tensor in tensors.items()}


def _weighted(path: str, layer: Layer) -> Iterator[tuple[str, Layer]]:
    if isinstance(layer, Sequential):
        for place, inner in enumerate(layer.chain):
            yield from _weighted(f"{path}.block.{place}", inner)
    elif isinstance(layer, NoiseBlock):
        yield f"{path}.linear", layer.linear
    elif isinstance(layer, Residual):
        yield from _weighted(path, layer.branch)
    elif isinstance(layer, (Snake, Conv1d, ConvTranspose1d, WindowAttention)):
        yield path, layer
