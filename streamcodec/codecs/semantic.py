"""The recipe of X-Codec (Ye et al. 2024, "Codec Does Matter", section 3): an acoustic codec that also hears meaning.

Beside the acoustic encoder a frozen speech model hears the signal; a semantic encoder takes its features to the same
frames; both latents are joined (`fc`) and quantized together. From the quantized latents `fc2` leads to the acoustic
decoder and `fc1` to a semantic decoder, which has to give the speech model's features back: that is the semantic
reconstruction loss. The parts are written once, for X-Codec and for any acoustic codec of this package.
"""

from abc import abstractmethod
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, SupportsFloat, SupportsIndex

import torch
import torch.nn.functional as F
from torch import Tensor

from ..codes import Codes
from ..errors import ConfigError
from ..nn.conv import Conv1d
from ..nn.layer import Layer, Sequential
from ..nn.piece import Piece
from ..nn.quantize import ResidualVectorQuantizer
from ..nn.transducer import Network
from ..pcm import AudioLike
from ..spec import SemanticWindow
from ..surroundings import undisturbed
from .base import Codec
from .dac import Weighted, give_layers, take_layers
from .framed import Framed
from .framing import Framing
from .hearing import Hearing, SpeechFeatures
from .hf_names import codebook_tensors, take_codebooks
from .semantic_layers import SemanticConfig, semantic_decoder, semantic_encoder, semantic_layers
from .semantic_model import SpeechModel
from .tensors import TensorReader
from .windowed import Windowed, joined, whole_frames

__all__ = ["SemanticBase", "SemanticOutput"]


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
        quantizer: Callable[[int], ResidualVectorQuantizer],
        window: SemanticWindow | None,
    ) -> None:
        """acoustic: encoder and decoder; quantizer: makes that of joined latents of so many channels."""
        self.speech, self.hearing = speech, hearing
        self.widths = Widths(acoustic_channels, semantic.channels(speech.channels)[-1])
        self.encoder, decoder = acoustic
        self.encoder_semantic = semantic_encoder(semantic, speech.channels)
        self.decoder_semantic = semantic_decoder(semantic, speech.channels)
        total = self.widths.total
        self.fc = Conv1d(total, total, 1)
        self.fc1 = Conv1d(total, speech.channels, 1)
        self.decoder = Sequential([Conv1d(total, acoustic_channels, 1), decoder])
        self.quantizer = quantizer(total)
        self.default_window = window or SemanticWindow()

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
        hearing, parts = self.hearing, self._windowed.parts
        for frames in (1, 2, 3, 50):
            samples = frames * hearing.hop_length
            rows = frames * hearing.per_frame if hearing.stretch else parts.features.rows(samples)
            found = parts.acoustic.output_length(samples), parts.semantic.output_length(rows)
            if found != (frames, frames):
                raise ConfigError(
                    f"of {samples} samples, {frames} frames, the acoustic encoder makes {found[0]} frames and the "
                    f"semantic encoder {found[1]}; the speech model's stride ({self.speech.stride} samples) times the "
                    f"semantic encoder's must be the acoustic hop length ({hearing.hop_length})"
                )

    def make_framing(self, channels: int, latent_channels: int, hop_length: int) -> Framing:
        self._windowed = Windowed(
            Framed(
                self.encoder, self.decoder, channels=channels, encoded=self.widths.acoustic, decoded=latent_channels,
                hop_length=hop_length, floors=self.floors,
            ),
            Network(
                self.encoder_semantic, self.speech.channels, self.widths.semantic, self.hearing.per_frame
            ),
            SpeechFeatures(self.speech, self.hearing), self.fc, self.default_window or SemanticWindow(),
        )  # fmt: skip
        self._check_rates()
        return self._windowed

    def windowed_delay(self, window: SemanticWindow | None = None) -> int:
        """Samples beyond a frame's own last one that a streaming encoder needs before its codes come, at most."""
        return self._windowed.delay(window)

    # -- offline ---------------------------------------------------------------------------------------------------

    def features(self, rows: Tensor) -> Tensor:
        """What the speech model makes of samples [B, N, 1] that are the whole recording, [B, F, C]; no gradient."""
        return SpeechFeatures(self.speech, self.hearing)(rows)

    def join(self, acoustic: Tensor, semantic: Tensor) -> Tensor:
        """Latents of both branches, [B, T, D1] and [B, T, D2], to those that are quantized, [B, T, D1 + D2]."""
        return joined(self.fc, acoustic, semantic)

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
        return Piece(self.join(self.encoder(padded), self.encoder_semantic(self._windowed.features(padded, window))))

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
        quantized, codes, _, _ = self.quantizer.straight_through(latents, num_codebooks)
        return quantized, codes

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
        self.take_quantizer(reader)

    def give_branch(self) -> dict[str, Tensor]:
        """The inverse of `take_branch`, as transformers' XcodecModel names them."""
        tensors = self.speech.give("semantic_model") | give_layers(self._semantic_layers())
        for name in ("fc", "fc1", "fc2"):
            layer = getattr(self, name)
            tensors |= {f"{name}.weight": layer.torch_weight()[:, :, 0].contiguous(), f"{name}.bias": layer.bias}
        return tensors | self.give_quantizer()

    def take_quantizer(self, reader: TensorReader) -> None:
        """The codebooks of a checkpoint, and what there is between them."""
        take_codebooks(reader, self.quantizer, "quantizer.quantizers")

    def give_quantizer(self) -> dict[str, Tensor]:
        """The inverse of `take_quantizer`."""
        return codebook_tensors(self.quantizer, "quantizer.quantizers")

    @abstractmethod
    def to_huggingface(self) -> tuple[dict[str, Any], dict[str, Tensor]]: ...
