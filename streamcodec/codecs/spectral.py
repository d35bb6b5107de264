"""A codec whose blocks all run at the frame rate: a lapped transform in, an MDCT with band gains out.

Our own; no checkpoint of another project has this layout. Between the two transforms are blocks like ConvNeXt's (Liu et
al. 2022), causal and normalised by RMS. There is no recurrence: what a stream remembers is a few frames long.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ConfigError
from ..nn.bands import BandFeatures, BandGains, band_edges
from ..nn.conv import Conv1d, DepthwiseConv1d
from ..nn.lapped import LappedTransform, OverlapAdd
from ..nn.layer import Elementwise, Layer, Sequential
from ..nn.quantize import ResidualVectorQuantizer
from ..nn.residual import Residual
from ..nn.rms_norm import RMSNorm
from ..nn.scaled import Scaled
from ..program import Padding
from .base import Codec
from .tensors import TensorReader, layers_for

__all__ = ["SpectralCodec", "SpectralConfig"]

LONGEST_HOP = 4096  # samples; a transform has four times its square of weights


@dataclass(frozen=True)
class SpectralConfig:
    """Sizes, under the names of a config.json.

    sampling_rate: Hz; hop_length: samples per frame; encoder_width, decoder_width: channels of the blocks;
    encoder_blocks, decoder_blocks: how many; expansion: by how much a block is wider inside; kernel_size: frames that a
    block hears; hidden_size: channels of the latents; bands: of the spectrum, whose levels are told apart from it;
    target_bandwidths: kbps, ascending, each a whole number of codebooks; default_bandwidth: one of them, None for the
    highest.

    Raises ConfigError for sizes that cannot be.
    """

    sampling_rate: int = 24_000
    hop_length: int = 320
    encoder_width: int = 384
    encoder_blocks: int = 6
    decoder_width: int = 384
    decoder_blocks: int = 8
    expansion: int = 3
    kernel_size: int = 7
    hidden_size: int = 64
    bands: int = 32
    codebook_size: int = 1024
    target_bandwidths: tuple[float, ...] = (1.5, 3.0, 6.0)
    default_bandwidth: float | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            least = 0 if field.name.endswith("blocks") else 1
            if type(field.default) is int and (type(value) is not int or value < least):
                raise ConfigError(f"{field.name} is {value!r}; it must be a whole number of at least {least}")
        if self.hop_length > LONGEST_HOP:
            raise ConfigError(f"hop_length is {self.hop_length}; at most {LONGEST_HOP} samples are allowed")
        if self.codebook_size < 2 or self.codebook_size & (self.codebook_size - 1):
            raise ConfigError(f"codebook_size is {self.codebook_size}; it must be a power of 2, at least 2")
        if self.default_bandwidth not in (None, *self.target_bandwidths):
            raise ConfigError(f"default_bandwidth is {self.default_bandwidth}; it is not in target_bandwidths")
        _ = self.edges, self.codebooks

    @classmethod
    def from_dict(cls, config: Mapping[str, Any]) -> "SpectralConfig":
        """From a config.json. Raises ConfigError for a value of the wrong type or out of range."""
        if config.get("audio_channels", 1) != 1:
            raise ConfigError(f"audio_channels is {config['audio_channels']!r}; this kind of codec is mono: 1")
        values = {field.name: config[field.name] for field in fields(cls) if field.name in config}
        kbps = values.setdefault("target_bandwidths", cls.target_bandwidths)
        if not isinstance(kbps, (list, tuple)) or not all(type(value) in (int, float) for value in kbps):
            raise ConfigError(f"target_bandwidths is {kbps!r}; it must be a list of numbers, in kbps")
        return cls(**values | {"target_bandwidths": tuple(map(float, kbps))})

    def to_dict(self) -> dict[str, Any]:
        """As a config.json."""
        values = asdict(self) | {"target_bandwidths": list(self.target_bandwidths)}
        return values | {"model_type": "streamcodec_spectral", "audio_channels": 1, "dtype": "float32"}

    @property
    def edges(self) -> list[int]:
        """First bins of the bands, and their end."""
        return band_edges(self.hop_length, self.bands, self.sampling_rate)

    @property
    def codebooks(self) -> tuple[int, ...]:
        """Codebooks at each bandwidth."""
        each = math.log2(self.codebook_size) * self.sampling_rate / self.hop_length
        counts = tuple(round(1000 * kbps / each) for kbps in self.target_bandwidths)
        exact = all(abs(n * each - 1000 * kbps) < 1 for n, kbps in zip(counts, self.target_bandwidths, strict=True))
        if not counts or min(counts) < 1 or not exact or sorted(set(counts)) != list(counts):
            raise ConfigError(
                f"target_bandwidths is {list(self.target_bandwidths)}; a codebook of {self.codebook_size} entries is "
                f"{each / 1000:.6g} kbps at {self.sampling_rate / self.hop_length:.6g} frames a second, and each "
                "bandwidth must be a whole number of them, ascending"
            )
        return counts


def _pointwise(channels: int, outputs: int) -> Conv1d:
    """A product of single rows that begins as torch's own linear layers do."""
    conv = Conv1d(channels, outputs, 1)
    nn.init.uniform_(conv.weight, -1 / math.sqrt(channels), 1 / math.sqrt(channels))
    return conv


def _block(width: int, config: SpectralConfig) -> Layer:
    """A residual block that begins near to the identity: each channel hears its newest row, and adds a fifth."""
    kernel, inner = config.kernel_size, config.expansion * width
    hearing = DepthwiseConv1d(width, kernel, padding=Padding(kernel - 1), bias=False)
    with torch.no_grad():
        nn.init.normal_(hearing.weight, std=0.02)
        hearing.weight[-1] += 1.0
    outer = Scaled(_pointwise(inner, width), 0.2)
    return Residual(Sequential([hearing, RMSNorm(width), _pointwise(width, inner), Elementwise("silu"), outer]))


def spectral_encoder(config: SpectralConfig) -> Sequential:
    """Audio [B, N, 1] to latents [B, floor(N / hop_length), hidden_size]."""
    hop, width = config.hop_length, config.encoder_width
    return Sequential(
        [
            Sequential([LappedTransform(hop), BandFeatures(config.edges)]),
            _pointwise(2 * hop + config.bands, width),
            *(_block(width, config) for _ in range(config.encoder_blocks)),
            RMSNorm(width),
            _pointwise(width, config.hidden_size),
        ]
    )


def spectral_decoder(config: SpectralConfig) -> Sequential:
    """Latents [B, T, hidden_size] to audio [B, (T - 1) * hop_length, 1]."""
    hop, width = config.hop_length, config.decoder_width
    spectrum = _pointwise(width, hop + config.bands)
    with torch.no_grad():
        spectrum.weight.mul_(0.5)
    return Sequential(
        [
            _pointwise(config.hidden_size, width),
            *(_block(width, config) for _ in range(config.decoder_blocks)),
            RMSNorm(width),
            spectrum,
            BandGains(config.edges),
            OverlapAdd(hop),
        ]
    )


class SpectralCodec(Codec):
    """With `tensors` None it has random weights, ready to be trained.

    config: a `SpectralConfig` or the dict of a config.json; tensors: what `to_huggingface` gave. Raises ConfigError,
    CheckpointError.
    """

    floors = True
    encoder: Sequential
    decoder: Sequential
    quantizer: ResidualVectorQuantizer

    def __init__(
        self,
        config: SpectralConfig | Mapping[str, Any],
        tensors: Mapping[str, Tensor] | None = None,
        name: str = "spectral",
    ):
        super().__init__()
        settings = config if isinstance(config, SpectralConfig) else SpectralConfig.from_dict(config)
        self.settings = settings
        self.config = settings.to_dict()
        stages, entries = settings.codebooks[-1], settings.codebook_size
        with layers_for(tensors):
            self.encoder = spectral_encoder(settings)
            self.decoder = spectral_decoder(settings)
            self.quantizer = ResidualVectorQuantizer(stages, entries, settings.hidden_size)
        if tensors is not None:
            self._take(TensorReader(tensors))
        self.finish_construction(
            name=name,
            sample_rate=settings.sampling_rate,
            channels=1,
            hop_length=settings.hop_length,
            bandwidths=settings.target_bandwidths,
            default_bandwidth=settings.default_bandwidth or settings.target_bandwidths[-1],
            bandwidth_codebooks=settings.codebooks,
        )

    def _weights(self) -> Iterator[tuple[str, Tensor]]:
        """What a file holds: all that is learnt, under the names of our modules."""
        yield from self.encoder.named_parameters("encoder")
        yield from self.decoder.named_parameters("decoder")
        yield "quantizer.codebooks", self.quantizer.codebooks

    @torch.no_grad()
    def _take(self, reader: TensorReader) -> None:
        for name, value in self._weights():
            tensor = reader.take(name, tuple(value.shape))
            if tensor is not None:
                value.copy_(tensor)
        reader.finish()

    def to_huggingface(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """In transformers' manner of files. It has no model of this kind: `load` of this package reads them."""
        return dict(self.config), {name: tensor.detach() for name, tensor in self._weights()}
