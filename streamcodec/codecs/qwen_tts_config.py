"""The sizes of the tokenizer of Qwen3-TTS at 12.5 Hz, as the package ``qwen-tts`` has them."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, ClassVar

from ..errors import ConfigError
from .config_fields import check_type, numbers
from .mimi_config import MimiConfig

__all__ = ["QwenTtsConfig", "QwenTtsDecoderConfig"]

_RATIOS = ("upsample_rates", "upsampling_ratios")


@dataclass(frozen=True)
class QwenTtsDecoderConfig:
    """The fields of `Qwen3TTSTokenizerV2DecoderConfig` that say what is computed, with its defaults.

    codebook_dim: channels of what the quantizer gives; its entries have half as many (512 is that of the published
    model); latent_dim: channels outside the transformer, hidden_size: inside; sliding_window: rows that a row of it
    sees, itself included; upsampling_ratios: of the blocks behind it, upsample_rates: of those that give audio, which
    begin with decoder_dim channels and halve them.
    """

    codebook_size: int = 2048
    codebook_dim: int = 512
    num_quantizers: int = 16
    latent_dim: int = 1024
    hidden_size: int = 1024
    num_hidden_layers: int = 8
    num_attention_heads: int = 16
    head_dim: int | None = None
    intermediate_size: int = 3072
    rms_norm_eps: float = 1e-5
    rope_theta: float = 10_000
    sliding_window: int = 72
    layer_scale_initial_scale: float = 0.01
    upsampling_ratios: tuple[int, ...] = (2, 2)
    upsample_rates: tuple[int, ...] = (8, 5, 4, 3)
    decoder_dim: int = 1536

    # What every published model has; with another value it is another codec.
    FIXED: ClassVar[dict[str, Any]] = {"attention_bias": False, "hidden_act": "silu", "rope_scaling": None}

    def __post_init__(self) -> None:
        if self.codebook_dim % 2:
            raise ConfigError(f"decoder_config: codebook_dim is {self.codebook_dim}; entries have half of it")
        if self.head_dim is None and self.hidden_size % self.num_attention_heads:
            raise ConfigError(
                f"decoder_config: hidden_size is {self.hidden_size}; {self.num_attention_heads} heads must divide it"
            )
        if self.decoder_dim % 2 ** len(self.upsample_rates):
            raise ConfigError(f"decoder_config: decoder_dim is {self.decoder_dim}; each of upsample_rates halves it")

    @classmethod
    def from_dict(cls, config: Mapping[str, Any]) -> "QwenTtsDecoderConfig":
        """From `decoder_config` of a config.json. Raises ConfigError."""
        for name, value in cls.FIXED.items():
            if config.get(name, value) != value:
                raise ConfigError(f"decoder_config: {name} is {config[name]!r}; it is supported with {value!r}")
        values = {field.name: config[field.name] for field in fields(cls) if field.name in config}
        for name in _RATIOS:
            if name in values:
                values[name] = numbers(name, values[name])
        for one in fields(cls):
            if one.name in values:
                check_type(one.name, values[one.name], one.default)
        made = cls(**values)
        if config.get("num_key_value_heads", made.num_attention_heads) != made.num_attention_heads:
            raise ConfigError(
                f"decoder_config: num_key_value_heads is {config['num_key_value_heads']!r}; it is supported as "
                f"num_attention_heads, {made.num_attention_heads}"
            )
        return made

    def to_dict(self) -> dict[str, Any]:
        values = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}
        values |= {"head_dim": self.head_size, "num_key_value_heads": self.num_attention_heads}
        return values | {name: value for name, value in self.FIXED.items() if value is not None}

    @property
    def head_size(self) -> int:
        """Values of a head."""
        return self.head_dim or self.hidden_size // self.num_attention_heads

    @property
    def hop_length(self) -> int:
        """Samples per frame."""
        return math.prod(self.upsampling_ratios) * math.prod(self.upsample_rates)


@dataclass(frozen=True)
class QwenTtsConfig:
    """encoder: Mimi's sizes, with as many codebooks as the decoder takes; decoder: what is not Mimi's.

    Raises ConfigError where the two do not fit together.
    """

    encoder: MimiConfig = field(default_factory=lambda: MimiConfig(num_quantizers=16))
    decoder: QwenTtsDecoderConfig = field(default_factory=QwenTtsDecoderConfig)

    def __post_init__(self) -> None:
        ours, theirs = self.decoder, self.encoder
        pairs = {
            "codebook_size": (theirs.codebook_size, ours.codebook_size),
            "num_quantizers": (theirs.num_quantizers, ours.num_quantizers),
            "hidden_size of the encoder and codebook_dim of the decoder": (theirs.hidden_size, ours.codebook_dim),
            "samples per frame": (theirs.hop_length, ours.hop_length),
            "num_semantic_quantizers": (theirs.num_semantic_quantizers, 1),
        }
        for name, (encoder, decoder) in pairs.items():
            if encoder != decoder:
                raise ConfigError(
                    f"{name}: {encoder} in encoder_config and {decoder} in decoder_config; one must be both"
                )

    @classmethod
    def from_dict(cls, config: Mapping[str, Any]) -> "QwenTtsConfig":
        """From a config.json. The codebooks of Mimi's that the decoder does not take are left out.

        Raises ConfigError for a value of the wrong type, out of range, or not supported.
        """
        halves = {name: config.get(name) or {} for name in ("encoder_config", "decoder_config")}
        for name, half in halves.items():
            if not isinstance(half, Mapping):
                raise ConfigError(f"{name} is {half!r}; it must be an object")
        decoder = QwenTtsDecoderConfig.from_dict(halves["decoder_config"])
        encoder = MimiConfig.from_dict(halves["encoder_config"])
        used = config.get("encoder_valid_num_quantizers", 16)
        if type(used) is not int or not 2 <= used <= encoder.num_quantizers:
            raise ConfigError(
                f"encoder_valid_num_quantizers is {used!r}; it must be a whole number of 2 to {encoder.num_quantizers}"
            )
        made = cls(replace(encoder, num_quantizers=used), decoder)
        for name, value in made._rates().items():
            if config.get(name, value) != value:
                raise ConfigError(f"{name} is {config[name]!r}; with the other sizes of this codec it must be {value}")
        return made

    def to_dict(self) -> dict[str, Any]:
        """As a config.json that the package reads."""
        encoder = self.encoder.to_dict() | {"rope_theta": self.encoder.rope_theta}  # of the transformers that it needs
        values: dict[str, Any] = {"encoder_config": encoder, "decoder_config": self.decoder.to_dict()}
        values |= {"encoder_valid_num_quantizers": self.encoder.num_quantizers, **self._rates()}
        return values | {
            "model_type": "qwen3_tts_tokenizer_12hz", "architectures": ["Qwen3TTSTokenizerV2Model"], "dtype": "float32",
        }  # fmt: skip

    def _rates(self) -> dict[str, int]:
        """Fields that say the same as others do."""
        rate, hop = self.encoder.sampling_rate, self.encoder.hop_length
        values = {"input_sample_rate": rate, "output_sample_rate": rate}
        return values | {"encode_downsample_rate": hop, "decode_upsample_rate": hop}
