"""Parts of .scx files, and several of them one after the other, as new files. No code is changed."""

import dataclasses
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from ...entropy import EntropyModel
from ...errors import AudioError, InputError
from ...files import NewFile
from ...sources import Source
from ..safetensors_file import CodesBlock
from .header import MOST, ScxHeader
from .reader import ScxPiece, ScxReader
from .writer import ScxWriter

__all__ = ["cut", "join"]


def cut(
    reader: ScxReader,
    output: Source | NewFile,
    start: float = 0.0,
    end: float | None = None,
    *,
    pre_roll: int | None = None,
) -> ScxWriter:
    """What is between two times in seconds, to the sample, as a file of its own. Returns its writer, closed.

    The frames that a decoder must have heard before are put in front, and the header says that nobody hears them
    (`pre_skip`). pre_roll: how many; default: what the header says.
    Raises InputError where there is nothing between the times, or where no pre_roll is known.
    """
    rate = reader.header.codes.sample_rate
    first, last = round(start * rate), None if end is None else round(end * rate)
    known = reader.header.pre_roll if pre_roll is None else pre_roll
    if known is None:
        raise InputError(f"{reader.path} does not say how much a decoder must hear before; give the codec, which knows")
    parts = _parts(reader, first, last, known)
    begun = next(parts, None)
    if begun is None:
        raise InputError(
            f"{reader.path} has nothing between {start:g} s and {'its end' if end is None else f'{end:g} s'}"
        )
    return _written(begun, parts, output, reader.model)


def join(readers: Sequence[ScxReader], output: Source | NewFile) -> ScxWriter:
    """The files one after the other, each section as it is, with an index. Returns the writer, closed.

    Of one file this is a repair: what is damaged or was torn is left out. Raises AudioError for files of several
    codecs, and where none has codes.
    """
    parts = (part for reader in readers for part in _parts(reader, 0, None, None))
    begun = next(parts, None)
    if begun is None:
        raise AudioError("there are no codes in " + ", ".join(str(reader.path) for reader in readers))
    return _written(begun, parts, output, readers[0].model)


class _Part(NamedTuple):
    """header: of the section that the piece goes to; the same object while it goes on. samples: that it stands for."""

    header: ScxHeader
    piece: ScxPiece
    samples: int


class _Cut:
    """What is kept of a section, its frames counted from where it begins now.

    piece: the first that was read of it; first, last: samples of the file. pre_roll: None keeps all that is before.
    """

    def __init__(self, piece: ScxPiece, first: int, last: int | None, pre_roll: int | None) -> None:
        self.whole = header = piece.header
        sample = max(0, first - piece.at) + header.pre_skip  # the first that is heard
        self.begin = 0 if pre_roll is None else header.begin(sample, pre_roll)
        self.stop = MOST if last is None else max(0, last - piece.at) + header.pre_skip
        codes = header.codes if self.begin == 0 else dataclasses.replace(header.codes, start="primed")
        self.header = dataclasses.replace(
            header, codes=codes, pre_skip=sample - header.samples(self.begin),
            created=_later(header, sample - header.pre_skip),
        )  # fmt: skip

    def part(self, piece: ScxPiece) -> _Part | None:
        """What is kept of a piece, if anything is."""
        end = piece.frame + piece.data.shape[1]
        first, last = max(self.begin, piece.frame), min(end, self._last())
        if first >= last:
            return None
        until = MOST if piece.length is None else piece.length
        before, after = (min(self.stop, until, self.whole.samples(frame)) for frame in (first, last))
        if piece.length is not None and last == end:
            after = min(self.stop, piece.length)
        kept = piece.part(first, last)
        return _Part(self.header, kept._replace(frame=first - self.begin), after - before)

    def _last(self) -> int:
        """The frame behind the last one: a decoder needs a few more than are heard."""
        header = self.whole
        frame = header.frame(max(0, self.stop + header.decoder_delay - 1)) + (header.segment_frames or 1)
        return frame if self.stop else 0

    def over(self, piece: ScxPiece) -> bool:
        """Whether nothing of this section or a later one is kept from the piece on."""
        return piece.frame >= self._last()


def _written(begun: _Part, parts: Iterator[_Part], output: Source | NewFile, entropy: EntropyModel | None) -> ScxWriter:
    with ScxWriter(output, begun.header, entropy=entropy) as writer:
        _write(writer, begun)
        section = begun.header
        for part in parts:
            if part.header is not section:
                section = part.header
                writer.section(section)
            else:
                writer.missing(part.piece.missing)
            _write(writer, part)
    return writer


def _write(writer: ScxWriter, part: _Part) -> None:
    scale = None if part.piece.scale is None else part.piece.scale[None]
    writer.write(CodesBlock(part.piece.data[None], scale, part.samples))


def _parts(reader: ScxReader, first: int, last: int | None, pre_roll: int | None) -> Iterator[_Part]:
    """What is kept, section by section."""
    header = reader.header
    back = 0 if pre_roll is None else header.samples(pre_roll + 1 + 2 * header.segment_frames)
    cut: _Cut | None = None
    for piece in reader.pieces(max(0, first - back)):
        if cut is None or cut.whole is not piece.header:
            cut = _Cut(piece, first, last, pre_roll)
        if cut.over(piece):
            return
        part = cut.part(piece)
        if part is not None:
            yield part


def _later(header: ScxHeader, samples: int) -> str:
    """When what comes `samples` later in a section was made."""
    try:
        time = datetime.fromisoformat(header.created) + timedelta(seconds=samples / header.codes.sample_rate)
    except (ValueError, OverflowError):
        return header.created
    return time.isoformat(timespec="milliseconds")
