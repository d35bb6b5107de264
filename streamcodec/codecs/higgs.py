"""The tokenizer of Higgs Audio v2 (Boson AI 2025): X-Codec at 24 kHz, with projections around each codebook."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..errors import ConfigError
from ..nn.projected import ProjectedQuantizer
from ..spec import SemanticWindow
from .hearing import Hearing
from .tensors import TensorReader
from .xcodec import XcodecCodec, XcodecConfig

__all__ = ["HiggsCodec", "HiggsConfig"]

# Samples of zeros on either side of what the speech model hears, at its own rate, whatever the hop length.
PADDING = 160
# The resampler of torchaudio, by which upstream takes the codec's samples to the speech model's rate.
FILTER = (0.99, 6)


@dataclass(frozen=True)
class HiggsConfig(XcodecConfig):
    """The fields of `transformers.HiggsAudioV2TokenizerConfig`, with its defaults.

    codebook_dim: dimensions in which codes are looked up; semantic_sample_rate: Hz that the speech model hears;
    downsample_factor: its samples per row of features. Where a frame of the codec has several rows, the first of each
    is heard.
    """

    sample_rate: int = 24_000
    codebook_dim: int | None = 64
    semantic_sample_rate: int = 16_000
    downsample_factor: int = 320

    WHOLE: ClassVar[tuple[str, ...]] = (*XcodecConfig.WHOLE, "semantic_sample_rate", "downsample_factor")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.hop_length * self.semantic_sample_rate % (self.sample_rate * self.downsample_factor):
            raise ConfigError(
                f"a frame of {self.hop_length} samples at {self.sample_rate} Hz is no whole number of the speech "
                f"model's rows, {self.downsample_factor} samples at {self.semantic_sample_rate} Hz"
            )

    def to_dict(self) -> dict[str, Any]:
        rates = {"semantic_sample_rate": self.semantic_sample_rate, "downsample_factor": self.downsample_factor}
        names = {"model_type": "higgs_audio_v2_tokenizer", "architectures": ["HiggsAudioV2TokenizerModel"]}
        return super().to_dict() | rates | names | {"codebook_dim": self.codebook_dim}

    @property
    def speech_rate(self) -> int:
        return self.semantic_sample_rate

    def hearing(self) -> Hearing:
        strides = math.prod(self.semantic.strides)
        rows = self.hop_length * self.semantic_sample_rate // (self.sample_rate * self.downsample_factor)
        return Hearing(self.sample_rate, self.hop_length, (PADDING, PADDING), strides, every=rows, filter=FILTER)


class HiggsCodec(XcodecCodec):
    """A tokenizer of Higgs Audio v2. With `tensors` None it has random weights.

    Decoding streams exactly; a streaming encoder hears windows, as X-Codec's does (`XcodecCodec`).

    config: a `HiggsConfig` or the dict of a config.json; tensors: weights under Hugging Face names, weight norm merged;
    window: the default window of streaming encoders. Raises ConfigError, CheckpointError.
    """

    settings: HiggsConfig
    sizes: ClassVar[type[XcodecConfig]] = HiggsConfig
    # 2 s of past, and as much ahead as the acoustic encoder's 22,174 samples (23 frames) leave free of delay: the
    # semantic encoder behind it looks 7 frames ahead, and 7 + 10 + 7 - 1 = 23.
    usual_window: ClassVar[SemanticWindow] = SemanticWindow(left=50, right=7, hop=10)
    quantizer: ProjectedQuantizer

    def make_quantizer(self, channels: int) -> ProjectedQuantizer:
        settings = self.settings
        dimension = settings.codebook_dim or channels
        return ProjectedQuantizer(settings.num_codebooks, settings.codebook_size, dimension, channels)

    def _projections(self) -> Iterator[tuple[str, Tensor]]:
        """Those around the codebooks: views of our weights, in the layout of a file."""
        rvq = self.quantizer
        for stage in range(len(rvq.codebooks)):
            prefix = f"quantizer.quantizers.{stage}"
            yield f"{prefix}.project_in.weight", rvq.in_weight[stage].T
            yield f"{prefix}.project_in.bias", rvq.in_bias[stage]
            yield f"{prefix}.project_out.weight", rvq.out_weight[stage].T
            yield f"{prefix}.project_out.bias", rvq.out_bias[stage]

    @torch.no_grad()
    def take_quantizer(self, reader: TensorReader) -> None:
        super().take_quantizer(reader)
        for name, matrix in self._projections():
            tensor = reader.take(name, tuple(matrix.shape))
            if tensor is not None:
                matrix.copy_(tensor)

    def give_quantizer(self) -> dict[str, Tensor]:
        return super().give_quantizer() | {name: matrix.contiguous() for name, matrix in self._projections()}
