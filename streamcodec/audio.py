"""Audio files, read and written at the codec's sample rate and channel count.

Samples are floats with full scale at ±1. Files are read and written in blocks, so that memory does not depend on how
long they are. Needs no torch.
"""

import contextlib
import io
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .errors import AudioError, DtypeError, NonFiniteError, ShapeError
from .files import FileReader, FileWriter, NewFile

__all__ = ["AudioReader", "AudioWriter"]

Samples = NDArray[np.float32]

INT16_SCALE = 1 / 32768  # int16 -32768 is -1.0
READ_FRAMES = 65536  # of the file, at a time: 0.5 MB of stereo float32, and few enough calls for speed
# WAV writers that cannot seek back put 0xFFFFFFFF (ffmpeg), 0x7FFFFFFF or 0x80000000, less a few bytes (sox, arecord)
# where the size belongs: from here on a size is "unknown", not a promise that the file must keep.
UNKNOWN_SIZE = 0x7FFF0000
WAV_LIMIT = 2**32 - 2**16  # bytes of samples: RIFF sizes are 32 bits wide, and the header needs some room

# What libsndfile logs where a RIFF, AIFF or AU header promises more bytes than there are, and for Ogg without an end.
_CUT_CHUNK = re.compile(r"^\s*(?:data|SSND|Data Size)\s*:\s*(\d+) \(should be (\d+)\)", re.MULTILINE)
_CUT_OGG = re.compile(r"lacks an end-of-stream|without an End-Of-Stream")

# extension -> (libsndfile's format, its subtype, whether samples are handed over as int16)
FORMATS = {
    ".wav": ("WAV", "PCM_16", True),
    ".flac": ("FLAC", "PCM_16", True),
    ".ogg": ("OGG", "VORBIS", False),
    ".mp3": ("MP3", "MPEG_LAYER_III", False),
}


class AudioReader(FileReader):
    """A file as blocks of float32 samples, [C, n], at another sample rate and channel count if need be.

    with AudioReader("in.flac", 24000, 1, 2400) as reader:
        for block in reader: ...

    source: the path of a file that libsndfile reads (WAV, FLAC, OGG, MP3 and more), or a binary file object, read from
        where it is and left open; `sys.stdin.buffer` is one. What cannot seek, such as a pipe, is first copied to a
        temporary file, so that it takes as much disk as it holds.
    sample_rate, channels: what the blocks have. Any number of channels is averaged to mono; mono is copied to several;
        other combinations have no mix that suits every recording and are refused.
    block: samples a block, at `sample_rate`; every block has that many but the last, which has at least one.

    One pass; memory does not depend on the length of the file. Raises AudioError, while opening where possible, for a
    file that is missing, unreadable, empty or cut short (a cut MP3 without a Xing header looks like a shorter one).
    """

    name: str
    """What messages call it: the path, or the file object's name."""

    def __init__(
        self, source: "str | os.PathLike[str] | BinaryIO", sample_rate: int, channels: int, block: int
    ) -> None:
        self.sample_rate, self.channels, self.block = sample_rate, channels, block
        if block < 1:
            raise ValueError(f"block is {block}; it must be at least 1 sample")
        with contextlib.ExitStack() as stack:
            self.name, bytes_ = _bytes_of(source, stack)
            self._file = stack.enter_context(_open(bytes_, self.name))
            _require_whole(self._file, self.name)
            found = self._file.channels
            if found != channels and 1 not in (found, channels):
                raise AudioError(f"{self.name} has {found} channels; the codec needs a file of {channels} or 1")
            self._stack = stack.pop_all()

    def close(self) -> None:
        """Close what the reader opened; may be called again."""
        self._stack.close()

    @property
    def length(self) -> int:
        """Samples a channel at `sample_rate`, as the file's header has it (exact but for MP3 without a Xing header)."""
        rate = self._file.samplerate
        return (2 * self._file.frames * self.sample_rate + rate) // (2 * rate)  # soxr rounds half up

    @property
    def changes(self) -> list[str]:
        """What is done to the recording, one sentence each, none if it is passed on as it is."""
        found, sentences = self._file.channels, []
        if found > self.channels:
            sentences.append(f"averaged {found} channels to {self.channels}")
        if self._file.samplerate != self.sample_rate:
            sentences.append(f"resampled {self._file.samplerate} -> {self.sample_rate} Hz")
        if found < self.channels:
            sentences.append(f"copied {found} channel to {self.channels}")
        return sentences

    def __iter__(self) -> Iterator[Samples]:
        """The blocks, each an array of the caller's own."""
        rest = np.zeros((0, min(self._file.channels, self.channels)), np.float32)
        for piece in self._resampled():
            rest = np.concatenate([rest, piece])
            whole = len(rest) - len(rest) % self.block
            for start in range(0, whole, self.block):
                yield self._finished(rest[start : start + self.block])
            rest = rest[whole:]
        if len(rest):
            yield self._finished(rest)

    def _finished(self, rows: Samples) -> Samples:
        return np.array(np.broadcast_to(rows.T, (self.channels, len(rows))), order="C")

    def _resampled(self) -> Iterator[Samples]:
        """Mixed down and at the right rate, [n, C]; n may be 0."""
        if self._file.samplerate == self.sample_rate:
            yield from self._mixed()
            return
        import soxr

        channels = min(self._file.channels, self.channels)
        resampler = soxr.ResampleStream(self._file.samplerate, self.sample_rate, channels, dtype="float32")
        for piece in self._mixed():
            yield resampler.resample_chunk(piece)
        yield resampler.resample_chunk(np.zeros((0, channels), np.float32), last=True)

    def _mixed(self) -> Iterator[Samples]:
        for piece in self._read():
            down = self.channels < self._file.channels
            yield piece.mean(axis=1, keepdims=True) if down else piece

    def _read(self) -> Iterator[Samples]:
        import soundfile

        frames, count = self._file.frames, self._file.tell()
        try:
            while len(piece := self._file.read(READ_FRAMES, dtype="float32", always_2d=True)):
                count += len(piece)
                yield piece
        except soundfile.LibsndfileError as error:
            raise AudioError(
                f"cannot read {self.name} past sample {count} of {frames}: it is damaged or cut short"
            ) from error
        if count < frames * (0.99 if self._file.format == "MP3" else 1):  # an MP3's length can be an estimate
            raise AudioError(f"{self.name} is cut short: {count} of {frames} samples are there")


def _bytes_of(source: "str | os.PathLike[str] | BinaryIO", stack: contextlib.ExitStack) -> tuple[str, BinaryIO]:
    """A source's name and its bytes as a file that can seek; `stack` closes what is opened here."""
    if isinstance(source, (str, os.PathLike)):
        name, file = str(Path(source)), stack.enter_context(_open_path(Path(source)))
    elif isinstance(source, io.TextIOBase) or not hasattr(source, "read"):
        raise AudioError(f"{source!r} is neither a path nor a file opened to read bytes (such as sys.stdin.buffer)")
    else:
        name, file = str(getattr(source, "name", "the file object")), source
    if not file.seekable() or file.tell():  # libsndfile begins at 0
        file = _spooled(file, name, stack)
    if not file.read(1):
        raise AudioError(f"{name} is empty (0 bytes)")
    file.seek(0)
    return name, file


def _open_path(path: Path) -> BinaryIO:
    if path.is_dir():
        raise AudioError(f"{path} is a directory; give an audio file")
    try:
        return path.open("rb")
    except FileNotFoundError:
        raise AudioError(f"{path} does not exist") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise AudioError(f"{path} cannot be opened: {error}") from error


def _spooled(file: BinaryIO, name: str, stack: contextlib.ExitStack) -> BinaryIO:
    """All that comes out of a pipe, on the disk: libsndfile reads few formats without seeking."""
    try:
        copy: Any = stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115
        shutil.copyfileobj(file, copy)
        copy.seek(0)
    except OSError as error:
        raise AudioError(f"cannot copy {name} to a temporary file in {tempfile.gettempdir()}: {error}") from error
    return copy  # type: ignore[no-any-return]


def _open(file: BinaryIO, name: str) -> Any:
    import soundfile

    try:
        return soundfile.SoundFile(file)
    except (OSError, TypeError, soundfile.LibsndfileError) as error:  # TypeError: a raw format that needs parameters
        reason = str(error).removeprefix(f"Error opening {file!r}: ").rstrip(".")
        raise AudioError(f"{name} cannot be read as audio ({reason}); give a WAV, FLAC, OGG or MP3 file") from error


def _require_whole(file: Any, name: str) -> None:
    if file.frames == 0:
        raise AudioError(f"{name} holds no samples")
    for declared, present in _CUT_CHUNK.findall(file.extra_info):
        if int(present) < int(declared) < UNKNOWN_SIZE:
            raise AudioError(f"{name} is cut short: {present} of {declared} bytes of samples are there")
    if _CUT_OGG.search(file.extra_info):
        raise AudioError(f"{name} is cut short: its last page does not end the stream")


class AudioWriter(FileWriter):
    """Blocks of samples to a file, its format by the extension: .wav and .flac (16 bit), .ogg (Vorbis), .mp3.

    with AudioWriter("out.wav", 24000, 1) as writer:
        writer.write(pcm)

    The file appears under its name when the block ends without an exception (or at `close`), and not at all otherwise.
    Raises AudioError for an unknown extension, a rate that the format does not know, or a disk that refuses.
    """

    clipped: int
    """Samples so far that were outside ±1 and were cut to it."""
    length: int
    """Samples a channel so far."""

    def __init__(self, path: "str | os.PathLike[str]", sample_rate: int, channels: int) -> None:
        import soundfile

        suffix = Path(path).suffix.lower()
        if suffix not in FORMATS:
            known = ", ".join(FORMATS)
            raise AudioError(f"{path} has the extension {suffix!r}; the known ones are {known}")
        container, subtype, self._as_int16 = FORMATS[suffix]
        self.path, self.channels, self.clipped, self.length = Path(path), channels, 0, 0
        self._new = NewFile(path)
        try:
            self._file = soundfile.SoundFile(
                self._new.partial, "w", sample_rate, channels, format=container, subtype=subtype
            )
        except (OSError, ValueError, soundfile.LibsndfileError) as error:
            self._new.discard()
            raise AudioError(f"cannot write {path} ({sample_rate} Hz, channels: {channels}): {error}") from error

    def write(self, pcm: ArrayLike) -> None:
        """Append samples, [C, n], float, n >= 0: a NumPy array, or a torch tensor on the CPU that needs no gradient.

        Raises DtypeError, ShapeError, NonFiniteError or AudioError.
        """
        array = np.asarray(pcm)
        if array.dtype.kind != "f":
            raise DtypeError(f"samples for {self.path} are {array.dtype}; they must be float, full scale at ±1")
        array = array.astype(np.float32, copy=False)
        if array.ndim != 2 or len(array) != self.channels:
            raise ShapeError(f"samples have the shape {list(array.shape)}; {self.path} takes [{self.channels}, n]")
        if not np.isfinite(array).all():
            raise NonFiniteError(f"samples for {self.path} hold NaN or infinity; every sample must be finite")
        # libsndfile's Vorbis encoder keeps a whole call's samples on the stack: never hand over many at once.
        for start in range(0, array.shape[1], READ_FRAMES):
            self._write(array.T[start : start + READ_FRAMES])

    def _write(self, rows: Samples) -> None:
        import soundfile

        self.clipped += int(np.count_nonzero(np.abs(rows) > 1))
        self.length += len(rows)
        if self._as_int16:
            # Rounded here and not by libsndfile, which scales by 32767: a 16-bit file read and written keeps its bits.
            data = np.clip(np.rint(rows / INT16_SCALE), -32768, 32767).astype(np.int16)
        else:
            data = np.clip(rows, -1, 1)
        if self.path.suffix.lower() == ".wav" and self.length * self.channels * 2 > WAV_LIMIT:
            raise AudioError(f"{self.path} would pass the 4 GiB that a WAV file can hold; write .flac instead")
        try:
            self._file.write(np.ascontiguousarray(data))
        except (OSError, soundfile.LibsndfileError) as error:
            raise AudioError(f"cannot write {self.path}: {error}") from error

    def _finish(self) -> None:
        self._file.close()
        if self.length == 0:  # no player reads such a file
            raise AudioError(f"there are no samples to write to {self.path}")

    def abort(self) -> None:
        """Leave no file; does nothing after `close`."""
        self._file.close()
        super().abort()
