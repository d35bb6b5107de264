"""Mimi (Défossez et al. 2024, "Moshi: a speech-text foundation model for real-time dialogue", section 3.3)."""

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from ..nn.conv import Conv1d, ConvTranspose1d, DepthwiseConvTranspose1d
from ..nn.layer import Sequential
from ..nn.seanet import seanet_decoder
from ..nn.split import SplitQuantizer
from .base import Codec
from .mimi_config import MimiConfig
from .mimi_layers import (
    codebook_names,
    give_codebooks,
    give_convolutions,
    mimi_encoder,
    mimi_transformer,
    seanet_convolutions,
    take_codebooks,
    take_convolutions,
    take_matrices,
    transformer_matrices,
)
from .tensors import TensorReader, layers_for

__all__ = ["MimiCodec", "MimiConfig"]


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
        with layers_for(tensors):
            self.encoder = mimi_encoder(settings)
            twice = DepthwiseConvTranspose1d(width, 4, stride=2, trim_right=2, bias=False)
            self.decoder = Sequential([twice, mimi_transformer(settings), seanet_decoder(settings)])
            sizes = (settings.codebook_size, settings.codebook_dim, width)
            self.quantizer = SplitQuantizer(settings.num_semantic_quantizers, count, *sizes)
        if tensors is not None:
            self._take(TensorReader(tensors))
        self.finish_construction(
            name=name,
            sample_rate=settings.sampling_rate,
            channels=1,
            hop_length=settings.hop_length,
            bandwidths=tuple(map(settings.bandwidth, range(1, count + 1))),
            default_bandwidth=settings.bandwidth(settings.default_codebooks or count),
            bandwidth_codebooks=tuple(range(1, count + 1)),
        )

    def _convolutions(self) -> Iterator[tuple[str, Conv1d | ConvTranspose1d]]:
        """Those outside the transformers, under the names that Hugging Face gives them."""
        (encoder, _, half), (twice, _, decoder) = self.encoder.chain, self.decoder.chain
        assert isinstance(encoder, Sequential)
        assert isinstance(decoder, Sequential)
        assert isinstance(half, Conv1d)
        assert isinstance(twice, ConvTranspose1d)
        yield from seanet_convolutions("encoder", encoder)
        yield from seanet_convolutions("decoder", decoder)
        yield "downsample.conv", half
        yield "upsample.conv", twice

    def _matrices(self) -> Iterator[tuple[str, Tensor]]:
        """All else that a file holds but the codebooks."""
        for name, half in (("encoder", self.encoder), ("decoder", self.decoder)):
            transformer = half.chain[1]
            assert isinstance(transformer, Sequential)
            yield from transformer_matrices(f"{name}_transformer", transformer)
        for part, name in enumerate(("semantic", "acoustic")):
            prefix = f"quantizer.{name}_residual_vector_quantizer"
            yield f"{prefix}.input_proj.weight", self.quantizer.down[part].T[:, :, None]
            yield f"{prefix}.output_proj.weight", self.quantizer.up[part].T[:, :, None]

    def _codebooks(self) -> Iterator[tuple[str, Tensor]]:
        names = codebook_names(self.settings.num_semantic_quantizers, self.settings.num_quantizers)
        return zip(names, self.quantizer.codebooks, strict=True)

    def _take(self, reader: TensorReader) -> None:
        take_convolutions(reader, self._convolutions())
        take_matrices(reader, self._matrices())
        self.quantizer.set_codebooks(take_codebooks(reader, self._codebooks()))
        reader.finish()

    def to_huggingface(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        tensors = {name: matrix.detach().contiguous() for name, matrix in self._matrices()}
        tensors |= give_convolutions(self._convolutions()) | give_codebooks(self._codebooks())
        return dict(self.config), tensors
