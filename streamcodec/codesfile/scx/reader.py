"""A .scx file, from any place on, also while it grows."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...entropy import EntropyModel, FrameDecoder, Predictor
from ...errors import AudioError, CodesError, ShapeError
from ...install import needs_torch
from ...packet import (
    CODED,
    EARLIER,
    HEADER_BYTES,
    LENGTH,
    CodedMessage,
    CodesMessage,
    Header,
    Packet,
    PacketError,
    read_header,
    unpack,
)
from ...packet import CODES as CODES_PACKET
from ...sources import FileReader, Source, SourceFile
from ..coded import BLOCK, model_of_file
from ..safetensors_file import check_model
from .blocks import CODES, ENTROPY, HEADER, INDEX, PLAIN, Block, Damage, read_blocks
from .header import ScxHeader
from .index import read_index

if TYPE_CHECKING:
    from ...codes import Codes

__all__ = ["Follow", "ScxPiece", "ScxReader"]

NEAR = 2**14  # bytes: so near before a place the blocks are read one by one
FIRST = 2**17  # bytes in which the first header must lie
MOST_GAP = (
    3600  # seconds that may be missing before a block: silence stands for them, which a few bytes must not grow to
)


@dataclass(frozen=True)
class Follow:
    """How a file that grows is read to its end: every `poll` seconds what is new, until nothing came for `idle`."""

    poll: float = 0.2
    idle: float = 10.0


class ScxPiece(NamedTuple):
    """The codes of a block.

    header: of its section. frame: the first, counted in its section. data: [K, T], int64; T may be 0 in a last one.
    scale: [T] float32, or None. missing: frames before the first that are not in the file. length: samples of the whole
    section where the piece is its last one, else None.
    """

    header: ScxHeader
    frame: int
    data: NDArray[np.int64]
    scale: NDArray[np.float32] | None
    missing: int
    length: int | None
    at: int
    """Samples of the file before the section."""

    @property
    def last(self) -> bool:
        """Whether the section ends with it."""
        return self.length is not None

    @property
    def samples(self) -> int:
        """That its frames stand for, those that nobody hears too."""
        return max(0, self._until(self.frame + self.data.shape[1]) - self._until(self.frame))

    def _until(self, frame: int) -> int:
        """Samples of the section before a frame that is in the piece, or just behind it."""
        samples = self.header.samples(frame)
        if self.length is None:
            return samples
        behind = frame == self.frame + self.data.shape[1] and frame > self.frame
        return self.length if behind else min(samples, self.length)

    def codes(self) -> "Codes":
        """As a decoder takes them: [1, K, T], with scale and length. Needs torch."""
        with needs_torch():
            import torch

            from ...codes import Codes
        scale = None if self.scale is None else torch.from_numpy(self.scale.copy())[None]
        return Codes(torch.from_numpy(self.data)[None], scale, self.samples)

    def part(self, first: int, end: int | None = None) -> "ScxPiece":
        """The frames of the section from `first` on, up to `end`; without what was missing before them."""
        begin = max(0, first - self.frame)
        stop = self.data.shape[1] if end is None else max(begin, end - self.frame)
        scale = None if self.scale is None else self.scale[begin:stop]
        length = self.length if stop >= self.data.shape[1] else None
        missing = 0 if begin else self.missing
        return self._replace(
            frame=self.frame + begin, data=self.data[:, begin:stop], scale=scale, missing=missing, length=length
        )


class ScxReader(FileReader):
    """A .scx file.

    with ScxReader("talk.scx") as reader:
        for piece in reader.pieces(): ...

    source: a path; or a file object opened to read bytes, such as `RemoteFile`, which is left open. header: of the
    file's first section; the others are of the same codec. entries: of the index at its end, if there is one.
    damaged: bytes that belong to no whole block, of what was read so far. entropy: the model of codes that are entropy
    coded; without it the one that lies beside the codec that the file names.
    Raises AudioError for a file that is missing, of another format, or without a whole header.
    """

    header: ScxHeader
    damaged: int
    _predictor: Predictor | None

    def __init__(self, source: Source | SourceFile, entropy: EntropyModel | None = None) -> None:
        self._entropy, self._predictor = entropy, None
        self._source = SourceFile.of(source)
        self._file: BinaryIO = self._source.file
        self.path = Path(self._source.name)
        self.damaged = 0
        try:
            self._first = self._first_header()
            self.header = self._parse(self._first)
            size = self._size()
            self.entries, closing = read_index(self._file, size)
            self._closing = closing if closing is not None and closing.place >= self._first.place else None
        except OSError as error:
            self._source.close()
            raise AudioError(f"{self.path} cannot be read: {error}") from error
        except BaseException:
            self._source.close()
            raise

    def _size(self) -> int:
        return self._file.seek(0, 2)

    def _first_header(self) -> Block:
        for block in read_blocks(self._file, 0, FIRST):
            if isinstance(block, Block) and block.kind == HEADER:
                return block
        raise AudioError(f"{self.path} is not a .scx file, or its header is damaged or not written yet")

    def _parse(self, block: Block) -> ScxHeader:
        try:
            return ScxHeader.parse(block.body)
        except ValueError as error:
            raise AudioError(f"{self.path} {error}") from error

    # -- places ------------------------------------------------------------------------------------------------------

    @property
    def closed(self) -> bool:
        """Whether the file was ended by its writer, as far as was known when it was opened."""
        return self._closing is not None

    def end(self) -> tuple[int, int]:
        """Samples of the file, and the offset of the end of its last whole block; it may grow meanwhile."""
        if self._closing is not None:
            return self._closing.place, self._closing.end
        place, offset = self._first.place, self._first.end
        for block in read_blocks(self._file, self._find(2**63)):
            if isinstance(block, Damage):
                continue
            offset = block.end
            place = max(place, block.place)
            header = self._header_of(block) if block.kind == CODES else None
            if header is not None:
                place = max(place, block.place + self._heard(block, header))
        return place, offset

    def _heard(self, block: Block, header: ScxHeader) -> int:
        """Samples of the file that a block of codes stands for; the codes are not looked at."""
        try:
            packet = self._checked(read_header(block.body), header, block.coding)
        except PacketError as error:
            raise AudioError(f"{self.path}: the block at byte {block.offset} cannot be read: {error}") from error
        begin, end = header.samples(packet.index), header.samples(packet.index + packet.count)
        if packet.flags & LENGTH:
            end = int.from_bytes(block.body[HEADER_BYTES : HEADER_BYTES + 8], "little")
        return max(0, max(0, end - header.pre_skip) - max(0, begin - header.pre_skip))

    @property
    def seconds(self) -> float:
        """The length of the file's audio so far."""
        return self.end()[0] / self.header.codes.sample_rate

    def _find(self, place: int) -> int:
        """The offset of a block of codes that begins before `place` (or of the file's first block), and close to it."""
        low, high = 0, self._size() if self._closing is None else self._closing.offset
        for entry in self.entries:
            if entry.place < place:
                low = max(low, entry.offset)
            elif entry.offset > low:
                high = min(high, entry.offset)
                break
        while high - low > NEAR:
            middle = (low + high) // 2
            block = next((b for b in read_blocks(self._file, middle, high) if isinstance(b, Block)), None)
            if block is None or block.place >= place:
                high = middle
            else:
                low = block.offset
        return low

    def _header_of(self, block: Block) -> ScxHeader | None:
        """Of the block's section; None where it is damaged. Raises AudioError for one of another codec."""
        offset = block.offset - block.back
        if offset == self._first.offset:
            return self.header
        found = next(read_blocks(self._file, offset, offset + 1), None) if offset >= 0 else None
        if not isinstance(found, Block) or found.kind != HEADER:
            return None
        return self._same(self._parse(found))

    # -- codes -------------------------------------------------------------------------------------------------------

    def pieces(self, place: int = 0, follow: Follow | None = None) -> Iterator[ScxPiece]:
        """The codes from the block with sample `place` of the file on, or from one a little before it.

        follow: go on while the file grows; it ends where its writer closes it, or writes nothing any more.
        Raises AudioError for codes of another codec, for a block whose coding this streamcodec does not know, and where
        the file became shorter. What is damaged is left out, and `missing` of the next piece counts it.
        """
        section: _Section | None = None
        for block in self._blocks(self._find(place), follow):
            if isinstance(block, Damage):
                self.damaged += block.end - block.offset
            elif block.kind == HEADER:
                section = _Section(self._same(self._parse(block)), block.offset, 0)
            elif block.kind == CODES:
                if section is None or section.offset != block.offset - block.back:
                    header = self._header_of(block)
                    section = None if header is None else _Section(header, block.offset - block.back, None)
                if section is None:
                    self.damaged += block.end - block.offset
                    continue
                piece = self._piece(block, section.header, section.expected)
                section.expected = piece.frame + piece.data.shape[1]
                yield piece

    def _same(self, header: ScxHeader) -> ScxHeader:
        if not self.header.goes_with(header):
            raise AudioError(
                f"{self.path} goes on with codes of {header.codes.codec}, after those of {self.header.codes.codec}, "
                "or of other weights: a file holds the codes of one codec"
            )
        return header

    def _blocks(self, offset: int, follow: Follow | None) -> Iterator[Block | Damage]:
        waited = 0.0
        while True:
            closed = False
            for block in read_blocks(self._file, offset):
                offset, waited = block.end, 0.0
                closed = isinstance(block, Block) and block.kind == INDEX
                yield block
            if follow is None or closed or waited >= follow.idle:
                return
            if self._size() < offset:
                raise AudioError(f"{self.path} became shorter while it was read")
            time.sleep(follow.poll)
            waited += follow.poll

    def _piece(self, block: Block, header: ScxHeader, expected: int | None) -> ScxPiece:
        if block.coding not in (PLAIN, ENTROPY):
            raise AudioError(
                f"{self.path}: its codes are in coding {block.coding}, and this streamcodec reads {PLAIN} and "
                f"{ENTROPY}; a later version may read it"
            )
        message = self._unpacked(block, header)
        frame = message.index
        missing = 0 if expected is None else frame - expected
        if missing < 0:
            raise AudioError(f"{self.path}: the block at byte {block.offset} goes back in time; the file is damaged")
        if header.samples(missing) > MOST_GAP * header.codes.sample_rate:
            raise AudioError(f"{self.path}: more than an hour is missing before the block at byte {block.offset}")
        length = None
        if message.last:
            length = header.samples(frame + message.codes.shape[1]) if message.length is None else message.length
        at = block.place - max(0, header.samples(frame) - header.pre_skip)
        data = message.codes.astype(np.int64)
        return ScxPiece(header, frame, data, message.scale, missing, length, at)

    def _unpacked(self, block: Block, header: ScxHeader) -> CodesMessage:
        try:
            packet = unpack(block.body, self._checked(read_header(block.body), header, block.coding))
            message = self._decoded(packet, header)
        except (PacketError, CodesError, ShapeError) as error:
            raise AudioError(f"{self.path}: the block at byte {block.offset} cannot be read: {error}") from error
        size = header.codes.codebook_size
        if message.codes.size and int(message.codes.max()) >= size:
            raise AudioError(f"{self.path} holds a code outside 0..{size - 1} in the block at byte {block.offset}")
        if message.scale is not None and not (np.isfinite(message.scale).all() and (message.scale > 0).all()):
            raise AudioError(f"{self.path} holds a scale that is not a positive number at byte {block.offset}")
        return message

    def _decoded(self, packet: Packet, header: ScxHeader) -> CodesMessage:
        """The packet with its codes as they are. Raises CodesError, ShapeError, and AudioError without the model."""
        if isinstance(packet, CodesMessage):
            return packet
        assert isinstance(packet, CodedMessage), "`_checked` lets no other through"
        if packet.frames > 2 * BLOCK:  # the last may have twice as many
            raise CodesError(f"{packet.frames} coded frames; a block has at most {2 * BLOCK}")
        codes = FrameDecoder(self._predictor_of(header)).decode(packet.coded, packet.codebooks, packet.frames)
        return CodesMessage(
            packet.sequence, packet.index, codes, packet.bits, packet.stream, packet.scale, packet.length, packet.last,
            packet.discontinuity,
        )  # fmt: skip

    def _predictor_of(self, header: ScxHeader) -> Predictor:
        found = self._predictor
        if found is None or found.model.hash != header.entropy_model:
            model = model_of_file(str(self.path), header.entropy_model, header.codes.source, self._entropy)
            check_model(model, header.codes)
            found = self._predictor = Predictor(model)
        return found

    @property
    def model(self) -> EntropyModel | None:
        """That the first section is coded with; None where its codes lie there as they are. Raises AudioError."""
        return self._predictor_of(self.header).model if self.header.entropy_model else None

    def _checked(self, packet: Header, header: ScxHeader, coding: int) -> Header:
        if packet.kind != CODES_PACKET or packet.flags & EARLIER or packet.width != header.bits:
            raise PacketError(
                f"kind {packet.kind} with flags {packet.flags:#x} and {packet.width} bits; codes of {header.bits} "
                "bits, plain, are expected"
            )
        if bool(packet.flags & CODED) != (coding == ENTROPY and packet.count > 0):
            raise PacketError(f"flags {packet.flags:#x} in a block of coding {coding}")
        return packet


@dataclass
class _Section:
    """Where the reading stands. offset: of its header. expected: the frame that comes next; None: any."""

    header: ScxHeader
    offset: int
    expected: int | None
