"""Codes that ``streamcodec connect`` records as they come, and sends from files of either kind. Needs no torch."""

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ..codesfile import CodesBlock, CodesHeader, CodesReader, kind_of
from ..codesfile.scx import ScxHeader, ScxReader, ScxWriter
from ..errors import InputError
from ..files import Existing, GrowingFile
from ..protocol import Missing
from .telling import tell

if TYPE_CHECKING:
    from ..client import CodesPacket, Event, Session

__all__ = ["Recording", "RoomRecording", "codes_header", "codes_reader"]

MOST_FILES = 1000  # of a room: people may come and go, and each has one
MOST_LETTERS = 40  # of a member's name in a file's


class Recording:
    """One stream of codes to a file; each stretch of it is a section. In a `with` statement closed where that ends."""

    def __init__(self, output: GrowingFile, session: "Session", metadata: dict[str, str] | None = None) -> None:
        self._header = _header_of(session, metadata or {})
        self._writer = ScxWriter(output, self._header)
        self._ended = False

    def __enter__(self) -> "Recording":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._writer.close()
        else:
            self._writer.abort()

    def take(self, event: "Event") -> None:
        """What the session gave: frames that came, or that will not come; all else is left alone."""
        from ..client import CodesPacket

        if not isinstance(event, (CodesPacket, Missing)):
            return
        if self._ended:
            self._writer.section(_anew(self._header))
            self._ended = False
        if isinstance(event, Missing):
            self._writer.missing(event.count)
        else:
            self._codes(event)

    def _codes(self, packet: "CodesPacket") -> None:
        header, count = self._header, packet.codes.shape[1]
        before = header.samples(packet.index)
        length = header.samples(packet.index + count) - before
        if packet.last and packet.length is not None:
            length = max(0, packet.length - before)
        if count:
            scale = None if packet.scale is None else packet.scale[None]
            self._writer.write(CodesBlock(packet.codes[None], scale, length))
        self._ended = packet.last


class RoomRecording:
    """Each speaker of a room to a file of its own in a folder. In a `with` statement closed where that ends.

    The files have the speaker's number in the room and its name, in letters that are safe in any file system, and begin
    with the first of its codes that came. A name that is taken is left alone. replace: or written over.
    """

    def __init__(self, folder: Path, session: "Session", replace: bool) -> None:
        room = session.welcome.room
        assert room is not None, "only rooms are recorded so"
        self._folder, self._session, self._room = folder, session, room.name
        self._existing: Existing = "replace" if replace else "number"
        self._speakers = {member.stream: member for member in room.members}
        self._open: dict[int, Recording] = {}
        self.files = 0  # that were begun

    def __enter__(self) -> "RoomRecording":
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: object) -> None:
        for recording in self._open.values():
            recording.__exit__(kind, value, trace)

    def take(self, event: "Event") -> None:
        """What the session gave."""
        from ..client import CodesPacket, Joined, Left

        if isinstance(event, Joined):
            self._speakers[event.member.stream] = event.member
        elif isinstance(event, Left):
            self._left(event.id)
        elif isinstance(event, Missing) and event.stream in self._open:
            self._open[event.stream].take(event)  # before the first packet nothing is missing
        elif isinstance(event, CodesPacket):
            recording = self._open.get(event.stream) or self._begun(event.stream)
            if recording is not None:
                recording.take(event)

    def _begun(self, stream: int) -> Recording | None:
        """A speaker's file; None where there are too many."""
        if self.files == MOST_FILES:
            tell(f"{MOST_FILES} speakers are recorded, and those who come now are not")
        self.files += 1
        if self.files > MOST_FILES:
            return None
        member = self._speakers[stream]
        name = re.sub(r"[^A-Za-z0-9_-]+", "_", member.member).strip("_")[:MOST_LETTERS]
        path = self._folder / f"{member.id:03}{'-' if name else ''}{name}.scx"
        metadata = {"room": self._room, "member": member.member}
        self._open[stream] = Recording(GrowingFile(path, self._existing), self._session, metadata)
        return self._open[stream]

    def _left(self, member: int) -> None:
        """The number of its stream may be given to somebody else."""
        stream = next((stream for stream, one in self._speakers.items() if one.id == member), None)
        self._speakers.pop(stream, None)
        if stream in self._open:
            self._open.pop(stream).__exit__(None, None, None)


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


def codes_header(session: "Session") -> CodesHeader:
    """What a file of the codes that a session brings says of them."""
    codec, welcome = session.codec, session.welcome
    return CodesHeader(
        codec=codec.name, source="", fingerprint=codec.fingerprint, bandwidth=welcome.bandwidth,
        sample_rate=codec.sample_rate, channels=codec.channels, hop_length=codec.hop_length,
        codebook_size=codec.codebook_size, start=welcome.start,
    )  # fmt: skip


def _header_of(session: "Session", metadata: dict[str, str]) -> ScxHeader:
    codec = session.codec
    return ScxHeader(
        codes_header(session), metadata=metadata, pre_roll=codec.pre_roll, decoder_delay=codec.decoder_delay,
        segment_frames=codec.segment_frames or 0, segment_stride=codec.segment_stride or 0,
    )  # fmt: skip
