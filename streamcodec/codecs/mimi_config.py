"""The sizes of Mimi and its kin, as transformers' configurations have them."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, TypeVar

from ..errors import ConfigError
from ..nn.seanet import SEANetConfig
from .config_fields import check_type, numbers

__all__ = ["DEFAULT_CODEBOOKS_KEY", "AttentiveSEANetConfig", "MimiConfig"]

# Not part of the published configuration: how many codebooks are used where no bandwidth is named.
DEFAULT_CODEBOOKS_KEY = "streamcodec_default_codebooks"

Config = TypeVar("Config", bound="AttentiveSEANetConfig")


@dataclass(frozen=True)
class AttentiveSEANetConfig(SEANetConfig):
    """A causal SEANet with a transformer between it and the latents, in either direction; Mimi's sizes.

    sliding_window: rows that a row of the transformers sees, itself included; rope_theta: base of its rotary positions.
    """

    num_filters: int = 64
    hidden_size: int = 512
    upsampling_ratios: tuple[int, ...] = (8, 6, 5, 4)
    last_kernel_size: int = 3
    pad_mode: str = "constant"
    num_lstm_layers: int = 0
    use_conv_shortcut: bool = False
    sampling_rate: int = 24_000
    num_hidden_layers: int = 8
    intermediate_size: int = 2048
    num_attention_heads: int = 8
    head_dim: int | None = None
    norm_eps: float = 1e-5
    sliding_window: int = 250
    rope_theta: float = 10_000.0
    layer_scale_initial_scale: float = 0.01

    # What every published model has; with another value it is another codec.
    FIXED: ClassVar[dict[str, Any]] = {
        "audio_channels": 1, "use_causal_conv": True, "trim_right_ratio": 1.0, "attention_bias": False,
    }  # fmt: skip
    MODEL: ClassVar[str]  # what its errors call the codec

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.head_dim is None and self.hidden_size % self.num_attention_heads:
            raise ConfigError(f"hidden_size is {self.hidden_size}; {self.num_attention_heads} heads must divide it")

    @classmethod
    def from_dict(cls: type[Config], config: Mapping[str, Any]) -> Config:
        """From a config.json. Raises ConfigError for a value of the wrong type, out of range, or not supported."""
        for name, value in cls.FIXED.items():
            if config.get(name, value) != value:
                raise ConfigError(f"{name} is {config[name]!r}; {cls.MODEL} is supported with {value!r}")
        values = cls._fields(config)
        for field in fields(cls):
            if field.name in values:
                check_type(field.name, values[field.name], field.default, may_be_zero=("num_residual_layers",))
        made = cls(**values)
        for name, value in made.implied().items():
            if config.get(name) not in (None, value):
                raise ConfigError(
                    f"{name} is {config[name]!r}; with the other sizes of this {cls.MODEL} it must be {value}"
                )
        return made

    @classmethod
    def _fields(cls, config: Mapping[str, Any]) -> dict[str, Any]:
        """The fields that `config` has, under their names here."""
        values = {field.name: config[field.name] for field in fields(cls) if field.name in config}
        rope = config.get("rope_parameters") or {}
        if rope.get("rope_type", "default") != "default":
            raise ConfigError(f"rope_type is {rope['rope_type']!r}; {cls.MODEL} is supported with 'default'")
        values["rope_theta"] = rope.get("rope_theta", config.get("rope_theta", cls.rope_theta))
        if "upsampling_ratios" in values:
            values["upsampling_ratios"] = numbers("upsampling_ratios", values["upsampling_ratios"])
        return values

    def implied(self) -> dict[str, Any]:
        """Fields of a config.json that say the same as others do."""
        return {"num_key_value_heads": self.num_attention_heads, "upsample_groups": self.hidden_size}

    def to_dict(self) -> dict[str, Any]:
        """As a config.json that `transformers` reads."""
        values = asdict(self) | {"upsampling_ratios": list(self.upsampling_ratios), "head_dim": self.head_size}
        del values["norm_type"], values["num_lstm_layers"]
        rope = {"rope_theta": values.pop("rope_theta"), "rope_type": "default"}
        return values | {"rope_parameters": rope, "dtype": "float32", **self.implied(), **self.FIXED}

    @property
    def head_size(self) -> int:
        """Values of a head."""
        return self.head_dim or self.hidden_size // self.num_attention_heads


@dataclass(frozen=True)
class MimiConfig(AttentiveSEANetConfig):
    """The fields of `transformers.MimiConfig` that say what is computed, with its defaults.

    default_codebooks: used where no bandwidth is named, None for all.
    """

    codebook_size: int = 2048
    codebook_dim: int = 256
    num_quantizers: int = 32
    num_semantic_quantizers: int = 1
    default_codebooks: int | None = None

    FIXED: ClassVar[dict[str, Any]] = AttentiveSEANetConfig.FIXED | {"hidden_act": "gelu"}
    MODEL: ClassVar[str] = "Mimi"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.num_semantic_quantizers < self.num_quantizers:
            raise ConfigError(
                f"num_semantic_quantizers is {self.num_semantic_quantizers}; of {self.num_quantizers} it must be at "
                "least 1 and leave one"
            )
        if self.default_codebooks is not None and not 1 <= self.default_codebooks <= self.num_quantizers:
            raise ConfigError(f"{DEFAULT_CODEBOOKS_KEY} is {self.default_codebooks}; there are {self.num_quantizers}")

    @classmethod
    def _fields(cls, config: Mapping[str, Any]) -> dict[str, Any]:
        return super()._fields(config) | {"default_codebooks": config.get(DEFAULT_CODEBOOKS_KEY)}

    def implied(self) -> dict[str, Any]:
        rate, dimension = self.sampling_rate / self.hop_length, self.codebook_dim
        return super().implied() | {"frame_rate": rate, "vector_quantization_hidden_dimension": dimension}

    def to_dict(self) -> dict[str, Any]:
        values = super().to_dict()
        default = values.pop("default_codebooks")
        values |= {"model_type": "mimi", "architectures": ["MimiModel"]}
        return values | ({} if default is None else {DEFAULT_CODEBOOKS_KEY: default})

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
