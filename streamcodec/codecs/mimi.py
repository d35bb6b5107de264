"""Mimi (Défossez et al. 2024, "Moshi: a speech-text foundation model for real-time dialogue", section 3.3)."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..errors import ConfigError
from ..nn.attention import NormalisedRows, SelfAttention, transformer_layer
from ..nn.conv import Conv1d, ConvTranspose1d, DepthwiseConvTranspose1d
from ..nn.layer import Sequential
from ..nn.residual import Residual
from ..nn.scaled import Scaled
from ..nn.seanet import SEANetConfig, seanet_decoder, seanet_encoder
from ..nn.split import SplitQuantizer
from ..program import Padding
from .base import Codec
from .config_fields import check_type, numbers
from .tensors import TensorReader, layers_for

__all__ = ["MimiCodec", "MimiConfig"]

# Not part of the published configuration: how many codebooks are used where no bandwidth is named.
DEFAULT_CODEBOOKS_KEY = "streamcodec_default_codebooks"
EMBED_EPSILON = 1e-5  # the least usage of an entry, by which its sum is divided


@dataclass(frozen=True)
class MimiConfig(SEANetConfig):
    """The fields of `transformers.MimiConfig` that say what is computed, with its defaults.

    sliding_window: rows that a row of the transformers sees, itself included; rope_theta: base of its rotary positions;
    default_codebooks: used where no bandwidth is named, None for all.
    """

    num_filters: int = 64
    hidden_size: int = 512
    upsampling_ratios: tuple[int, ...] = (8, 6, 5, 4)
    last_kernel_size: int = 3
    pad_mode: str = "constant"
    num_lstm_layers: int = 0
    use_conv_shortcut: bool = False
    sampling_rate: int = 24_000
    codebook_size: int = 2048
    codebook_dim: int = 256
    num_quantizers: int = 32
    num_semantic_quantizers: int = 1
    num_hidden_layers: int = 8
    intermediate_size: int = 2048
    num_attention_heads: int = 8
    head_dim: int | None = None
    norm_eps: float = 1e-5
    sliding_window: int = 250
    rope_theta: float = 10_000.0
    layer_scale_initial_scale: float = 0.01
    default_codebooks: int | None = None

    # What every published model has; with another value it is another codec.
    FIXED: ClassVar[dict[str, Any]] = {
        "audio_channels": 1, "use_causal_conv": True, "trim_right_ratio": 1.0, "hidden_act": "gelu",
        "attention_bias": False,
    }  # fmt: skip

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.num_semantic_quantizers < self.num_quantizers:
            raise ConfigError(
                f"num_semantic_quantizers is {self.num_semantic_quantizers}; of {self.num_quantizers} it must be at "
                "least 1 and leave one"
            )
        if self.head_dim is None and self.hidden_size % self.num_attention_heads:
            raise ConfigError(f"hidden_size is {self.hidden_size}; {self.num_attention_heads} heads must divide it")
        if self.default_codebooks is not None and not 1 <= self.default_codebooks <= self.num_quantizers:
            raise ConfigError(f"{DEFAULT_CODEBOOKS_KEY} is {self.default_codebooks}; there are {self.num_quantizers}")

    @classmethod
    def from_dict(cls, config: Mapping[str, Any]) -> "MimiConfig":
        """From a config.json. Raises ConfigError for a value of the wrong type, out of range, or not supported."""
        for name, value in cls.FIXED.items():
            if config.get(name, value) != value:
                raise ConfigError(f"{name} is {config[name]!r}; Mimi is supported with {value!r}")
        values = {field.name: config[field.name] for field in fields(cls) if field.name in config}
        values["default_codebooks"] = config.get(DEFAULT_CODEBOOKS_KEY)
        rope = config.get("rope_parameters") or {}
        if rope.get("rope_type", "default") != "default":
            raise ConfigError(f"rope_type is {rope['rope_type']!r}; Mimi is supported with 'default'")
        values["rope_theta"] = rope.get("rope_theta", config.get("rope_theta", cls.rope_theta))
        if "upsampling_ratios" in values:
            values["upsampling_ratios"] = numbers("upsampling_ratios", values["upsampling_ratios"])
        for field in fields(cls):
            if field.name in values:
                check_type(field.name, values[field.name], field.default, may_be_zero=("num_residual_layers",))
        made = cls(**values)
        made._check_sizes(config)
        return made

    def _check_sizes(self, config: Mapping[str, Any]) -> None:
        """Fields that say the same as others do."""
        same = {
            "num_key_value_heads": self.num_attention_heads,
            "vector_quantization_hidden_dimension": self.codebook_dim,
            "upsample_groups": self.hidden_size,
            "frame_rate": self.sampling_rate / self.hop_length,
        }
        for name, value in same.items():
            if config.get(name) not in (None, value):
                raise ConfigError(f"{name} is {config[name]!r}; with the other sizes of this Mimi it must be {value}")

    def to_dict(self) -> dict[str, Any]:
        """As a config.json that `transformers` reads."""
        values = asdict(self) | {"upsampling_ratios": list(self.upsampling_ratios), "head_dim": self.head_size}
        default, theta = values.pop("default_codebooks"), values.pop("rope_theta")
        del values["norm_type"], values["num_lstm_layers"]
        values |= {
            "rope_parameters": {"rope_theta": theta, "rope_type": "default"},
            "upsample_groups": self.hidden_size,
        }
        values |= {"num_key_value_heads": self.num_attention_heads, "frame_rate": self.sampling_rate / self.hop_length}
        values |= {"vector_quantization_hidden_dimension": self.codebook_dim, **self.FIXED}
        values |= {"model_type": "mimi", "architectures": ["MimiModel"], "dtype": "float32"}
        return values | ({} if default is None else {DEFAULT_CODEBOOKS_KEY: default})

    @property
    def head_size(self) -> int:
        """Values of a head."""
        return self.head_dim or self.hidden_size // self.num_attention_heads

    @property
    def hop_length(self) -> int:
        """Samples per frame: two rows of the transformers."""
        return 2 * math.prod(self.upsampling_ratios)

    @property
    def kbps(self) -> float:
        """Of one codebook."""
        return math.log2(self.codebook_size) * self.sampling_rate / self.hop_length / 1000

    def bandwidth(self, codebooks: int) -> float:
        """kbps of so many codebooks."""
        return round(codebooks * self.kbps, 6)

    def transformer(self) -> Sequential:
        """Rows [B, T, hidden_size] to the same shape."""
        sizes = (self.hidden_size, self.num_attention_heads, self.head_size, self.intermediate_size)
        layers = (
            transformer_layer(
                *sizes, reach=self.sliding_window, base=self.rope_theta, epsilon=self.norm_eps,
                scale=self.layer_scale_initial_scale,
            )
            for _ in range(self.num_hidden_layers)
        )  # fmt: skip
        return Sequential(layers)


class MimiCodec(Codec):
    """A Mimi model. With `tensors` None it has random weights.

    config: a `MimiConfig` or the dict of a config.json; tensors: weights under Hugging Face names. Raises ConfigError,
    CheckpointError.
    """

    encoder: Sequential
    decoder: Sequential
    quantizer: SplitQuantizer

    def __init__(
        self, config: MimiConfig | Mapping[str, Any], tensors: Mapping[str, Tensor] | None = None, name: str = "mimi"
    ):
        super().__init__()
        settings = config if isinstance(config, MimiConfig) else MimiConfig.from_dict(config)
        self.settings, self.config = settings, settings.to_dict()
        width, count = settings.hidden_size, settings.num_quantizers
        with layers_for(self, tensors):
            half = Conv1d(width, width, 4, stride=2, padding=Padding(2, 0, "replicate", extend=True), bias=False)
            twice = DepthwiseConvTranspose1d(width, 4, stride=2, trim_right=2, bias=False)
            self.encoder = Sequential([seanet_encoder(settings), settings.transformer(), half])
            self.decoder = Sequential([twice, settings.transformer(), seanet_decoder(settings)])
            sizes = (settings.codebook_size, settings.codebook_dim, width)
            self.quantizer = SplitQuantizer(settings.num_semantic_quantizers, count, *sizes)
        if tensors is not None:
            self._take(TensorReader(tensors))
        self.finish_construction(
            name=name,
            sample_rate=settings.sampling_rate,
            channels=1,
            hop_length=settings.hop_length,
            latent_channels=width,
            bandwidths=tuple(map(settings.bandwidth, range(1, count + 1))),
            default_bandwidth=settings.bandwidth(settings.default_codebooks or count),
            bandwidth_codebooks=tuple(range(1, count + 1)),
        )

    def _convolutions(self) -> Iterator[tuple[str, Conv1d | ConvTranspose1d]]:
        """Those outside the transformers, under the names that Hugging Face gives them."""
        for half, seanet in (("encoder", self.encoder.layers[0]), ("decoder", self.decoder.layers[2])):
            for path, module in seanet.named_modules():
                if isinstance(module, (Conv1d, ConvTranspose1d)):
                    yield f"{half}.{path.replace('branch.layers', 'block')}.conv", module
        for path, layer in (("downsample.conv", self.encoder.layers[2]), ("upsample.conv", self.decoder.layers[0])):
            assert isinstance(layer, (Conv1d, ConvTranspose1d))
            yield path, layer

    def _matrices(self) -> Iterator[tuple[str, Tensor]]:
        """All else that a file holds but the codebooks: views of our weights, in the layout of the file."""
        for half, transformer in (("encoder", self.encoder.layers[1]), ("decoder", self.decoder.layers[1])):
            assert isinstance(transformer, Sequential)
            for i, layer in enumerate(transformer.layers):
                assert isinstance(layer, Sequential)
                for name, weight in _layer_weights(layer):
                    yield f"{half}_transformer.layers.{i}.{name}", weight
        for part, name in enumerate(("semantic", "acoustic")):
            prefix = f"quantizer.{name}_residual_vector_quantizer"
            yield f"{prefix}.input_proj.weight", self.quantizer.down[part].T[:, :, None]
            yield f"{prefix}.output_proj.weight", self.quantizer.up[part].T[:, :, None]

    def _codebooks(self) -> Iterator[tuple[str, Tensor]]:
        first = self.settings.num_semantic_quantizers
        for stage, entries in enumerate(self.quantizer.codebooks):
            name, place = ("semantic", stage) if stage < first else ("acoustic", stage - first)
            yield f"quantizer.{name}_residual_vector_quantizer.layers.{place}.codebook", entries

    @torch.no_grad()
    def _take(self, reader: TensorReader) -> None:
        for path, conv in self._convolutions():
            weight = reader.take(f"{path}.weight", tuple(conv.torch_weight().shape))
            bias = None if conv.bias is None else reader.take(f"{path}.bias", (conv.out_channels,))
            if weight is not None:
                conv.set_weight(weight, bias)
        for name, matrix in self._matrices():
            tensor = reader.take(name, tuple(matrix.shape))
            if tensor is not None:
                matrix.copy_(tensor)
        entries = []
        for prefix, codebook in self._codebooks():
            total = reader.take(f"{prefix}.embed_sum", tuple(codebook.shape))
            usage = reader.take(f"{prefix}.cluster_usage", (len(codebook),))
            reader.drop(f"{prefix}.initialized")
            if total is None or usage is None:
                entries.append(codebook)
            else:
                entries.append(total / usage.clamp_min(EMBED_EPSILON)[:, None])
        self.quantizer.set_codebooks(torch.stack(entries))
        reader.finish()

    def to_huggingface(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        tensors = {name: matrix.detach().contiguous() for name, matrix in self._matrices()}
        for path, conv in self._convolutions():
            tensors[f"{path}.weight"] = conv.torch_weight().detach().contiguous()
            if conv.bias is not None:
                tensors[f"{path}.bias"] = conv.bias.detach()
        for prefix, entries in self._codebooks():
            tensors[f"{prefix}.embed_sum"] = entries
            tensors[f"{prefix}.cluster_usage"] = entries.new_ones(len(entries))
            tensors[f"{prefix}.initialized"] = entries.new_ones(1)
        return dict(self.config), tensors


def _layer_weights(layer: Sequential) -> Iterator[tuple[str, Tensor]]:
    """What a file holds of a transformer's layer, as views of ours."""
    branches = [half.branch for half in layer.chain if isinstance(half, Residual)]
    parts = [part for branch in branches if isinstance(branch, Sequential) for part in branch.chain]
    norm, after = (part for part in parts if isinstance(part, NormalisedRows))
    (attention,) = (part for part in parts if isinstance(part, SelfAttention))
    (up,) = (part for part in parts if isinstance(part, Conv1d))
    out, down = (part for part in parts if isinstance(part, Scaled))
    inputs = attention.inputs.weight[0].unflatten(1, (3, -1))
    for place, name in enumerate("qkv"):
        yield f"self_attn.{name}_proj.weight", inputs[:, place].T
    yield "self_attn.o_proj.weight", out.conv.weight[0].T
    yield "mlp.fc1.weight", up.weight[0].T
    yield "mlp.fc2.weight", down.conv.weight[0].T
    for name, rows in (("input_layernorm", norm), ("post_attention_layernorm", after)):
        yield f"{name}.weight", rows.weight
        yield f"{name}.bias", rows.bias
    yield "self_attn_layer_scale.scale", out.scale
    yield "mlp_layer_scale.scale", down.scale
