"""EnCodec (Défossez et al. 2022, "High Fidelity Neural Audio Compression"): all that `EncodecConfig` can name."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ConfigError
from ..nn.conv import Conv1d, ConvTranspose1d
from ..nn.lstm import LSTM
from ..nn.quantize import ResidualVectorQuantizer
from ..nn.seanet import SEANetConfig, seanet_decoder, seanet_encoder
from .base import Codec
from .config_fields import check_type, numbers
from .hf_names import affordable_codebooks, codebook_tensors, split_weight_norm, take_codebooks
from .segments import Segments
from .tensors import TensorReader, layers_for

__all__ = ["EncodecCodec", "EncodecConfig"]

# Not part of the published configuration; written by us where a codec has a better default than its lowest bandwidth.
DEFAULT_BANDWIDTH_KEY = "streamcodec_default_bandwidth"
_MAY_BE_ZERO = ("overlap", "num_residual_layers", "num_lstm_layers", "trim_right_ratio")


@dataclass(frozen=True)
class EncodecConfig(SEANetConfig):
    """The fields of `transformers.EncodecConfig`, with its defaults.

    target_bandwidths: kbps; chunk_length_s: seconds of a segment, None for one pass over the signal; overlap: share of
    a segment that its successor repeats; normalize: divide each segment by its level.
    """

    target_bandwidths: tuple[float, ...] = (1.5, 3.0, 6.0, 12.0, 24.0)
    sampling_rate: int = 24_000
    normalize: bool = False
    chunk_length_s: float | None = None
    overlap: float | None = None
    codebook_size: int = 1024
    codebook_dim: int | None = None
    default_bandwidth: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.audio_channels not in (1, 2):
            raise ConfigError(f"audio_channels is {self.audio_channels}; supported are 1 and 2")
        if self.codebook_dim not in (None, self.hidden_size):
            raise ConfigError(f"codebook_dim is {self.codebook_dim}; it must equal hidden_size, {self.hidden_size}")
        if not self.target_bandwidths or min(self.target_bandwidths) <= 0:
            raise ConfigError(
                f"target_bandwidths is {list(self.target_bandwidths)}; it needs at least one above 0 kbps"
            )
        if self.num_codebooks < 1:
            raise ConfigError(
                f"target_bandwidths end at {self.target_bandwidths[-1]} kbps, which pays for no codebook of "
                f"{self.codebook_size} entries at {self.frame_rate} frames per second"
            )
        if self.default_bandwidth not in (None, *self.target_bandwidths):
            raise ConfigError(f"{DEFAULT_BANDWIDTH_KEY} is {self.default_bandwidth}; it is not in target_bandwidths")

    @classmethod
    def from_dict(cls, config: Mapping[str, Any]) -> "EncodecConfig":
        """From a config.json. Raises ConfigError for a value of the wrong type or out of range."""
        known = {field.name for field in fields(cls)}
        values = {name: value for name, value in config.items() if name in known}
        values["default_bandwidth"] = config.get(DEFAULT_BANDWIDTH_KEY)
        for name in ("target_bandwidths", "upsampling_ratios"):
            if name in values:
                values[name] = numbers(name, values[name])
        for field in fields(cls):
            if field.name in values:
                check_type(field.name, values[field.name], field.default, may_be_zero=_MAY_BE_ZERO)
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """As a config.json that `transformers` reads."""
        values = asdict(self)
        default = values.pop("default_bandwidth")
        values["codebook_dim"] = self.hidden_size
        values |= {"model_type": "encodec", "architectures": ["EncodecModel"], "dtype": "float32"}
        return values | ({} if default is None else {DEFAULT_BANDWIDTH_KEY: default})

    @property
    def hop_length(self) -> int:
        """Samples per frame."""
        return math.prod(self.upsampling_ratios)

    @property
    def frame_rate(self) -> int:
        """Frames per second, rounded up as upstream does before it counts codebooks."""
        return math.ceil(self.sampling_rate / self.hop_length)

    @property
    def num_codebooks(self) -> int:
        """Stages of the quantizer: as many as the highest bandwidth pays for."""
        return affordable_codebooks(self.target_bandwidths[-1], self.frame_rate, self.codebook_size)

    @property
    def segments(self) -> Segments | None:
        """How the signal is cut, or None where one pass over it needs no cutting."""
        length = None if self.chunk_length_s is None else int(self.chunk_length_s * self.sampling_rate)
        if length is None and not self.normalize and self.norm_type != "time_group_norm":
            return None
        stride = None if length is None or self.overlap is None else max(1, int((1.0 - self.overlap) * length))
        return Segments(self.hop_length, length, stride, self.normalize)


class EncodecCodec(Codec):
    """An EnCodec model. With `tensors` None it has random weights, ready to be trained.

    config: an `EncodecConfig` or the dict of a config.json; tensors: weights under Hugging Face names, weight norm
    merged. Raises ConfigError, CheckpointError.
    """

    quantizer: ResidualVectorQuantizer

    def __init__(
        self,
        config: EncodecConfig | Mapping[str, Any],
        tensors: Mapping[str, Tensor] | None = None,
        name: str = "encodec",
    ):
        super().__init__()
        settings = config if isinstance(config, EncodecConfig) else EncodecConfig.from_dict(config)
        self.settings = settings
        self.config = settings.to_dict()
        with layers_for(tensors):
            self.encoder = seanet_encoder(settings)
            self.decoder = seanet_decoder(settings)
            sizes = (settings.num_codebooks, settings.codebook_size, settings.hidden_size)
            self.quantizer = ResidualVectorQuantizer(*sizes)
        self.segments = settings.segments
        if tensors is not None:
            self._take(TensorReader(tensors))
        default = settings.default_bandwidth or settings.target_bandwidths[0]  # upstream's own default is the first
        self.finish_construction(
            name=name,
            sample_rate=settings.sampling_rate,
            channels=settings.audio_channels,
            hop_length=settings.hop_length,
            bandwidths=settings.target_bandwidths,
            default_bandwidth=default,
        )

    def _layers(self) -> Iterator[tuple[str, nn.Module]]:
        """Every layer with weights, under the name that Hugging Face gives it."""
        for half in ("encoder", "decoder"):
            for path, module in getattr(self, half).named_modules():
                if isinstance(module, (Conv1d, ConvTranspose1d, LSTM)):
                    yield f"{half}.{path.replace('branch.layers', 'block')}", module

    def _take(self, reader: TensorReader) -> None:
        with torch.no_grad():
            for path, module in self._layers():
                if isinstance(module, LSTM):
                    for name, parameter in module.lstm.named_parameters():
                        tensor = reader.take(f"{path}.lstm.{name}", tuple(parameter.shape))
                        if tensor is not None:
                            parameter.copy_(tensor)
                elif isinstance(module, (Conv1d, ConvTranspose1d)):
                    _take_conv(reader, path, module)
            take_codebooks(reader, self.quantizer, "quantizer.layers")
        reader.finish()

    def to_huggingface(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        tensors: dict[str, Tensor] = {}
        for path, module in self._layers():
            if isinstance(module, LSTM):
                tensors |= {f"{path}.lstm.{name}": parameter for name, parameter in module.lstm.named_parameters()}
            elif isinstance(module, (Conv1d, ConvTranspose1d)):
                tensors |= _give_conv(path, module)
        tensors |= codebook_tensors(self.quantizer, "quantizer.layers")
        return dict(self.config), {name: tensor.detach() for name, tensor in tensors.items()}


def _take_conv(reader: TensorReader, path: str, module: Conv1d | ConvTranspose1d) -> None:
    weight = reader.take(f"{path}.conv.weight", tuple(module.torch_weight().shape))
    bias = reader.take(f"{path}.conv.bias", (module.out_channels,))
    if weight is not None:
        module.set_weight(weight, bias)
    if module.norm is not None:
        for name, parameter in module.norm.named_parameters():
            tensor = reader.take(f"{path}.norm.{name}", tuple(parameter.shape))
            if tensor is not None:
                parameter.copy_(tensor)


def _give_conv(path: str, module: Conv1d | ConvTranspose1d) -> dict[str, Tensor]:
    weight = module.torch_weight().contiguous()
    named: dict[str, Tensor | None] = {f"{path}.conv.bias": module.bias}
    if module.norm is None:
        norm, direction = split_weight_norm(weight, 0)
        named |= {f"{path}.conv.parametrizations.weight.original0": norm}
        named |= {f"{path}.conv.parametrizations.weight.original1": direction}
    else:
        named[f"{path}.conv.weight"] = weight
        named |= {f"{path}.norm.{name}": parameter for name, parameter in module.norm.named_parameters()}
    return {name: tensor for name, tensor in named.items() if tensor is not None}
