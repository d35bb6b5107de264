"""The audio tokenizer of Pocket TTS (Rouard et al. 2025, "Continuous Audio Language Models"; Kyutai's ``pocket-tts``).

Mimi's layers with continuous latents: a projection stands where Mimi has its quantizer.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from ..errors import ConfigError
from ..nn.conv import Conv1d, ConvTranspose1d, DepthwiseConvTranspose1d
from ..nn.layer import Sequential
from ..nn.seanet import seanet_decoder, seanet_encoder
from ..nn.unquantized import Unquantized
from ..program import Padding
from .base import Codec
from .mimi_config import AttentiveSEANetConfig
from .mimi_layers import (
    give_convolutions,
    mimi_transformer,
    seanet_convolutions,
    take_convolutions,
    take_matrices,
    transformer_matrices,
)
from .tensors import TensorReader, layers_for

__all__ = ["MODEL_TYPE", "PocketTtsCodec", "PocketTtsConfig"]

MODEL_TYPE = "pocket_tts_audio_tokenizer"


@dataclass(frozen=True)
class PocketTtsConfig(AttentiveSEANetConfig):
    """The fields of `transformers.PocketTTSAudioTokenizerConfig` that say what is computed, with its defaults.

    latent_dim: channels of the latents; latent_stride: rows of the transformers to a frame.
    """

    upsampling_ratios: tuple[int, ...] = (6, 5, 4)
    num_hidden_layers: int = 2
    latent_stride: int = 16
    latent_dim: int = 32

    FIXED: ClassVar[dict[str, Any]] = AttentiveSEANetConfig.FIXED | {"hidden_act": "gelu_pytorch_tanh"}
    MODEL: ClassVar[str] = "Pocket TTS's tokenizer"

    @classmethod
    def _fields(cls, config: Mapping[str, Any]) -> dict[str, Any]:
        for half in ("encoder_config", "decoder_config"):
            if half in config and config[half] is None:
                raise ConfigError(f"{half} is null: this checkpoint has one half only, and both are needed")
        return super()._fields(config)

    def to_dict(self) -> dict[str, Any]:
        return super().to_dict() | {"model_type": MODEL_TYPE, "architectures": ["PocketTTSAudioTokenizerModel"]}

    @property
    def hop_length(self) -> int:
        """Samples per frame."""
        return self.latent_stride * math.prod(self.upsampling_ratios)


class PocketTtsCodec(Codec):
    """A tokenizer of Pocket TTS. With `tensors` None it has random weights.

    It has no codes: use `encode_latents`, `decode_latents`, `open_latent_encoder` and `open_latent_decoder`.

    config: a `PocketTtsConfig` or the dict of a config.json; tensors: weights under Hugging Face names. Raises
    ConfigError, CheckpointError.
    """

    floors = True  # zeros fill the last frame before anything is computed, as upstream and its processor have it
    encoder: Sequential
    decoder: Sequential
    quantizer: Unquantized

    def __init__(
        self, config: PocketTtsConfig | Mapping[str, Any], tensors: Mapping[str, Tensor] | None = None,
        name: str = "pocket_tts",
    ):  # fmt: skip
        super().__init__()
        settings = config if isinstance(config, PocketTtsConfig) else PocketTtsConfig.from_dict(config)
        self.settings, self.config = settings, settings.to_dict()
        width, stride, channels = settings.hidden_size, settings.latent_stride, settings.latent_dim
        with layers_for(tensors):
            padding = Padding(stride, 0, "replicate", extend=True)
            down = Conv1d(width, channels, 2 * stride, stride=stride, padding=padding, bias=False)
            up = DepthwiseConvTranspose1d(width, 2 * stride, stride=stride, trim_right=stride, bias=False)
            inward = Conv1d(channels, width, 1, bias=False)
            inner, outer = (mimi_transformer(settings, "gelu_tanh") for _ in range(2))
            self.encoder = Sequential([seanet_encoder(settings), inner, down])
            self.decoder = Sequential([inward, up, outer, seanet_decoder(settings)])
            self.quantizer = Unquantized(channels)
        if tensors is not None:
            self._take(TensorReader(tensors))
        self.finish_construction(
            name=name,
            sample_rate=settings.sampling_rate,
            channels=1,
            hop_length=settings.hop_length,
            bandwidths=(),
            default_bandwidth=0.0,
        )

    def _convolutions(self) -> Iterator[tuple[str, Conv1d | ConvTranspose1d]]:
        (encoder, _, down), (_, up, _, decoder) = self.encoder.chain, self.decoder.chain
        assert isinstance(encoder, Sequential)
        assert isinstance(decoder, Sequential)
        assert isinstance(down, Conv1d)
        assert isinstance(up, ConvTranspose1d)
        yield from seanet_convolutions("encoder.encoder_seanet", encoder)
        yield from seanet_convolutions("decoder.decoder_seanet", decoder)
        yield "encoder.downsample.conv", down
        yield "decoder.upsample.conv", up

    def _matrices(self) -> Iterator[tuple[str, Tensor]]:
        inner, (inward, _, outer, _) = self.encoder.chain[1], self.decoder.chain
        assert isinstance(inner, Sequential)
        assert isinstance(outer, Sequential)
        assert isinstance(inward, Conv1d)
        yield from transformer_matrices("encoder.encoder_transformer", inner)
        yield from transformer_matrices("decoder.decoder_transformer", outer)
        yield "latent_proj.weight", inward.weight[0].T[:, :, None]

    def _take(self, reader: TensorReader) -> None:
        take_convolutions(reader, self._convolutions())
        take_matrices(reader, self._matrices())
        reader.finish()

    def to_huggingface(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        tensors = {name: matrix.detach().contiguous() for name, matrix in self._matrices()}
        return dict(self.config), tensors | give_convolutions(self._convolutions())
