"""Streams of latents: audio to what a quantizer would take, and latents to audio, for models that work on these.

They are as the streams of codes are, without a quantizer, and with no length: a frame of latents does not say how much
of it is audio.
"""

from typing import Any, SupportsIndex

from torch import Tensor

from .counts import whole_numbers
from .errors import ShapeError
from .nn.piece import Piece
from .pcm import AudioLike
from .spec import SemanticWindow
from .stream import Encoding, Stream, channels_first, read, refuse_changes
from .streamed import Start, Streamed
from .surroundings import unrecorded

__all__ = ["LatentDecoderStream", "LatentEncoderStream"]


class Fed:
    """How much was fed so far: samples, or frames."""

    def __init__(self) -> None:
        self.rows = 0

    def save(self) -> dict[str, int]:
        return {"rows": self.rows}

    def load(self, saved: Any) -> None:
        self.rows = whole_numbers(saved, {"rows"})["rows"]


class LatentEncoderStream(Encoding):
    """Audio in, latents out: what `push` and `flush` return, one after the other, equals `Codec.encode_latents`.

    Open one with `Codec.open_latent_encoder`. Frames come when an `EncoderStream` would give their codes. For a codec
    with a speech model it equals the latents of `encode_windowed`. No gradient passes.
    """

    kind = "encoder of latents"
    _count: Fed

    def __init__(
        self,
        codec: Streamed,
        *,
        batch: SupportsIndex | None = None,
        start: Start | None = None,
        state: bytes | None = None,
        window: SemanticWindow | None = None,
    ):
        super().__init__()
        meta, tensors = (None, {}) if state is None else read(state, self.kind, codec)
        self._begin(codec, batch, start, window, meta)
        self._count = Fed()
        if meta is not None:
            self._restore(meta, tensors)

    @unrecorded
    def push(self, pcm: AudioLike) -> Tensor:
        """More audio, as for `EncoderStream.push`; returns the latents now final, [B, D, T].

        Raises StreamClosedError, ShapeError, DtypeError, NonFiniteError.
        """
        rows = self._rows(pcm)
        piece = self._core.push(Piece(rows))
        self._count.rows += rows.shape[1]
        return channels_first(piece.rows)

    @unrecorded
    def flush(self) -> Tensor:
        """The end of the audio: returns the latents that are left, and closes the stream. Raises StreamClosedError."""
        return channels_first(self._flushed(self._count.rows).rows)


class LatentDecoderStream(Stream):
    """Latents in, audio out: what `push` and `flush` return, one after the other, equals `Codec.decode_latents`.

    Open one with `Codec.open_latent_decoder`. Audio comes when a `DecoderStream` would give it, for as long as the
    frames last: who knows how many samples a recording has cuts the end. No gradient passes.
    """

    kind = "decoder of latents"
    _count: Fed

    def __init__(
        self,
        codec: Streamed,
        *,
        batch: SupportsIndex | None = None,
        start: Start | None = None,
        state: bytes | None = None,
    ):
        super().__init__()
        meta, tensors = (None, {}) if state is None else read(state, self.kind, codec)
        if meta is not None:
            refuse_changes(meta, batch, start)
            batch, start = meta["batch"], meta["start"]
        self._open(codec, batch, start)
        self._count = Fed()
        self._core = codec.decoder_core(self.batch, self.start)
        if meta is not None:
            self._restore(meta, tensors)

    @unrecorded
    def push(self, latents: Tensor) -> Tensor:
        """More latents, [B, D, T], any T >= 0, of a floating-point type; returns the audio now final, [B, C, n].

        Raises StreamClosedError, ShapeError, DtypeError, NonFiniteError.
        """
        self._check_open("push")
        rows = self.codec.latent_rows(latents)
        if rows.shape[0] != self.batch:
            raise ShapeError(f"latents have batch {rows.shape[0]}, this stream was opened with batch={self.batch}")
        piece = self._core.push(Piece(rows))
        self._count.rows += rows.shape[1]
        return channels_first(piece.rows)

    @unrecorded
    def flush(self) -> Tensor:
        """The end of the latents: returns the audio that is left, and closes the stream. Raises StreamClosedError."""
        self._check_open("flush")
        self._closed = True
        return channels_first(self._core.flush().rows)
