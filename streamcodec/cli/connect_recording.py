"""Codes that ``streamcodec connect`` records as they come, and sends from files of either kind. Needs no torch."""

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..codesfile import CodesBlock, CodesHeader, CodesReader, kind_of
from ..codesfile.scx import ScxHeader, ScxReader, ScxWriter
from ..errors import InputError
from ..files import GrowingFile
from ..protocol import Missing

if TYPE_CHECKING:
    from ..client import CodesPacket, Session

__all__ = ["Recording", "codes_reader"]


class Recording:
    """One stream of codes to a file; each stretch of it is a section. In a `with` statement closed where that ends."""

    def __init__(self, output: GrowingFile, session: "Session") -> None:
        self._header = _header_of(session)
        self._writer = ScxWriter(output, self._header)
        self._frames = 0  # of the stretch so far
        self._ended = False

    def __enter__(self) -> "Recording":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._writer.close()
        else:
            self._writer.abort()

    def take(self, event: "CodesPacket | Missing") -> None:
        """Frames that came, or that will not come."""
        if self._ended:
            self._writer.section(_anew(self._header))
            self._frames, self._ended = 0, False
        if isinstance(event, Missing):
            self._writer.missing(event.count)
            self._frames += event.count
        else:
            self._codes(event)

    def _codes(self, packet: "CodesPacket") -> None:
        header, count = self._header, packet.codes.shape[1]
        before = header.samples(self._frames)
        length = header.samples(self._frames + count) - before
        if packet.last and packet.length is not None:
            length = max(0, packet.length - before)
        if count:
            scale = None if packet.scale is None else packet.scale[None]
            self._writer.write(CodesBlock(packet.codes[None], scale, length))
        self._frames += count
        self._ended = packet.last


class _Recorded:
    """A .scx file as a `CodesReader` is used here: what it holds is one stream, whole."""

    def __init__(self, path: str) -> None:
        self._reader = ScxReader(path)
        header = self._reader.header
        sections, missing, length = set(), 0, 0
        for piece in self._reader.pieces():
            sections.add(piece.at)
            missing, length = missing + piece.missing, length + piece.samples
        if len(sections) != 1 or missing or header.pre_skip or self._reader.damaged:
            self._reader.close()
            raise InputError(
                f"{path} is not one whole stream of codes (it has several sections, frames that are missing, or none); "
                "`streamcodec decode` makes audio of it, which can be sent"
            )
        self.header = dataclasses.replace(header.codes, length=length)

    def __enter__(self) -> "_Recorded":
        return self

    def __exit__(self, *_: object) -> None:
        self._reader.close()

    def arrays(self, frames: int) -> Iterator[CodesBlock]:
        """All codes, `frames` at a time or fewer."""
        for piece in self._reader.pieces():
            for begin in range(piece.frame, piece.frame + piece.data.shape[1], frames):
                part = piece.part(begin, begin + frames)
                yield CodesBlock(part.data[None], None if part.scale is None else part.scale[None], part.samples)


def codes_reader(path: str) -> "CodesReader | _Recorded":
    """A file of codes to be sent. Raises AudioError, and InputError for a .scx file that is not one whole stream."""
    return _Recorded(path) if kind_of(path) == "scx" else CodesReader(path)


def _anew(header: ScxHeader) -> ScxHeader:
    """The header of a section that begins now."""
    return ScxHeader(
        header.codes, metadata=header.metadata, pre_roll=header.pre_roll, decoder_delay=header.decoder_delay,
        segment_frames=header.segment_frames, segment_stride=header.segment_stride,
    )  # fmt: skip


def _header_of(session: "Session") -> ScxHeader:
    codec, welcome = session.codec, session.welcome
    codes = CodesHeader(
        codec=codec.name, source="", fingerprint=codec.fingerprint, bandwidth=welcome.bandwidth,
        sample_rate=codec.sample_rate, channels=codec.channels, hop_length=codec.hop_length,
        codebook_size=codec.codebook_size, start=welcome.start,
    )  # fmt: skip
    return ScxHeader(
        codes, pre_roll=codec.pre_roll, decoder_delay=codec.decoder_delay,
        segment_frames=codec.segment_frames or 0, segment_stride=codec.segment_stride or 0,
    )  # fmt: skip
