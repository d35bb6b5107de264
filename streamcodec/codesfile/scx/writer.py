"""Codes to a .scx file that can be read while it grows."""

import contextlib
import dataclasses
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from ...entropy import EntropyModel, FrameEncoder, Predictor
from ...errors import AudioError, CodesError, DtypeError, InputError, ShapeError
from ...files import Existing, GrowingFile, NewFile
from ...packet import HEADER_BYTES, CodedMessage, CodesMessage, PacketError, pack
from ...sources import Source, reason
from ..coded import BLOCK
from ..safetensors_file import CodesBlock, check_model
from .blocks import CODES, ENTROPY, HEADER, MAX_BODY, PLAIN, pack_block
from .header import ScxHeader
from .index import Index
from .reader import MOST_GAP, ScxReader

if TYPE_CHECKING:
    from ...codes import Codes

__all__ = ["BLOCK_SECONDS", "ScxWriter"]

BLOCK_SECONDS = 2.0
SYNC_SECONDS = 1.0  # at least, from one time that the disk is waited for to the next
MOST_FRAMES = 2**15 - 1  # of a block; the last one may have twice as many, and a packet 2**16 - 1


class ScxWriter:
    """Codes, as they come, to a file that others may read meanwhile.

    with ScxWriter("talk.scx", header) as writer:
        writer.append(codes)

    output: a path, where the file is from now on; a `NewFile`, where it appears when it is complete; or a file object
    opened to write bytes, which need not seek. existing: what happens where there is such a file: "refuse", "replace",
    "number" (take another name), or "append": a new section is added to it, if its codes are those of the same codec.
    block_seconds: of a block, which is written when it is full: a crash loses what is not written yet. entropy: the
    model to code the codes with, in fewer bytes; each block anew.

    The bandwidth may change from call to call. Whether the file is closed, or an exception ends the `with` block, what
    was appended is kept. Raises AudioError where the file cannot be written, InputError for wrong options.
    """

    header: ScxHeader
    """Of the section that is written now."""
    place: int
    """Samples of the file that its blocks stand for so far."""
    length: int
    """Samples that were appended, without those of an earlier section."""

    def __init__(
        self,
        output: Source | NewFile,
        header: ScxHeader,
        *,
        existing: "Existing | str" = "refuse",
        block_seconds: float = BLOCK_SECONDS,
        entropy: EntropyModel | None = None,
    ) -> None:
        codes = header.codes
        if not 0.01 <= block_seconds <= 60:
            raise InputError(f"blocks of {block_seconds:g} s; they must be of 0.01 to 60")
        if header.bits > 16:
            raise InputError(f"a codebook of {codes.codebook_size} entries; a .scx file has codes of at most 16 bits")
        if entropy is not None:
            check_model(entropy, codes)
        self._predictor = None if entropy is None else Predictor(entropy)
        self.header = self._coded(header)
        self._scaled: bool | None = None  # whether frames have a scale, once there are any
        self._closed, self._synced = False, 0.0
        most = MOST_FRAMES if entropy is None else BLOCK
        self._block_frames = min(most, max(1, round(block_seconds * codes.sample_rate / codes.hop_length)))
        self.place = self.length = 0
        self._offset, self._index = 0, Index()
        self._new = output if isinstance(output, NewFile) else GrowingFile(output, existing)  # type: ignore[arg-type]
        try:
            if isinstance(self._new, GrowingFile) and self._new.appends:
                self._go_on(self._new.file)
            self._begin()
        except BaseException:
            self._new.discard()
            raise

    def _go_on(self, file: BinaryIO) -> None:
        """To the end of what is whole in the file; the rest of it is cut off."""
        size = file.seek(0, 2)
        if not size:
            return
        file.seek(0)
        with ScxReader(file) as reader:
            if not reader.header.goes_with(self.header):
                raise AudioError(
                    f"{self.path} holds codes of {reader.header.codes.codec}, and these are of "
                    f"{self.header.codes.codec}, or of other weights; append to another file"
                )
            self._index = Index(list(reader.entries))
            self.place, self._offset = reader.end()
        file.seek(self._offset)
        file.truncate()

    @property
    def path(self) -> Any:
        """The file's name."""
        return self._new.path

    # -- sections ----------------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        """The header of a new section."""
        self._at, self._start = self._offset, self.place
        self._frames = self._written = self._blocks = 0  # frames of the section, appended and written
        self._ended: int | None = None  # samples of the section, where it was said that it ends
        self._waiting: list[CodesBlock] = []
        self._gap = False
        self._write(pack_block(HEADER, self.header.body(), self.place, 0))

    def section(self, header: ScxHeader) -> None:
        """End the section and begin another one, whose decoder begins anew. Raises AudioError for another codec."""
        if not self.header.goes_with(header):
            raise AudioError(
                f"codes of {header.codes.codec} cannot follow codes of {self.header.codes.codec} or of other weights: "
                "a file holds the codes of one codec"
            )
        self._end()
        self.header = self._coded(header)
        self._begin()

    def _coded(self, header: ScxHeader) -> ScxHeader:
        """With the hash of the model that its codes are coded with."""
        return dataclasses.replace(header, entropy_model="" if self._predictor is None else self._predictor.model.hash)

    # -- codes -------------------------------------------------------------------------------------------------------

    def append(self, codes: "Codes") -> None:
        """More frames of one signal, [1, K, T], T >= 0. A length that is not that of whole frames ends the section.

        Raises ShapeError, CodesError, and AudioError for frames after the end.
        """
        scale = None if codes.scale is None else codes.scale.cpu().numpy()
        length = self._full(codes.data.shape[2]) if codes.length is None else codes.length
        self.write(CodesBlock(codes.data.cpu().numpy(), scale, length))

    def write(self, codes: CodesBlock) -> None:
        """`append` for NumPy arrays. Raises DtypeError, too."""
        self._check(codes)
        count = codes.data.shape[2]
        full = self._full(count)
        if self._ended is not None and codes.length:
            raise AudioError("frames after the last ones, whose length was not that of whole frames")
        # The last segment of a codec with overlapping ones stands for more than as many whole ones do.
        most = max(full, count * self.header.codes.hop_length) if self.header.segment_frames else full
        if not 0 <= codes.length <= most:
            raise CodesError(f"{count} frames with the length {codes.length}; they stand for 0 to {most} samples")
        if self._ended is None and codes.length != full:
            self._ended = self.header.samples(self._frames) + codes.length
        self.length += codes.length
        room = self._room(codes.data.shape[1])
        for first in range(0, count, room):
            self._add(codes, first, min(count, first + room), room)
        if self._ended is None and self._waiting_frames >= room:
            self._flush()

    def _add(self, codes: CodesBlock, first: int, last: int, room: int) -> None:
        """Frames from `first` to `last`, at most `room`, behind those that wait, or when these are written."""
        waiting = self._waiting_frames
        others = bool(waiting) and self._waiting[0].data.shape[1] != codes.data.shape[1]
        if others or waiting + last - first > room:
            # Frames behind the end of the audio stand in one block with that end: the last block says where it is.
            if self._ended is None or self.header.samples(self._frames) <= self._ended:
                self._flush()
            elif others or waiting + last - first > 2 * room:
                raise AudioError(f"{waiting + last - first} frames at the end of the audio or behind it")
        scale = None if codes.scale is None else codes.scale[:, first:last]
        self._waiting.append(CodesBlock(codes.data[:, :, first:last], scale, 0))
        self._frames += last - first

    def missing(self, frames: int) -> None:
        """Frames that did not come: what is appended next belongs after them. They are silence for who hears it."""
        if not frames:
            return
        most = MOST_GAP * self.header.codes.sample_rate // self.header.codes.hop_length
        if not 0 <= frames <= most or self._ended is not None:
            raise InputError(f"{frames} missing frames; a section that has not ended takes 0 to {most}")
        self._flush()
        self.length += self._full(frames)
        self._frames += frames
        self._gap = True

    def flush(self) -> None:
        """Write what waits, in a block of its own, and see to it that it is on the disk."""
        self._flush()
        self._new.sync()

    def _check(self, codes: CodesBlock) -> None:
        if codes.data.dtype.kind not in "iu":
            raise DtypeError(f"codes are {codes.data.dtype}; they must be integers")
        if codes.data.ndim != 3 or len(codes.data) != 1 or not 1 <= codes.data.shape[1] <= 255:
            raise ShapeError(f"codes have the shape {list(codes.data.shape)}; a .scx file holds [1, K, T], K 1 to 255")
        count = codes.data.shape[2]
        if codes.scale is not None and codes.scale.shape != (1, count):
            raise ShapeError(f"scale has the shape {list(codes.scale.shape)}; it must be [1, {count}], one a frame")
        if count and self._scaled not in (None, codes.scale is not None):
            raise ShapeError("some codes have a scale and some have none; a file holds one kind")
        size = self.header.codes.codebook_size
        if codes.data.size and (codes.data.min() < 0 or codes.data.max() >= size):
            raise CodesError(f"a code is outside 0..{size - 1}")
        if count:
            self._scaled = codes.scale is not None

    @property
    def _waiting_frames(self) -> int:
        return sum(codes.data.shape[2] for codes in self._waiting)

    def _room(self, codebooks: int) -> int:
        """Frames of a block."""
        frame = -(-codebooks * self.header.bits // 8) + 4
        return max(1, min(self._block_frames, (MAX_BODY // 2 - HEADER_BYTES - 16) // frame))

    def _full(self, frames: int) -> int:
        """Samples of so many whole frames, as the next ones."""
        return self.header.samples(self._frames + frames) - self.header.samples(self._frames)

    # -- blocks ------------------------------------------------------------------------------------------------------

    def _flush(self, last: bool = False) -> None:
        """The frames that wait, as a block."""
        if not self._waiting and not last:
            return
        first = self._frames - self._waiting_frames
        data, scale = self._joined()
        coding = ENTROPY if self._predictor is not None and data.shape[1] else PLAIN
        fields: dict[str, Any] = {
            "scale": scale, "last": last, "discontinuity": self._gap, "length": self._ended if last else None,
        }  # fmt: skip
        try:
            body = pack(self._packet(first, data, fields))
        except PacketError as error:
            raise CodesError(f"codes that cannot be written: {error}") from error
        place = self._place(self.header.samples(first))
        self._index.add(place, self._offset)
        self._write(pack_block(CODES, body, place, self._offset - self._at, coding))
        self._waiting, self._gap = [], False
        self._blocks += 1
        end = self.header.samples(self._frames)
        if self._ended is not None:
            end = self._ended if last else min(end, self._ended)
        self.place = self._place(end)

    def _packet(self, first: int, data: NDArray[Any], fields: dict[str, Any]) -> CodesMessage | CodedMessage:
        """Of the frames [K, T] from `first` on."""
        number, bits, (depth, count) = self._blocks % 2**32, self.header.bits, data.shape
        if self._predictor is None or not count:
            return CodesMessage(number, first, data, bits, **fields)
        coded = FrameEncoder(self._predictor).encode(data)
        return CodedMessage(number, first, coded, depth, count, bits, restart=True, **fields)

    def _joined(self) -> tuple[NDArray[Any], NDArray[Any] | None]:
        if not self._waiting:
            return np.zeros((1, 0), np.uint16), np.zeros(0, np.float32) if self._scaled else None
        data = np.concatenate([codes.data[0] for codes in self._waiting], 1)
        scales = [codes.scale[0] for codes in self._waiting if codes.scale is not None]
        return data, np.concatenate(scales) if scales else None

    def _place(self, sample: int) -> int:
        """In the file, of a sample of the section."""
        return self._start + max(0, sample - self.header.pre_skip)

    def _write(self, block: bytes) -> None:
        try:
            self._new.file.write(block)
            if time.monotonic() >= self._synced + SYNC_SECONDS:
                self._new.sync()
                self._synced = time.monotonic()
        except BrokenPipeError:  # whoever read it has left: no fault of the file
            raise
        except OSError as error:
            raise AudioError(f"cannot write {self.path}: {reason(error)}") from error
        self._offset += len(block)

    # -- the end -----------------------------------------------------------------------------------------------------

    def _end(self) -> None:
        self._ended = self.header.samples(self._frames) if self._ended is None else self._ended
        self._flush(last=True)

    def close(self) -> None:
        """End the section and write the index; the file is kept. May be called again. Raises AudioError."""
        if self._closed:
            return
        self._closed = True
        try:
            self._end()
            self._write(self._index.block(self.place, self._offset - self._at))
            self._new.commit()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise AudioError(f"cannot write {self.path}: {reason(error)}") from error
        finally:
            self._new.discard()

    def abort(self) -> None:
        """Write what waits and leave the file as it stands, as after a crash; a `NewFile` does not appear."""
        with contextlib.suppress(AudioError):  # the disk is full
            if isinstance(self._new, GrowingFile) and not self._closed:
                self._flush()
        self._closed = True
        self._new.discard()

    def __enter__(self) -> "ScxWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()
