"""Codecs that work on whole segments, as a `Framing`."""

import copy
from collections.abc import Sequence

from torch import Tensor

from ..codes import Codes
from ..errors import InputError, NotStreamableError
from ..nn.conv import Conv1d, ConvTranspose1d
from ..nn.layer import Layer
from ..nn.piece import Core, Piece
from ..nn.transducer import Network
from ..spec import SemanticWindow
from ..stream import Start
from .framing import AnalyseEach, Primed, Rowwise, SynthesiseEach
from .segment_batches import decode_in_pieces, encode_together
from .segments import SegmentDecoder, SegmentEncoder, Segments

__all__ = ["Segmented"]


def _without_norms(layer: Layer) -> Layer:
    """A copy that can be written down as a program: what normalises over a segment cannot."""
    layer = copy.deepcopy(layer)
    for module in layer.modules():
        if isinstance(module, (Conv1d, ConvTranspose1d)):
            module.norm = None
    return layer


class Segmented:
    """In segments; see `Framing`. channels, latent_channels: of audio and latents."""

    appends = False
    prefills = (0, 0)
    networks = ()

    def __init__(self, segments: Segments, encoder: Layer, decoder: Layer, channels: int, latent_channels: int) -> None:
        self.segments, self.encoder, self.decoder = segments, encoder, decoder
        self.channels, self.latent_channels = channels, latent_channels
        self.scaled = segments.normalize
        self.delays = (0, 0)
        if segments.length is not None and segments.stride is not None:
            # A segment's first frame waits for its last sample; the decoder holds back what the next one overlaps.
            self.delays = (segments.length - segments.hop_length, segments.length - segments.stride)

    def stream_bytes(self, itemsize: int) -> tuple[int, int]:
        length, stride, frames = self.segments.length, self.segments.stride, self.segments.frames
        if length is None or stride is None or frames is None:
            return 0, 0
        # At most: a segment's samples; its latents with their scale, and the overlap with its weights.
        overlap = frames * self.segments.hop_length - stride
        values = (length * self.channels, frames * (self.latent_channels + 1) + overlap * (self.channels + 1))
        return values[0] * itemsize, values[1] * itemsize

    def multiply_adds(self) -> tuple[int, int]:
        """Those of frames that two segments have in common count twice."""
        length, stride = self.segments.length or 1, self.segments.stride or 1
        hop = self.segments.hop_length
        encoder = Network(_without_norms(self.encoder), self.channels, self.latent_channels, hop).program
        decoder = Network(_without_norms(self.decoder), self.latent_channels, self.channels, 1).program
        return encoder.multiply_adds * length // stride, decoder.multiply_adds * length // stride

    def analyse(self, rows: Tensor) -> Piece:
        return self.segments.encode(rows, self.encoder)

    def synthesise(self, latents: Tensor, scale: Tensor | None, length: int) -> Tensor:
        return self.segments.decode(latents, scale, length, self.decoder)

    @property
    def analyse_each(self) -> AnalyseEach | None:
        return None if self.segments.length is None else self._analyse_each

    def _analyse_each(
        self, signals: Sequence[Tensor], lengths: Sequence[int], frames: int, quantize: Rowwise
    ) -> list[Piece]:
        return encode_together(self.segments, self.encoder, signals, self._at_once(frames), quantize)

    @property
    def synthesise_each(self) -> SynthesiseEach | None:
        return None if self.segments.length is None else self._synthesise_each

    def _synthesise_each(
        self, codes: Sequence[Codes], lengths: Sequence[int], frames: int, dequantize: Rowwise
    ) -> list[Tensor]:
        at_once = self._at_once(frames)
        return [
            decode_in_pieces(self.segments, self.decoder, each, length, at_once, dequantize)
            for each, length in zip(codes, lengths, strict=True)
        ]

    def _at_once(self, frames: int) -> int:
        """Segments that so many frames fill."""
        return max(1, frames // (self.segments.frames or 1))

    def missing(self, samples: int) -> int:
        return 0

    def covered(self, samples: int, frames: int) -> int:
        return samples

    def ends_short(self, length: int, frames: int) -> bool:
        return sum(self.segments.cut(length)) == frames

    def check_streamable(self, name: str) -> None:
        if self.segments.length is None:
            raise NotStreamableError(
                f"{name} normalises over the whole signal (its configuration has no chunk_length_s), so nothing can "
                "come out before the end; use encode() and decode(), or set chunk_length_s and overlap"
            )

    def check_latents_suffice(self, name: str, call: str) -> None:
        raise InputError(
            f"{call}: {name} codes each segment by itself, at a level of its own, so its latents alone do not say what "
            "the signal is; use encode() and decode()"
        )

    def encoder_core(
        self, batch: int, start: Start, window: SemanticWindow | None, like: Tensor, primed: Primed
    ) -> Core:
        return SegmentEncoder(self.segments, self.encoder, like.new_zeros(batch, 0, self.channels))

    def decoder_core(self, batch: int, start: Start, like: Tensor, primed: Primed) -> Core:
        return SegmentDecoder(self.segments, self.decoder, like.new_zeros(batch, 0, self.latent_channels))
