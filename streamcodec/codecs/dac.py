"""DAC (Kumar et al. 2023, "High-Fidelity Audio Compression with Improved RVQGAN")."""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch
from torch import Tensor

from ..errors import ConfigError
from ..nn.conv import Conv1d, ConvTranspose1d
from ..nn.factorised import FactorisedQuantizer
from ..nn.layer import Elementwise, Layer, Sequential
from ..nn.residual import Residual
from ..nn.snake import Snake
from ..program import Padding
from .base import Codec
from .tensors import TensorReader, layers_for

__all__ = [
    "DILATIONS",
    "DacCodec",
    "DacConfig",
    "Weighted",
    "dac_decoder",
    "dac_encoder",
    "give_layers",
    "give_quantizer",
    "take_layers",
    "take_quantizer",
    "weighted_layers",
    "xcodec_decoder",
]

DILATIONS = (1, 3, 9)  # of the residual units of a block


@dataclass(frozen=True)
class DacConfig:
    """The fields of `transformers.DacConfig`, with its defaults.

    downsampling_ratios: the encoder's strides in order; the decoder uses them reversed; hidden_size: channels of the
    latents, None for as many as the encoder's last block has. The last three matter to training only.
    """

    encoder_hidden_size: int = 64
    downsampling_ratios: tuple[int, ...] = (2, 4, 8, 8)
    decoder_hidden_size: int = 1536
    n_codebooks: int = 9
    codebook_size: int = 1024
    codebook_dim: int = 8
    sampling_rate: int = 16_000
    hidden_size: int | None = None
    quantizer_dropout: float = 0.0
    commitment_loss_weight: float = 0.25
    codebook_loss_weight: float = 1.0

    def __post_init__(self) -> None:
        ratios = self.downsampling_ratios
        # At stride 1 a block would make its signal longer: kernel 2 with a row of padding on both sides.
        if not ratios or min(ratios) < 2:
            raise ConfigError(f"downsampling_ratios is {list(ratios)}; it needs at least one, and each at least 2")
        if self.decoder_hidden_size % 2 ** len(ratios):
            raise ConfigError(
                f"decoder_hidden_size is {self.decoder_hidden_size}; each of the {len(ratios)} blocks halves it, so it "
                f"must be a multiple of {2 ** len(ratios)}"
            )
        if self.codebook_size < 2 or self.codebook_size & (self.codebook_size - 1):
            raise ConfigError(f"codebook_size is {self.codebook_size}; it must be a power of 2, at least 2")

    @classmethod
    def from_dict(cls, config: Mapping[str, Any]) -> "DacConfig":
        """From a config.json. Raises ConfigError for a value of the wrong type or out of range.

        hop_length is not read: published files for 16 and 24 kHz say 512, and the ratios multiply to 320.
        """
        values = {field.name: config[field.name] for field in fields(cls) if field.name in config}
        for field in fields(cls):
            if field.name in values:
                values[field.name] = _checked(field.name, values[field.name], field.default)
        settings = cls(**values)
        upsampling = config.get("upsampling_ratios")
        if upsampling not in (None, settings.downsampling_ratios[::-1], list(settings.downsampling_ratios[::-1])):
            raise ConfigError(
                f"upsampling_ratios is {upsampling!r}; it must be downsampling_ratios, "
                f"{list(settings.downsampling_ratios)}, reversed"
            )
        return settings

    def to_dict(self) -> dict[str, Any]:
        """As a config.json that `transformers` reads."""
        values = asdict(self) | {"hidden_size": self.latent_channels, "hop_length": self.hop_length}
        values["downsampling_ratios"] = list(self.downsampling_ratios)
        values["upsampling_ratios"] = list(reversed(self.downsampling_ratios))
        return values | {"model_type": "dac", "architectures": ["DacModel"], "dtype": "float32"}

    @property
    def hop_length(self) -> int:
        """Samples per frame."""
        return math.prod(self.downsampling_ratios)

    @property
    def latent_channels(self) -> int:
        """Channels of the latents."""
        return self.hidden_size or self.encoder_hidden_size * 2 ** len(self.downsampling_ratios)

    @property
    def bandwidths(self) -> tuple[float, ...]:
        """kbps of 1 to n_codebooks codebooks, to the bit per second so that they can be typed."""
        bits_per_second = math.log2(self.codebook_size) * self.sampling_rate / self.hop_length
        return tuple(round(count * bits_per_second) / 1000 for count in range(1, self.n_codebooks + 1))


_MAY_BE_ZERO = ("quantizer_dropout", "commitment_loss_weight", "codebook_loss_weight")


def _checked(name: str, value: Any, default: Any) -> Any:
    if name == "downsampling_ratios":
        if not isinstance(value, (list, tuple)) or not all(type(item) is int for item in value):
            raise ConfigError(f"{name} is {value!r}; it must be a list of whole numbers")
        return tuple(value)
    if name == "hidden_size" and value is None:
        return None
    if type(value) is not int and not (isinstance(default, float) and type(value) is float):
        raise ConfigError(f"{name} is {value!r}; it must be a {'' if isinstance(default, float) else 'whole '}number")
    if not (value > 0 or (value == 0 and name in _MAY_BE_ZERO)):
        raise ConfigError(f"{name} is {value!r}; it must be positive")
    return value


def _same(channels: int, outputs: int, kernel: int, dilation: int = 1) -> Conv1d:
    """A convolution that keeps the length, zeros on both sides."""
    pad = (kernel - 1) * dilation // 2
    return Conv1d(channels, outputs, kernel, dilation=dilation, padding=Padding(pad, pad))


def _units(channels: int) -> list[Layer]:
    return [
        Residual(Sequential([Snake(channels), _same(channels, channels, 7, dilation), *_pointwise(channels)]))
        for dilation in DILATIONS
    ]


def _pointwise(channels: int) -> list[Layer]:
    return [Snake(channels), _same(channels, channels, 1)]


def dac_encoder(config: DacConfig) -> Sequential:
    """Audio [B, N, 1] to latents [B, T, latent_channels]; T is about N / hop_length, rounded down."""
    channels = config.encoder_hidden_size
    layers: list[Layer] = [_same(1, channels, 7)]
    for ratio in config.downsampling_ratios:
        pad = math.ceil(ratio / 2)
        down = Conv1d(channels, 2 * channels, 2 * ratio, stride=ratio, padding=Padding(pad, pad))
        layers.append(Sequential([*_units(channels), Snake(channels), down]))
        channels *= 2
    return Sequential([*layers, Snake(channels), _same(channels, config.latent_channels, 3)])


def dac_decoder(config: DacConfig) -> Sequential:
    """Latents [B, T, latent_channels] to audio [B, T * hop_length, 1], less what odd strides trim (8 of 320)."""
    layers = _decoder_layers(config, tuple(reversed(config.downsampling_ratios)), whole=False)
    return Sequential([*layers, Elementwise("tanh")])


def xcodec_decoder(config: DacConfig, ratios: tuple[int, ...]) -> Sequential:
    """X-Codec's copy of the decoder: audio [B, T * hop_length, 1] to the sample, and not limited to -1..1.

    ratios: its strides in order (X-Codec does not reverse the encoder's).
    """
    return Sequential(_decoder_layers(config, ratios, whole=True))


def _decoder_layers(config: DacConfig, ratios: tuple[int, ...], *, whole: bool) -> list[Layer]:
    """whole: give back the row that an odd stride trims (torch's output_padding)."""
    channels = config.decoder_hidden_size
    layers: list[Layer] = [_same(config.latent_channels, channels, 7)]
    for ratio in ratios:
        trim = math.ceil(ratio / 2)
        right = trim - ratio % 2 if whole else trim
        up = ConvTranspose1d(channels, channels // 2, 2 * ratio, stride=ratio, trim_left=trim, trim_right=right)
        layers.append(Sequential([Snake(channels), up, *_units(channels // 2)]))
        channels //= 2
    return [*layers, Snake(channels), _same(channels, 1, 7)]


Weighted = Snake | Conv1d | ConvTranspose1d


def weighted_layers(prefix: str, half: Sequential) -> Iterator[tuple[str, Weighted]]:
    """Every layer with weights of `dac_encoder` or a decoder, under the name that Hugging Face gives it."""
    place, names = 0, ["conv1", "snake1", "conv2"]
    for layer in half.chain:
        if isinstance(layer, Sequential):
            yield from _block_layers(f"{prefix}.block.{place}", layer)
            place += 1
        elif names:
            assert isinstance(layer, (Snake, Conv1d))
            yield f"{prefix}.{names.pop(0)}", layer


@torch.no_grad()
def take_layers(reader: TensorReader, layers: Iterable[tuple[str, Weighted]]) -> None:
    """Hand a checkpoint's tensors to the layers of `weighted_layers`."""
    for path, layer in layers:
        if isinstance(layer, Snake):
            alpha = reader.take(f"{path}.alpha", (1, len(layer.alpha), 1))
            if alpha is not None:
                layer.alpha.copy_(alpha.flatten())
            continue
        weight = reader.take(f"{path}.weight", tuple(layer.torch_weight().shape))
        bias = None if layer.bias is None else reader.take(f"{path}.bias", (layer.out_channels,))
        if weight is not None:
            layer.set_weight(weight, bias)


def give_layers(layers: Iterable[tuple[str, Weighted]]) -> dict[str, Tensor]:
    """The inverse of `take_layers`."""
    tensors: dict[str, Tensor] = {}
    for path, layer in layers:
        if isinstance(layer, Snake):
            tensors[f"{path}.alpha"] = layer.alpha.view(1, -1, 1)
            continue
        tensors[f"{path}.weight"] = layer.torch_weight().contiguous()
        if layer.bias is not None:
            tensors[f"{path}.bias"] = layer.bias
    return tensors


def _quantizer_entries(quantizer: FactorisedQuantizer) -> Iterator[tuple[str, Tensor, bool]]:
    """Name, our tensor, and whether upstream keeps it as the weight [outputs, inputs, 1] of a convolution."""
    for i in range(len(quantizer.codebooks)):
        prefix = f"quantizer.quantizers.{i}"
        yield f"{prefix}.in_proj.weight", quantizer.in_weight[i], True
        yield f"{prefix}.in_proj.bias", quantizer.in_bias[i], False
        yield f"{prefix}.out_proj.weight", quantizer.out_weight[i], True
        yield f"{prefix}.out_proj.bias", quantizer.out_bias[i], False
        yield f"{prefix}.codebook.weight", quantizer.codebooks[i], False


@torch.no_grad()
def take_quantizer(reader: TensorReader, quantizer: FactorisedQuantizer) -> None:
    """Hand a checkpoint's tensors to a factorised quantizer."""
    for name, value, turned in _quantizer_entries(quantizer):
        tensor = reader.take(name, (*value.T.shape, 1) if turned else tuple(value.shape))
        if tensor is not None:
            value.copy_(tensor.flatten(1).T if turned else tensor)


def give_quantizer(quantizer: FactorisedQuantizer) -> dict[str, Tensor]:
    """The inverse of `take_quantizer`."""
    entries = _quantizer_entries(quantizer)
    return {name: value.T[:, :, None].contiguous() if turned else value for name, value, turned in entries}


class DacCodec(Codec):
    """A DAC model. With `tensors` None it has random weights.

    config: a `DacConfig` or the dict of a config.json; tensors: weights under Hugging Face names, weight norm merged.
    Raises ConfigError, CheckpointError.
    """

    floors = True
    encoder: Sequential
    decoder: Sequential
    quantizer: FactorisedQuantizer

    def __init__(
        self, config: DacConfig | Mapping[str, Any], tensors: Mapping[str, Tensor] | None = None, name: str = "dac"
    ):
        super().__init__()
        settings = config if isinstance(config, DacConfig) else DacConfig.from_dict(config)
        self.settings = settings
        self.config = settings.to_dict()
        with layers_for(tensors):
            self.encoder = dac_encoder(settings)
            self.decoder = dac_decoder(settings)
            self.quantizer = FactorisedQuantizer(
                settings.n_codebooks, settings.codebook_size, settings.codebook_dim, settings.latent_channels
            )
        if tensors is not None:
            self._take(TensorReader(tensors))
        self.finish_construction(
            name=name,
            sample_rate=settings.sampling_rate,
            channels=1,
            hop_length=settings.hop_length,
            bandwidths=settings.bandwidths,
            default_bandwidth=settings.bandwidths[-1],  # upstream's own default: all codebooks
            bandwidth_codebooks=tuple(range(1, settings.n_codebooks + 1)),
        )

    def _layers(self) -> Iterator[tuple[str, Weighted]]:
        for name, half in (("encoder", self.encoder), ("decoder", self.decoder)):
            yield from weighted_layers(name, half)

    @torch.no_grad()
    def _take(self, reader: TensorReader) -> None:
        take_layers(reader, self._layers())
        take_quantizer(reader, self.quantizer)
        reader.finish()

    def to_huggingface(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        tensors = give_layers(self._layers()) | give_quantizer(self.quantizer)
        return dict(self.config), {name: tensor.detach() for name, tensor in tensors.items()}


def _block_layers(path: str, block: Sequential) -> Iterator[tuple[str, Weighted]]:
    unit = 0
    for layer in block.chain:
        if isinstance(layer, Residual) and isinstance(layer.branch, Sequential):
            unit += 1
            for name, inner in zip(("snake1", "conv1", "snake2", "conv2"), layer.branch.chain, strict=True):
                assert isinstance(inner, (Snake, Conv1d))
                yield f"{path}.res_unit{unit}.{name}", inner
        elif isinstance(layer, Snake):
            yield f"{path}.snake1", layer
        elif isinstance(layer, Conv1d):
            yield f"{path}.conv1", layer
        elif isinstance(layer, ConvTranspose1d):
            yield f"{path}.conv_t1", layer
