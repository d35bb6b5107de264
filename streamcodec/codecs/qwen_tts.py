"""The tokenizer of Qwen3-TTS at 12.5 Hz (Qwen team 2026, "Qwen3-TTS Technical Report", arXiv 2601.15621).

Mimi's encoder, and a decoder of its own. The encoder's codebooks find the codes, the decoder has others for what they
stand for.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from ..nn.attention import NormalisedRows, transformer_layer
from ..nn.conv import Conv1d, ConvTranspose1d, DepthwiseConv1d
from ..nn.layer import Elementwise, Layer, Sequential
from ..nn.residual import Residual
from ..nn.rms_norm import RMSNorm
from ..nn.scaled import Scaled
from ..nn.snake import SnakeBeta
from ..nn.split import TranslatingQuantizer
from ..program import Padding
from .base import Codec
from .mimi_layers import (
    codebook_names,
    give_codebooks,
    give_convolutions,
    mimi_encoder,
    seanet_convolutions,
    take_codebooks,
    take_convolutions,
    take_matrices,
    transformer_matrices,
)
from .qwen_tts_config import QwenTtsConfig, QwenTtsDecoderConfig
from .tensors import TensorReader, layers_for

__all__ = ["QwenTtsCodec", "QwenTtsConfig"]

_PARTS = ("semantic", "acoustic")
_DECODER_PARTS = ("rvq_first", "rvq_rest")


def _causal(channels: int, outputs: int, kernel: int, dilation: int = 1) -> Conv1d:
    return Conv1d(channels, outputs, kernel, dilation=dilation, padding=Padding((kernel - 1) * dilation))


def _transformer(config: QwenTtsDecoderConfig) -> Sequential:
    layers = (
        transformer_layer(
            config.hidden_size, config.num_attention_heads, config.head_size, config.intermediate_size,
            reach=config.sliding_window, base=config.rope_theta, epsilon=config.rms_norm_eps,
            scale=config.layer_scale_initial_scale, kind="gated",
        )
        for _ in range(config.num_hidden_layers)
    )  # fmt: skip
    return Sequential(layers)


def _upsampling(channels: int, ratio: int) -> Sequential:
    """Rows `ratio` times as many, then a block like ConvNeXt's (Liu et al. 2022)."""
    inner = Scaled(Conv1d(4 * channels, channels, 1), 1e-6)
    branch = [
        DepthwiseConv1d(channels, 7, padding=Padding(6)), NormalisedRows(channels, 1e-6),
        Conv1d(channels, 4 * channels, 1), Elementwise("gelu"), inner,
    ]  # fmt: skip
    return Sequential([ConvTranspose1d(channels, channels, ratio, stride=ratio), Residual(Sequential(branch))])


def _unit(channels: int, dilation: int) -> Residual:
    near, pointwise = _causal(channels, channels, 7, dilation), Conv1d(channels, channels, 1)
    return Residual(Sequential([SnakeBeta(channels), near, SnakeBeta(channels), pointwise]))


def qwen_tts_decoder(config: QwenTtsDecoderConfig) -> Sequential:
    """What the codes stand for, [B, T, codebook_dim], to audio [B, T * hop_length, 1], limited to -1..1."""
    channels, width = config.decoder_dim, config.latent_dim
    layers: list[Layer] = [
        _causal(config.codebook_dim, width, 3),
        Conv1d(width, config.hidden_size, 1),
        _transformer(config),
        RMSNorm(config.hidden_size, config.rms_norm_eps),
        Conv1d(config.hidden_size, width, 1),
        Sequential([_upsampling(width, ratio) for ratio in config.upsampling_ratios]),
        _causal(width, channels, 7),
    ]
    for rate in config.upsample_rates:
        up = ConvTranspose1d(channels, channels // 2, 2 * rate, stride=rate, trim_right=rate)
        channels //= 2
        layers.append(Sequential([SnakeBeta(2 * channels), up, *(_unit(channels, d) for d in (1, 3, 9))]))
    return Sequential([*layers, SnakeBeta(channels), _causal(channels, 1, 7), Elementwise("hardtanh")])


class QwenTtsCodec(Codec):
    """A tokenizer of Qwen3-TTS at 12.5 Hz. With `tensors` None it has random weights.

    Upstream decodes recordings of more than 300 frames in pieces, whose first samples differ from those of the whole;
    here they never do.

    config: a `QwenTtsConfig` or the dict of a config.json; tensors: weights under the names of the package
    ``qwen-tts``. Raises ConfigError, CheckpointError.
    """

    encoder: Sequential
    decoder: Sequential
    quantizer: TranslatingQuantizer

    def __init__(
        self, config: QwenTtsConfig | Mapping[str, Any], tensors: Mapping[str, Tensor] | None = None,
        name: str = "qwen3_tts_12hz",
    ):  # fmt: skip
        super().__init__()
        settings = config if isinstance(config, QwenTtsConfig) else QwenTtsConfig.from_dict(config)
        self.settings, self.config = settings, settings.to_dict()
        mimi, count = settings.encoder, settings.encoder.num_quantizers
        with layers_for(tensors):
            self.encoder = mimi_encoder(mimi)
            self.decoder = qwen_tts_decoder(settings.decoder)
            sizes = (mimi.codebook_size, mimi.codebook_dim, settings.decoder.codebook_dim // 2, mimi.hidden_size)
            self.quantizer = TranslatingQuantizer(mimi.num_semantic_quantizers, count, *sizes)
        if tensors is not None:
            self._take(TensorReader(tensors))
        bandwidths = tuple(map(mimi.bandwidth, range(1, count + 1)))
        self.finish_construction(
            name=name,
            sample_rate=mimi.sampling_rate,
            channels=1,
            hop_length=mimi.hop_length,
            bandwidths=bandwidths,
            default_bandwidth=bandwidths[-1],
            bandwidth_codebooks=tuple(range(1, count + 1)),
        )

    def _convolutions(self) -> Iterator[tuple[str, Conv1d | ConvTranspose1d]]:
        """Those of the encoder outside its transformer, and of the decoder that are convolutions in the file too."""
        seanet, _, half = self.encoder.chain
        assert isinstance(seanet, Sequential)
        assert isinstance(half, Conv1d)
        yield from seanet_convolutions("encoder.encoder", seanet)
        yield "encoder.downsample.conv", half
        for name, layer in _decoder_layers(self.decoder):
            if isinstance(layer, (Conv1d, ConvTranspose1d)) and name.endswith(".conv"):
                yield f"decoder.{name}", layer

    def _matrices(self) -> Iterator[tuple[str, Tensor]]:
        """All else that a file holds but the codebooks."""
        for half, transformer in (
            ("encoder.encoder_transformer", self.encoder.chain[1]),
            ("decoder.pre_transformer", self.decoder.chain[2]),
        ):
            assert isinstance(transformer, Sequential)
            yield from transformer_matrices(half, transformer)
        for name, layer in _decoder_layers(self.decoder):
            yield from _layer_matrices(f"decoder.{name}", layer)
        for part, (ours, theirs) in enumerate(zip(_PARTS, _DECODER_PARTS, strict=True)):
            mimi = f"encoder.quantizer.{ours}_residual_vector_quantizer"
            yield f"{mimi}.input_proj.weight", self.quantizer.down[part].T[:, :, None]
            yield f"decoder.quantizer.{theirs}.output_proj.weight", self.quantizer.up[part].T[:, :, None]

    def _unused(self) -> Iterator[tuple[str, Tensor]]:
        """Entries of a file that nothing reads: the way out of the encoder's quantizer, and into the decoder's."""
        for part, (ours, theirs) in enumerate(zip(_PARTS, _DECODER_PARTS, strict=True)):
            mimi = f"encoder.quantizer.{ours}_residual_vector_quantizer"
            yield f"{mimi}.output_proj.weight", self.quantizer.down[part][:, :, None]
            yield f"decoder.quantizer.{theirs}.input_proj.weight", self.quantizer.up[part][:, :, None]

    def _codebooks(self) -> Iterator[tuple[str, Tensor]]:
        names = codebook_names(self.settings.encoder.num_semantic_quantizers, self.settings.encoder.num_quantizers)
        return zip((f"encoder.{name}" for name in names), self.quantizer.codebooks, strict=True)

    def _meanings(self) -> Iterator[tuple[str, Tensor]]:
        for stage, entries in enumerate(self.quantizer.meanings):
            part, place = (_DECODER_PARTS[0], 0) if stage == 0 else (_DECODER_PARTS[1], stage - 1)
            yield f"decoder.quantizer.{part}.vq.layers.{place}._codebook", entries

    def _take(self, reader: TensorReader) -> None:
        take_convolutions(reader, self._convolutions())
        take_matrices(reader, self._matrices())
        self.quantizer.set_codebooks(take_codebooks(reader, self._codebooks()))
        self.quantizer.meanings.copy_(take_codebooks(reader, self._meanings(), "embedding_sum"))
        reader.drop(*(name for name, _ in self._unused()))
        # Of the codebooks that are left the decoder knows nothing.
        reader.drop_matching(r"encoder\.quantizer\.acoustic_residual_vector_quantizer\.layers\.\d+\.codebook\.\w+")
        reader.finish()

    def to_huggingface(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        matrices = (*self._matrices(), *self._unused())
        tensors = {name: matrix.detach().contiguous() for name, matrix in matrices}
        tensors |= give_convolutions(self._convolutions()) | give_codebooks(self._codebooks())
        return dict(self.config), tensors | give_codebooks(self._meanings(), "embedding_sum")


def _decoder_layers(decoder: Sequential) -> Iterator[tuple[str, Layer]]:
    """The decoder's layers with weights but for its transformer's, under the names of the file."""
    before, inward, _, norm, outward, upsampling, first, *blocks, last_snake, last, _ = decoder.chain
    yield "pre_conv.conv", before
    yield "pre_transformer.input_proj", inward
    yield "pre_transformer.norm", norm
    yield "pre_transformer.output_proj", outward
    assert isinstance(upsampling, Sequential)
    for i, stage in enumerate(upsampling.chain):
        yield from _upsampling_layers(f"upsample.{i}", stage)
    yield "decoder.0.conv", first
    for i, block in enumerate(blocks, 1):
        yield from _block_layers(f"decoder.{i}.block", block)
    yield f"decoder.{len(blocks) + 1}", last_snake
    yield f"decoder.{len(blocks) + 2}.conv", last


def _branch(layer: Layer) -> tuple[Layer, ...]:
    assert isinstance(layer, Residual)
    assert isinstance(layer.branch, Sequential)
    return layer.branch.chain


def _upsampling_layers(path: str, stage: Layer) -> Iterator[tuple[str, Layer]]:
    assert isinstance(stage, Sequential)
    up, block = stage.chain
    near, norm, wide, _, narrow = _branch(block)
    yield f"{path}.0.conv", up
    yield f"{path}.1.dwconv.conv", near
    yield f"{path}.1.norm", norm
    yield f"{path}.1.pwconv1", wide
    yield f"{path}.1", narrow


def _block_layers(path: str, block: Layer) -> Iterator[tuple[str, Layer]]:
    assert isinstance(block, Sequential)
    snake, up, *units = block.chain
    yield f"{path}.0", snake
    yield f"{path}.1.conv", up
    for i, unit in enumerate(units, 2):
        for name, layer in zip(("act1", "conv1.conv", "act2", "conv2.conv"), _branch(unit), strict=True):
            yield f"{path}.{i}.{name}", layer


def _layer_matrices(path: str, layer: Layer) -> Iterator[tuple[str, Tensor]]:
    """What a file has of a layer of `_decoder_layers` that is no convolution there."""
    if isinstance(layer, Scaled):
        yield f"{path}.gamma", layer.scale
        path, layer = f"{path}.pwconv2", layer.conv
    if not isinstance(layer, (Conv1d, ConvTranspose1d)):
        for kind, weight in layer.named_parameters():
            yield f"{path}.{kind}", weight
    elif not path.endswith(".conv"):
        assert layer.bias is not None
        yield f"{path}.weight", layer.weight[0].T
        yield f"{path}.bias", layer.bias
