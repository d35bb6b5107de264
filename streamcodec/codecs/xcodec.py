"""X-Codec (Ye et al. 2024, "Codec Does Matter"): an acoustic codec of DAC's build with a semantic branch."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, TypeVar

import torch.nn.functional as F
from torch import Tensor

from ..errors import ConfigError
from ..nn.layer import Sequential
from ..nn.piece import Piece
from ..nn.quantize import ResidualVectorQuantizer
from ..pcm import AudioLike
from ..spec import SemanticWindow
from .dac import (
    DacConfig,
    Weighted,
    dac_encoder,
    give_layers,
    take_layers,
    weighted_layers,
    xcodec_decoder,
)
from .hearing import Hearing
from .hf_names import affordable_codebooks
from .semantic import SemanticBase
from .semantic_layers import SemanticConfig
from .semantic_model import SpeechModel, plain_config
from .tensors import TensorReader, layers_for

__all__ = ["XcodecCodec", "XcodecConfig"]

# What transformers' XcodecConfig takes for the acoustic model where a file leaves it out.
_ACOUSTIC = {
    "encoder_hidden_size": 64,
    "downsampling_ratios": [8, 5, 4, 2],
    "decoder_hidden_size": 1024,
    "upsampling_ratios": [8, 5, 4, 2],
    "hidden_size": 256,
}

Config = TypeVar("Config", bound="XcodecConfig")


@dataclass(frozen=True)
class XcodecConfig:
    """The fields of `transformers.XcodecConfig`, with its defaults.

    target_bandwidths: kbps; acoustic: the DAC-like encoder and decoder; upsampling_ratios: the decoder's strides in
    order; speech: the configuration of the speech model, as transformers writes it; codebook_dim: channels of the
    joined latents, None for as many as they have; audio_norm_scale: a factor on the audio before it is encoded, which
    upstream's command applies where its YAML file has one below 1 (transformers' field it is not).
    """

    target_bandwidths: tuple[float, ...] = (0.5, 1, 1.5, 2, 4)
    sample_rate: int = 16_000
    codebook_size: int = 1024
    semantic: SemanticConfig = field(default_factory=SemanticConfig)
    acoustic: DacConfig = field(default_factory=lambda: _acoustic({})[0])
    upsampling_ratios: tuple[int, ...] = (8, 5, 4, 2)
    speech: Mapping[str, Any] = field(default_factory=lambda: {"model_type": "hubert"})
    codebook_dim: int | None = None
    audio_norm_scale: float = 1.0

    WHOLE: ClassVar[tuple[str, ...]] = ("sample_rate", "codebook_size", "codebook_dim")

    def __post_init__(self) -> None:
        if list(self.target_bandwidths) != sorted(set(self.target_bandwidths)):
            raise ConfigError(f"target_bandwidths are {list(self.target_bandwidths)}; they must ascend")
        if math.prod(self.upsampling_ratios) != self.hop_length:
            raise ConfigError(
                f"upsampling_ratios are {list(self.upsampling_ratios)}; they must multiply to the "
                f"{self.hop_length} samples of downsampling_ratios {list(self.acoustic.downsampling_ratios)}"
            )
        if min(self.upsampling_ratios) < 2 or self.acoustic.decoder_hidden_size % 2 ** len(self.upsampling_ratios):
            raise ConfigError(
                f"upsampling_ratios are {list(self.upsampling_ratios)} and decoder_hidden_size is "
                f"{self.acoustic.decoder_hidden_size}; every ratio must be at least 2 and halves the channels"
            )
        if self.num_codebooks < 1:
            raise ConfigError(
                f"target_bandwidths end at {self.target_bandwidths[-1]} kbps, which pays for no codebook of "
                f"{self.codebook_size} entries at {self.frame_rate} frames per second"
            )

    @classmethod
    def from_dict(cls: type[Config], config: Mapping[str, Any]) -> Config:
        """From a config.json. Raises ConfigError for a value of the wrong type or out of range."""
        values: dict[str, Any] = {}
        if "target_bandwidths" in config:
            values["target_bandwidths"] = _numbers("target_bandwidths", config["target_bandwidths"])
        for name in cls.WHOLE:
            if config.get(name) is not None:
                values[name] = _positive(name, config[name])
        if "audio_norm_scale" in config:
            values["audio_norm_scale"] = min(1.0, *_numbers("audio_norm_scale", [config["audio_norm_scale"]]))
        acoustic, upsampling = _acoustic(_mapping("acoustic_model_config", config))
        semantic = SemanticConfig.from_dict(config)
        speech = plain_config({"model_type": "hubert", **_mapping("semantic_model_config", config)})
        return cls(semantic=semantic, acoustic=acoustic, upsampling_ratios=upsampling, speech=speech, **values)

    def to_dict(self) -> dict[str, Any]:
        """As a config.json that `transformers` reads."""
        acoustic = self.acoustic.to_dict() | {"upsampling_ratios": list(self.upsampling_ratios)}
        values: dict[str, Any] = {"target_bandwidths": self.target_bandwidths, **asdict(self.semantic)}
        values = {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
        values |= {"sample_rate": self.sample_rate, "codebook_size": self.codebook_size}
        values |= {"acoustic_model_config": acoustic, "semantic_model_config": dict(self.speech)}
        if self.audio_norm_scale != 1.0:
            values["audio_norm_scale"] = self.audio_norm_scale
        return values | {"model_type": "xcodec", "architectures": ["XcodecModel"], "dtype": "float32"}

    @property
    def hop_length(self) -> int:
        """Samples per frame."""
        return self.acoustic.hop_length

    @property
    def frame_rate(self) -> int:
        """Frames per second, rounded up as upstream does before it counts codebooks."""
        return math.ceil(self.sample_rate / self.hop_length)

    @property
    def speech_rate(self) -> int:
        """Hz that the speech model hears."""
        return self.sample_rate

    def hearing(self) -> Hearing:
        """The samples as they are, with half a hop of zeros on either side."""
        half = self.hop_length // 2
        return Hearing(self.sample_rate, self.hop_length, (half, half), math.prod(self.semantic.strides))

    @property
    def num_codebooks(self) -> int:
        """Stages of the quantizer: as many as the highest bandwidth pays for."""
        return affordable_codebooks(self.target_bandwidths[-1], self.frame_rate, self.codebook_size)


def _acoustic(config: Mapping[str, Any]) -> tuple[DacConfig, tuple[int, ...]]:
    values = _ACOUSTIC | dict(config)
    upsampling = _numbers("upsampling_ratios", values.pop("upsampling_ratios"))
    if not all(type(ratio) is int for ratio in upsampling):
        raise ConfigError(f"upsampling_ratios are {list(upsampling)}; they must be whole numbers")
    return DacConfig.from_dict(values), upsampling


def _mapping(name: str, config: Mapping[str, Any]) -> Mapping[str, Any]:
    value = config.get(name) or {}
    if not isinstance(value, Mapping):
        raise ConfigError(f"{name} is {value!r}; it must be an object")
    return value


def _numbers(name: str, value: Any) -> tuple[Any, ...]:
    if not isinstance(value, (list, tuple)) or not value or not all(type(item) in (int, float) for item in value):
        raise ConfigError(f"{name} is {value!r}; it must be a list of numbers")
    if not all(0 < item < math.inf for item in value):
        raise ConfigError(f"{name} is {value!r}; its entries must be positive")
    return tuple(value)


def _positive(name: str, value: Any) -> int:
    if type(value) is not int or value < 1:
        raise ConfigError(f"{name} is {value!r}; it must be a whole number of at least 1")
    return value


class XcodecCodec(SemanticBase):
    """An X-Codec model. With `tensors` None it has random weights.

    Decoding streams exactly. Encoding does not: the speech model attends to the whole utterance. `open_encoder` gives
    it a declared window (`spec.semantic_window`), and equals `encode_windowed`; `encode` is upstream's.

    config: an `XcodecConfig` or the dict of a config.json; tensors: weights under Hugging Face names, weight norm
    merged; window: the default window of streaming encoders. Raises ConfigError, CheckpointError.
    """

    settings: XcodecConfig
    sizes: ClassVar[type[XcodecConfig]] = XcodecConfig
    usual_window: ClassVar[SemanticWindow] = SemanticWindow()
    encoder: Sequential

    def __init__(
        self,
        config: XcodecConfig | Mapping[str, Any],
        tensors: Mapping[str, Tensor] | None = None,
        name: str = "xcodec",
        window: SemanticWindow | None = None,
    ):
        super().__init__()
        settings = config if isinstance(config, XcodecConfig) else self.sizes.from_dict(config)
        self.settings = settings
        self.config = settings.to_dict()
        with layers_for(tensors):
            self.assemble(
                (dac_encoder(settings.acoustic), xcodec_decoder(settings.acoustic, settings.upsampling_ratios)),
                settings.acoustic.latent_channels,
                SpeechModel.from_config(settings.speech, settings.speech_rate),
                settings.semantic,
                settings.hearing(),
                self.make_quantizer,
                window or self.usual_window,
            )
        self._check_widths()
        if tensors is not None:
            reader = TensorReader(tensors)
            take_layers(reader, self._acoustic_layers())
            self.take_branch(reader)
            reader.finish()
        self.finish_construction(
            name=name,
            sample_rate=settings.sample_rate,
            channels=1,
            hop_length=settings.hop_length,
            bandwidths=settings.target_bandwidths,
            default_bandwidth=settings.target_bandwidths[-1],  # upstream's own default: the highest
        )

    def make_quantizer(self, channels: int) -> ResidualVectorQuantizer:
        """That of joined latents of so many channels."""
        return ResidualVectorQuantizer(self.settings.num_codebooks, self.settings.codebook_size, channels)

    def _check_widths(self) -> None:
        settings = self.settings
        if settings.codebook_dim not in (None, self.quantizer.codebooks.shape[2]) or (
            self.widths.semantic != self.speech.channels
        ):
            raise ConfigError(
                f"codebook_dim is {settings.codebook_dim} and channel_ratios end at "
                f"{settings.semantic.channel_ratios[-1]}; the latents have {self.widths.acoustic} acoustic and "
                f"{self.widths.semantic} semantic channels, which must be as many as the speech model's "
                f"{self.speech.channels}, and codebook_dim all of them together"
            )

    def as_rows(self, wav: AudioLike, batch: int | None = None, *, grad: bool = False) -> Tensor:
        rows = super().as_rows(wav, batch, grad=grad)
        return rows if self.settings.audio_norm_scale == 1.0 else rows * self.settings.audio_norm_scale

    def filled(self, rows: Tensor) -> Tensor:
        """With zeros at the end only where upstream's alignment would lose samples: 1 to 79 beyond whole frames."""
        samples = rows.shape[1]
        parts = self._windowed.parts
        frames = parts.semantic.output_length(parts.features.rows(samples))
        return super().filled(rows) if frames * self.spec.hop_length < samples else rows

    def analyse(self, rows: Tensor) -> Piece:
        """The whole signal [B, N, 1] as upstream aligns it, to latents [B, T, D], T = (N + 240) // 320 at 16 kHz.

        Where the two branches disagree by a frame (80 to 311 samples beyond whole frames), the acoustic one runs again
        on the signal with half a hop of zeros on either side, which moves its frames by half a frame.
        """
        semantic = self.encoder_semantic(self.features(rows))
        if self._windowed.parts.acoustic.output_length(rows.shape[1]) != semantic.shape[1]:
            half = self.spec.hop_length // 2
            rows = F.pad(rows, (0, 0, half, half))
        return Piece(self.join(self.encoder(rows), semantic))

    def _acoustic_layers(self) -> Iterator[tuple[str, Weighted]]:
        for name, half in (("acoustic_encoder", self.encoder), ("acoustic_decoder", self.acoustic_decoder)):
            assert isinstance(half, Sequential)
            yield from weighted_layers(name, half)

    def to_huggingface(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        tensors = give_layers(self._acoustic_layers()) | self.give_branch()
        return dict(self.config), {name: tensor.detach() for name, tensor in tensors.items()}
