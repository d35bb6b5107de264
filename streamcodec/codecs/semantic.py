"""The recipe of X-Codec (Ye et al. 2024, "Codec Does Matter", section 3): an acoustic codec that also hears meaning.

Beside the acoustic encoder a frozen speech model hears the signal; a semantic encoder takes its features to the same
frames; both latents are joined (`fc`) and quantized together. From the quantized latents `fc2` leads to the acoustic
decoder and `fc1` to a semantic decoder, which has to give the speech model's features back: that is the semantic
reconstruction loss. The parts are written once, for X-Codec and for any acoustic codec of this package.
"""

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, SupportsFloat, SupportsIndex

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import state as states
from ..codes import Codes
from ..errors import ConfigError
from ..nn.conv import Conv1d, ConvTranspose1d
from ..nn.layer import Elementwise, Layer, Sequential
from ..nn.piece import Piece
from ..nn.quantize import ResidualVectorQuantizer
from ..nn.residual import Residual
from ..nn.transducer import Network
from ..pcm import AudioLike
from ..program import Padding
from ..spec import SemanticWindow
from ..stream import Start
from ..surroundings import undisturbed
from .base import Codec
from .checks import check_start
from .dac import Weighted, give_layers, take_layers
from .semantic_model import SpeechModel, resample
from .tensors import TensorReader
from .windowed import WindowedCore, WindowedParts, whole_frames, windowed_features

__all__ = ["SemanticBase", "SemanticConfig", "SemanticOutput", "semantic_decoder", "semantic_encoder"]


@dataclass(frozen=True)
class SemanticConfig:
    """The semantic encoder and decoder, with the defaults of `transformers.XcodecConfig`.

    kernel_size: of the first and last convolution; channel_ratios: channels of each block over those of the features;
    strides: of each block; block_dilations, unit_kernel_size: of a block's residual units.
    """

    kernel_size: int = 3
    channel_ratios: tuple[float, ...] = (1, 1)
    strides: tuple[int, ...] = (1, 1)
    block_dilations: tuple[int, ...] = (1, 1)
    unit_kernel_size: int = 3

    def __post_init__(self) -> None:
        if len(self.strides) != len(self.channel_ratios) or not self.strides:
            raise ConfigError(
                f"strides are {list(self.strides)} and channel_ratios {list(self.channel_ratios)}; there must be one "
                "of each per block, and a block at least"
            )
        for name in ("kernel_size", "unit_kernel_size"):
            if getattr(self, name) % 2 == 0:
                raise ConfigError(f"{name} is {getattr(self, name)}; an even kernel would shift the features")
        if min(*self.strides, *self.block_dilations, self.kernel_size, self.unit_kernel_size) < 1:
            raise ConfigError("strides, block_dilations and kernel sizes must be at least 1")
        if min(self.channel_ratios) <= 0:
            raise ConfigError(f"channel_ratios are {list(self.channel_ratios)}; they must be above 0")

    @classmethod
    def from_dict(cls, config: Mapping[str, Any]) -> "SemanticConfig":
        """Its fields of a config.json. Raises ConfigError for a value of the wrong type or out of range."""
        values: dict[str, Any] = {name: config[name] for name in cls.__dataclass_fields__ if name in config}
        for name, value in values.items():
            listed, entries = isinstance(value, (list, tuple)), value if isinstance(value, (list, tuple)) else [value]
            kinds = (int, float) if name == "channel_ratios" else (int,)
            if listed == name.endswith("size") or not entries or not all(type(entry) in kinds for entry in entries):
                kind = "a whole number" if name.endswith("size") else "a list of numbers"
                raise ConfigError(f"{name} is {value!r}; it must be {kind}")
            values[name] = tuple(value) if listed else value
        return cls(**values)

    def channels(self, features: int) -> tuple[int, ...]:
        """Channels after each block of the encoder, for features of `features` channels."""
        return tuple(max(1, int(features * ratio)) for ratio in self.channel_ratios)


def _same(channels: int, outputs: int, kernel: int, dilation: int = 1, bias: bool = False) -> Conv1d:
    pad = (kernel - 1) // 2 * dilation
    return Conv1d(channels, outputs, kernel, dilation=dilation, padding=Padding(pad, pad), bias=bias)


def _units(config: SemanticConfig, channels: int) -> list[Layer]:
    return [
        Residual(
            Sequential(
                [
                    Elementwise("elu"),
                    _same(channels, channels, config.unit_kernel_size, dilation),
                    Elementwise("elu"),
                    _same(channels, channels, 1),
                ]
            )
        )
        for dilation in config.block_dilations
    ]


def semantic_encoder(config: SemanticConfig, features: int) -> Sequential:
    """Features [B, F, features] to semantic latents [B, F / product of strides, channels of the last block]."""
    channels = features
    layers: list[Layer] = [_same(channels, channels, config.kernel_size)]
    for stride, outputs in zip(config.strides, config.channels(features), strict=True):
        kernel = 3 if stride == 1 else 2 * stride
        pad = (kernel - 1) // 2
        down = Conv1d(channels, outputs, kernel, stride=stride, padding=Padding(pad, pad))
        layers.append(Sequential([*_units(config, channels), down]))
        channels = outputs
    return Sequential(layers)


def semantic_decoder(config: SemanticConfig, features: int) -> Sequential:
    """Latents [B, T, features] to features [B, T * product of strides, features]; for training alone."""
    widths = config.channels(features)
    layers: list[Layer] = [_same(features, widths[0], config.kernel_size)]
    for stride, channels, outputs in zip(config.strides, widths, (*widths[1:], features), strict=True):
        up: Layer
        if stride == 1:
            up = _same(channels, outputs, 3, bias=True)
        else:
            trim = (stride + 1) // 2
            right = trim - stride % 2
            up = ConvTranspose1d(
                channels, outputs, 2 * stride, stride=stride, trim_left=trim, trim_right=right, bias=False
            )
        layers.append(Sequential([up, *_units(config, outputs)]))
    return Sequential([*layers, _same(features, features, config.kernel_size)])


def semantic_layers(prefix: str, half: Sequential) -> Iterator[tuple[str, Weighted]]:
    """Every layer with weights of `semantic_encoder` or `semantic_decoder`, under Hugging Face's name for it."""
    first, *blocks = half.chain
    last = blocks.pop() if isinstance(blocks[-1], Conv1d) else None
    names = ("conv", "") if last is None else ("conv1", "conv2")
    for name, layer in zip(names, (first, last), strict=True):
        if isinstance(layer, Conv1d):
            yield f"{prefix}.{name}", layer
    for place, block in enumerate(blocks):
        assert isinstance(block, Sequential)
        unit = 0
        for layer in block.chain:
            if isinstance(layer, (Conv1d, ConvTranspose1d)):
                yield f"{prefix}.conv_blocks.{place}.conv", layer
            elif isinstance(layer, Residual) and isinstance(layer.branch, Sequential):
                convolutions = [inner for inner in layer.branch.chain if isinstance(inner, Conv1d)]
                for number, inner in enumerate(convolutions, 1):
                    yield f"{prefix}.conv_blocks.{place}.res_units.{unit}.conv{number}", inner
                unit += 1


class SemanticOutput(NamedTuple):
    """What a training step sees.

    audio: [B, 1, N], the reconstruction, cut to the input; codes: [B, K, T]; latents: [B, T, D], before quantization;
    semantic_loss: mean squared error of the features given back; commitment_loss: mean squared distance of the latents
    to what they were quantized to (its gradient reaches the latents alone).
    """

    audio: Tensor
    codes: Tensor
    latents: Tensor
    semantic_loss: Tensor
    commitment_loss: Tensor


# Latents [B, T, D] and a number of codebooks to quantized latents, with the gradients of training, and codes [B, T, K].
Quantize = Callable[[Tensor, int], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Hearing:
    """How the speech model hears the codec's samples.

    sample_rate: the codec's; hop_length: samples per frame; padding: zeros before and after the samples, at the speech
    model's rate; per_frame: rows of features per frame; stretch: give exactly that many rows by linear interpolation
    over time where the speech model gives another number.
    """

    sample_rate: int
    hop_length: int
    padding: tuple[int, int]
    per_frame: int = 1
    stretch: bool = False


class Widths(NamedTuple):
    """Channels: of the acoustic latents; of the semantic encoder's output."""

    acoustic: int
    semantic: int

    @property
    def total(self) -> int:
        """Channels of the joined latents."""
        return self.acoustic + self.semantic


class SemanticBase(Codec):
    """A codec with a semantic branch. `assemble` makes its parts; a subclass says where the weights come from.

    speech: the frozen speech model; encoder: audio to acoustic latents; encoder_semantic, decoder_semantic: features to
    semantic latents and back; fc: joins both latents; fc1: quantized latents to the semantic decoder; decoder: `fc2`
    and the acoustic decoder.
    """

    floors = True
    decoder: Sequential
    quantizer: ResidualVectorQuantizer

    def assemble(
        self,
        acoustic: tuple[Layer, Layer],
        acoustic_channels: int,
        speech: SpeechModel,
        semantic: SemanticConfig,
        hearing: Hearing,
        codebooks: tuple[int, int],
        window: SemanticWindow | None,
    ) -> None:
        """acoustic: encoder and decoder; codebooks: their number and the entries of each."""
        self.speech, self.hearing = speech, hearing
        self.widths = Widths(acoustic_channels, semantic.channels(speech.channels)[-1])
        self.encoder, decoder = acoustic
        self.encoder_semantic = semantic_encoder(semantic, speech.channels)
        self.decoder_semantic = semantic_decoder(semantic, speech.channels)
        total = self.widths.total
        self.fc = Conv1d(total, total, 1)
        self.fc1 = Conv1d(total, speech.channels, 1)
        self.decoder = Sequential([Conv1d(total, acoustic_channels, 1), decoder])
        self.quantizer = ResidualVectorQuantizer(*codebooks, total)
        self.default_window = window or SemanticWindow()
        self._check_rates()

    @property
    def fc2(self) -> Conv1d:
        """Quantized latents to the acoustic decoder's."""
        first = self.decoder.chain[0]
        assert isinstance(first, Conv1d)
        return first

    @property
    def acoustic_decoder(self) -> Layer:
        """Latents to audio."""
        return self.decoder.chain[1]

    def _check_rates(self) -> None:
        hearing = self.hearing
        for frames in (1, 2, 3, 50):
            samples = frames * hearing.hop_length
            rows = frames * hearing.per_frame
            if not hearing.stretch:
                rows = self.speech.rows(samples + sum(hearing.padding))
            found = self.encoder.output_length(samples), self.encoder_semantic.output_length(rows)
            if found != (frames, frames):
                raise ConfigError(
                    f"of {samples} samples, {frames} frames, the acoustic encoder makes {found[0]} frames and the "
                    f"semantic encoder {found[1]}; the speech model's stride ({self.speech.stride} samples) times the "
                    f"semantic encoder's must be the acoustic hop length ({hearing.hop_length})"
                )

    def _encoder_network(self, channels: int, latent_channels: int, hop_length: int) -> tuple[Network, int]:
        acoustic, look_ahead = super()._encoder_network(channels, self.widths.acoustic, hop_length)
        self.semantic_network = Network(
            self.encoder_semantic, self.speech.channels, self.widths.semantic, self.hearing.per_frame
        )
        return acoustic, max(look_ahead, self._semantic_look_ahead(self.default_window or SemanticWindow()))

    def _semantic_look_ahead(self, window: SemanticWindow) -> int:
        """Samples: at worst the last feature that a frame needs is the first of its hop, which waits for `right`."""
        frames = self.semantic_network.program.last_input(0) // self.hearing.per_frame
        return (frames + window.hop + window.right - 1) * self.hearing.hop_length

    def windowed_delay(self, window: SemanticWindow | None = None) -> int:
        """Samples beyond a frame's own last one that a streaming encoder needs before its codes come, at most."""
        assert self.encoder_network is not None
        return max(self.encoder_network.look_ahead, self._semantic_look_ahead(self._window(window)))

    def _window(self, window: SemanticWindow | None) -> SemanticWindow:
        return window or self.default_window or SemanticWindow()

    def _stream_bytes(self, channels: int, latent_channels: int, hop_length: int) -> tuple[int, int]:
        encoder, decoder = super()._stream_bytes(channels, latent_channels, hop_length)
        window = self._window(None)
        # At most: the samples of a window and of a frame, and what one branch is ahead of the other by.
        ahead = self.windowed_delay() // hop_length + window.hop
        values = (window.frames + 1) * hop_length + ahead * max(self.widths.acoustic, self.widths.semantic)
        semantic = states.nbytes(self.semantic_network.spec)
        return encoder + semantic + values * self.dtype.itemsize, decoder

    # -- offline ---------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def features(self, rows: Tensor) -> Tensor:
        """What the speech model makes of samples [B, N, 1] that are the whole recording, [B, F, C]; no gradient."""
        hearing = self.hearing
        wav = resample(rows[:, :, 0], hearing.sample_rate, self.speech.sample_rate)
        wav = F.pad(wav, hearing.padding)
        wanted = -(-rows.shape[1] // hearing.hop_length) * hearing.per_frame
        if hearing.stretch and wanted:  # a row at least, of which the others can be made
            wav = F.pad(wav, (0, max(0, self.speech.extent - wav.shape[1])))
        features = self.speech(wav)
        if not hearing.stretch or features.shape[1] == wanted:
            return features
        if not wanted:
            return features[:, :0]
        return F.interpolate(features.transpose(1, 2), wanted, mode="linear", align_corners=False).transpose(1, 2)

    def join(self, acoustic: Tensor, semantic: Tensor) -> Tensor:
        """Latents of both branches, [B, T, D1] and [B, T, D2], to those that are quantized, [B, T, D1 + D2]."""
        return self.fc(torch.cat([acoustic, semantic], 2))

    def analyse(self, rows: Tensor) -> Piece:
        rows = whole_frames(rows, self.hearing.hop_length)
        return Piece(self.join(self.encoder(rows), self.encoder_semantic(self.features(rows))))

    @undisturbed
    def encode_windowed(
        self,
        wav: AudioLike,
        bandwidth: SupportsFloat | None = None,
        window: SemanticWindow | None = None,
        *,
        num_codebooks: SupportsIndex | None = None,
    ) -> Codes:
        """The whole signal at once, as a stream codes it: what `open_encoder` with that window gives piece by piece.

        The signal is padded with zeros to a whole number of frames, and the speech model hears it window by window
        (`codecs.windowed` defines that to the sample). Arguments and errors as for `encode`.
        """
        count = self.spec.codebooks(self.spec.resolve(bandwidth, num_codebooks))
        self.notice_writes()
        rows = self.as_rows(wav)
        with torch.no_grad():
            codes = self.quantizer.encode(self.analyse_windowed(self.filled(rows), window).rows, count)
        return Codes(codes.transpose(1, 2).contiguous(), None, self.covered(rows.shape[1], codes.shape[1]))

    def analyse_windowed(self, rows: Tensor, window: SemanticWindow | None = None) -> Piece:
        """`analyse` as a stream does it: a whole signal, [B, N, 1], to the latents that are quantized, [B, T, D]."""
        padded = whole_frames(rows, self.hearing.hop_length)
        features = windowed_features(self._windowed_parts(), padded, self._window(window))
        return Piece(self.join(self.encoder(padded), self.encoder_semantic(features)))

    # -- streams ---------------------------------------------------------------------------------------------------

    def _windowed_parts(self) -> WindowedParts:
        assert self.encoder_network is not None
        hearing = self.hearing
        return WindowedParts(
            self.encoder_network, self.semantic_network, self.features, self.join, hearing.hop_length, hearing.per_frame
        )

    def encoder_core(self, batch: int, start: Start, window: SemanticWindow | None = None) -> WindowedCore:
        check_start(start)
        core = WindowedCore(
            self._windowed_parts(), self._window(window), self.quantizer.codebooks.new_zeros(batch, 0, 1)
        )
        if start == "primed" and self.spec.encoder_prefill:
            core.prime(self.spec.encoder_prefill)
        return core

    # -- training --------------------------------------------------------------------------------------------------

    def forward(
        self, wav: Tensor, num_codebooks: int | None = None, quantize: Quantize | None = None
    ) -> SemanticOutput:
        """One training step's forward pass, differentiable but for the speech model.

        wav: [B, 1, N] float at the codec's rate, with no check; num_codebooks: all unless one is named; quantize: takes
        latents [B, T, D] and a number of codebooks to quantized latents with the gradients wanted, and codes [B, T, K],
        for codebooks that are being learnt. Without it the codebooks stay as they are and gradients pass straight
        through (van den Oord et al. 2017).
        """
        rows = wav.transpose(1, 2)
        padded = whole_frames(rows, self.hearing.hop_length)
        features = self.features(padded)
        latents = self.join(self.encoder(padded), self.encoder_semantic(features))
        count = self.spec.num_codebooks if num_codebooks is None else num_codebooks
        quantized, codes = (quantize or self._straight_through)(latents, count)
        audio = self.decoder(quantized)[:, : rows.shape[1]].transpose(1, 2)
        semantic = F.mse_loss(self.decoder_semantic(self.fc1(quantized)), features)
        commitment = F.mse_loss(latents, quantized.detach())
        return SemanticOutput(audio, codes.transpose(1, 2), latents, semantic, commitment)

    def _straight_through(self, latents: Tensor, num_codebooks: int) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            codes = self.quantizer.encode(latents, num_codebooks)
            moved = self.quantizer.decode(codes) - latents
        return latents + moved, codes

    def parameter_groups(self) -> dict[str, list[torch.nn.Parameter]]:
        """What there is to train, each parameter once: "acoustic" and "semantic" (with the projections)."""
        parts: dict[str, tuple[torch.nn.Module, ...]] = {
            "acoustic": (self.encoder, self.acoustic_decoder),
            "semantic": (self.encoder_semantic, self.decoder_semantic, self.fc, self.fc1, self.fc2),
        }
        return {name: [parameter for part in group for parameter in part.parameters()] for name, group in parts.items()}

    # -- weights ---------------------------------------------------------------------------------------------------

    def _semantic_layers(self) -> Iterator[tuple[str, Weighted]]:
        for name in ("encoder_semantic", "decoder_semantic"):
            yield from semantic_layers(name, getattr(self, name))

    @torch.no_grad()
    def take_branch(self, reader: TensorReader) -> None:
        """The speech model, the semantic encoder and decoder, the projections and the codebooks of a checkpoint."""
        self.speech.take(reader, "semantic_model")
        take_layers(reader, self._semantic_layers())
        for name in ("fc", "fc1", "fc2"):
            layer = getattr(self, name)
            weight = reader.take(f"{name}.weight", (layer.out_channels, layer.in_channels))
            bias = reader.take(f"{name}.bias", (layer.out_channels,))
            if weight is not None:
                layer.set_weight(weight[:, :, None], bias)
        entries = []
        for i, codebook in enumerate(self.quantizer.codebooks):
            prefix = f"quantizer.quantizers.{i}.codebook"
            embed = reader.take(f"{prefix}.embed", tuple(codebook.shape))
            entries.append(codebook if embed is None else embed)
            reader.drop(*(f"{prefix}.{name}" for name in ("embed_avg", "cluster_size", "inited")))
        self.quantizer.set_codebooks(torch.stack(entries))

    def give_branch(self) -> dict[str, Tensor]:
        """The inverse of `take_branch`, as transformers' XcodecModel names them."""
        tensors = self.speech.give("semantic_model") | give_layers(self._semantic_layers())
        for name in ("fc", "fc1", "fc2"):
            layer = getattr(self, name)
            tensors |= {f"{name}.weight": layer.torch_weight()[:, :, 0].contiguous(), f"{name}.bias": layer.bias}
        for i, embed in enumerate(self.quantizer.codebooks):
            prefix = f"quantizer.quantizers.{i}.codebook"
            # The last three are the state of training, which transformers expects to find beside the entries.
            tensors |= {f"{prefix}.embed": embed, f"{prefix}.embed_avg": embed}
            tensors |= {f"{prefix}.cluster_size": embed.new_ones(len(embed)), f"{prefix}.inited": embed.new_ones(1)}
        return tensors

    @abstractmethod
    def to_huggingface(self) -> tuple[dict[str, Any], dict[str, Tensor]]: ...
