"""A .scx file as audio, from any place on: what a decoder must have heard before that is found and heard first."""

from collections.abc import Iterator

import torch
from torch import Tensor

from ...codecs import Codec
from ...errors import AudioError
from ...stream import DecoderStream
from .reader import MOST_GAP, Follow, ScxPiece, ScxReader

__all__ = ["decode"]

CONCEALED = 1.0  # seconds that may be missing where the decoder goes on
SILENCE = 2**16  # samples of a gap that are given at a time


def decode(
    reader: ScxReader,
    codec: Codec,
    start: float = 0.0,
    end: float | None = None,
    *,
    follow: Follow | None = None,
    step_frames: int | None = None,
) -> Iterator[Tensor]:
    """The audio of a file between two times in seconds, [C, n] on the CPU, piece by piece.

    It is what decoding the file from its beginning gives there, up to rounding, where `codec.pre_roll.exact`; else it
    comes near by and by. Frames that are missing are concealed (`DecoderStream.conceal`); more than a second of them is
    silence, and the decoder begins anew behind it.
    follow: as in `ScxReader.pieces`. step_frames: pushed at a time (default: a block).
    Raises AudioError for codes of another codec.
    """
    rate = codec.spec.sample_rate
    first = round(start * rate)
    last = None if end is None else round(end * rate)
    yield from _Playing(codec, first, last, step_frames).run(reader, follow)


class _Playing:
    """first, last: samples of the file between which something is heard; place: of the next sample that comes out.

    at: where the section begins, before which nothing of it is heard.
    """

    def __init__(self, codec: Codec, first: int, last: int | None, step_frames: int | None) -> None:
        self.codec, self.first, self.last = codec, max(0, first), last
        self.step = step_frames
        self.pre_roll = codec.pre_roll.frames
        self.place, self.at = self.first, 0
        self.stream: DecoderStream | None = None
        self.piece: ScxPiece | None = None  # that came last

    def run(self, reader: ScxReader, follow: Follow | None) -> Iterator[Tensor]:
        for piece in reader.pieces(self._from(reader), follow):
            yield from self._take(piece)
            if self.last is not None and self.place >= self.last:
                return
        yield from self._finish()

    def _from(self, reader: ScxReader) -> int:
        """The place in the file from which on codes may be needed."""
        header = reader.header
        return max(0, self.first - header.samples(self.pre_roll + 1 + 2 * header.segment_frames))

    def _take(self, piece: ScxPiece) -> Iterator[Tensor]:
        last, self.piece, spec = self.piece, piece, self.codec.spec
        same = last is not None and last.header is piece.header
        if same and self.stream is not None and piece.header.samples(piece.missing) <= CONCEALED * spec.sample_rate:
            if piece.missing:
                yield from self._heard(self.stream.conceal(piece.missing))
        else:
            yield from self._finish()
        if self.stream is None:
            piece = self._late(piece)
            if not piece.data.shape[1]:
                return
            yield from self._open(piece)
        assert self.stream is not None
        step = self.step or max(1, piece.data.shape[1])
        for begin in range(piece.frame, piece.frame + piece.data.shape[1], step):
            yield from self._heard(self.stream.push(piece.part(begin, begin + step).codes()))
        if piece.last:
            yield from self._finish()

    def _late(self, piece: ScxPiece) -> ScxPiece:
        """Without frames that are earlier than need be, and those of a segment that has begun before."""
        header, segment = piece.header, piece.header.segment_frames or 1
        wanted = header.begin(max(0, self.first - piece.at) + header.pre_skip, self.pre_roll)
        frame = -(-max(wanted, piece.frame) // segment) * segment
        return piece.part(min(frame, piece.frame + piece.data.shape[1]))

    def _open(self, piece: ScxPiece) -> Iterator[Tensor]:
        spec, header, codebooks = self.codec.spec, piece.header, piece.data.shape[0]
        if codebooks > spec.num_codebooks:
            raise AudioError(f"codes of {codebooks} codebooks; {spec.name} has {spec.num_codebooks}")
        place = piece.at + header.samples(piece.frame) - header.pre_skip
        yield from self._silence(place)
        self.place, self.at = place, piece.at
        if piece.frame == 0 and header.codes.start == "exact":
            self.stream = self.codec.open_decoder(start="exact")
        else:  # the silence that it has heard has the codes of the nearest bandwidth
            nearest = min(spec.bandwidths, key=lambda bandwidth: abs(spec.codebooks(bandwidth) - codebooks))
            self.stream = self.codec.open_decoder(start="primed", bandwidth=nearest)

    def _finish(self) -> Iterator[Tensor]:
        if self.stream is not None:
            stream, self.stream = self.stream, None
            yield from self._heard(stream.flush())

    def _silence(self, until: int) -> Iterator[Tensor]:
        """In place of what is not in the file."""
        spec = self.codec.spec
        if until - self.place > MOST_GAP * spec.sample_rate:
            raise AudioError(f"more than an hour is missing from {self.place / spec.sample_rate:.1f} s on")
        self.at = min(self.at, self.place)
        while self.place < until:
            yield from self._heard(torch.zeros(1, spec.channels, min(SILENCE, until - self.place)))

    def _heard(self, audio: Tensor) -> Iterator[Tensor]:
        """Of what comes next what is between first and last, and in its section."""
        begin = max(0, self.first - self.place, self.at - self.place)
        end = audio.shape[2] if self.last is None else min(audio.shape[2], self.last - self.place)
        self.place += audio.shape[2]
        if begin < end:
            yield audio[0, :, begin:end].to("cpu", torch.float32)
