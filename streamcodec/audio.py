"""Audio files, read and written at the codec's sample rate and channel count.

Samples are floats with full scale at ±1. Files are read and written in blocks, so that memory does not depend on how
long they are. Needs no torch.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .errors import AudioError, DtypeError, NonFiniteError, ShapeError
from .files import FileWriter, NewFile, Output, suffix_format
from .int16 import rounded
from .sources import FileReader, Source, SourceFile

__all__ = ["AudioReader", "AudioWriter", "SoundWriter"]

Samples = NDArray[np.float32]

READ_FRAMES = 65536  # of the file, at a time: 0.5 MB of stereo float32, and few enough calls for speed
WAV_LIMIT = 2**32 - 2**16  # bytes of samples: RIFF sizes are 32 bits wide, and the header needs some room

# format -> (libsndfile's name of it, its subtype, whether samples are handed over as int16)
FORMATS = {
    "wav": ("WAV", "PCM_16", True),
    "flac": ("FLAC", "PCM_16", True),
    "ogg": ("OGG", "VORBIS", False),
    "mp3": ("MP3", "MPEG_LAYER_III", False),
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
    file that is missing, unreadable, empty or cut short; NonFiniteError, at its place, for a sample that is no number.
    """

    name: str
    """What messages call it: the path, or the file object's name."""

    def __init__(self, source: Source | SourceFile, sample_rate: int, channels: int, block: int) -> None:
        from .containers import Recording

        self.sample_rate, self.channels, self.block = sample_rate, channels, block
        if block < 1:
            raise ValueError(f"block is {block}; it must be at least 1 sample")
        with contextlib.ExitStack() as stack:
            self._source = stack.enter_context(SourceFile.of(source))
            self.name = self._source.name
            self._source.require_content()
            self._recording = Recording(self._source.file, self.name)
            found = self._recording.channels
            if found != channels and 1 not in (found, channels):
                raise AudioError(f"{self.name} has {found} channels; the codec needs a file of {channels} or 1")
            self._stack = stack.pop_all()

    def close(self) -> None:
        """Close what the reader opened; may be called again."""
        self._stack.close()

    @property
    def length(self) -> int | None:
        """Samples a channel at `sample_rate`; None where a file does not say how many it has."""
        length, rate = self._recording.length, self._recording.sample_rate
        return None if length is None else (2 * length * self.sample_rate + rate) // (2 * rate)  # soxr rounds half up

    @property
    def seconds(self) -> float | None:
        """The recording's duration; None where `length` is."""
        return None if self.length is None else self.length / self.sample_rate

    @property
    def changes(self) -> list[str]:
        """What is done to the recording, one sentence each, none if it is passed on as it is."""
        found, sentences = self._recording.channels, list(self._recording.notes)
        if found > self.channels:
            sentences.append(f"averaged {found} channels to {self.channels}")
        if self._recording.sample_rate != self.sample_rate:
            sentences.append(f"resampled {self._recording.sample_rate} -> {self.sample_rate} Hz")
        if found < self.channels:
            sentences.append(f"copied {found} channel to {self.channels}")
        return sentences

    def __iter__(self) -> Iterator[Samples]:
        """The blocks, each an array of the caller's own."""
        rest = np.zeros((0, min(self._recording.channels, self.channels)), np.float32)
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
        if self._recording.sample_rate == self.sample_rate:
            yield from self._mixed()
            return
        import soxr

        channels = min(self._recording.channels, self.channels)
        resampler = soxr.ResampleStream(self._recording.sample_rate, self.sample_rate, channels, dtype="float32")
        for piece in self._mixed():
            yield resampler.resample_chunk(piece)
        yield resampler.resample_chunk(np.zeros((0, channels), np.float32), last=True)

    def _mixed(self) -> Iterator[Samples]:
        for piece in self._recording.pieces(READ_FRAMES):
            down = self.channels < self._recording.channels
            yield piece.mean(axis=1, keepdims=True) if down else piece


class SoundWriter(FileWriter):
    """Writes a `NewFile` through libsndfile. Raises AudioError where that cannot be, in the system's own words."""

    channels: int
    length: int
    """Samples a channel so far."""

    def __init__(self, output: Output, sample_rate: int, channels: int, container: str, subtype: str) -> None:
        import soundfile

        self.channels, self.length = channels, 0
        self._begin(output)
        self._kept = _Kept(self._new.file)
        try:
            with self._told():
                self._file = soundfile.SoundFile(
                    self._kept, "w", sample_rate, channels, format=container, subtype=subtype
                )
        except BaseException as error:
            self._new.discard()
            if isinstance(error, AudioError):
                raise AudioError(f"{error} ({sample_rate} Hz, channels: {channels})") from error
            raise

    def _put(self, rows: "NDArray[Any]") -> None:
        """Append samples [n, channels] of the type that the file takes."""
        self.length += len(rows)
        with self._told():
            self._file.write(rows)

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """Calls of libsndfile, which loses some errors and tells others without their cause."""
        import soundfile

        failure: Exception | None = None
        try:
            yield
        # AssertionError: soundfile's own way to say that not all was written.
        except (OSError, ValueError, AssertionError, soundfile.LibsndfileError) as error:
            failure = error
        cause = self._kept.error or failure
        if cause is not None and not isinstance(cause, Exception):
            raise cause  # Ctrl-C
        if cause is not None:
            raise self._failed(cause) from cause

    def _finish(self) -> None:
        with self._told():
            self._file.close()
        if self.length == 0:  # no player reads such a file
            raise AudioError(f"there are no samples to write to {self.path}")

    def abort(self) -> None:
        """Leave no file; does nothing after `close`."""
        try:
            self._file.close()
        except Exception:  # libsndfile's: there is no file that it could matter to
            pass
        finally:
            super().abort()


class _Kept:
    """A file whose errors are kept: libsndfile calls it, and no exception can pass through there."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.error = file, None  # type: tuple[BinaryIO, BaseException | None]

    def write(self, data: bytes) -> int:
        return self._kept(self._file.write, data)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._kept(self._file.seek, offset, whence)

    def tell(self) -> int:
        return self._kept(self._file.tell)

    def read(self, count: int) -> bytes:
        return self._kept(self._file.read, count) or b""

    def flush(self) -> None:
        self._kept(self._file.flush)

    def _kept(self, function: Callable[..., Any], *args: Any) -> Any:
        try:
            return function(*args)
        except BaseException as error:  # KeyboardInterrupt, too
            self.error = self.error or error
            return 0


class AudioWriter(SoundWriter):
    """Blocks of samples to a file, its format by the extension: .wav and .flac (16 bit), .ogg (Vorbis), .mp3.

    with AudioWriter("out.wav", 24000, 1) as writer:
        writer.write(pcm)

    output: a path, a `NewFile`, or a file object opened to write bytes, which is left open and gets the file at the
        end. format: "wav", "flac", "ogg" or "mp3"; by the extension where it is left out.

    The file appears under its name when the block ends without an exception (or at `close`), and not at all otherwise.
    Raises AudioError for an unknown extension, a rate that the format does not know, or a disk that refuses.
    """

    clipped: int
    """Samples so far that were outside ±1 and were cut to it."""

    def __init__(self, output: Output, sample_rate: int, channels: int, format: str | None = None) -> None:
        path = output.path if isinstance(output, NewFile) else output
        self._format = format or suffix_format(path, FORMATS)
        container, subtype, self._as_int16 = FORMATS[self._format]
        self.clipped = 0
        super().__init__(output, sample_rate, channels, container, subtype)

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
        self.clipped += int(np.count_nonzero(np.abs(rows) > 1))
        if self._as_int16:
            # Rounded here and not by libsndfile, which scales by 32767: a 16-bit file read and written keeps its bits.
            data: NDArray[Any] = rounded(rows)
        else:
            data = np.clip(rows, -1, 1)
        if self._format == "wav" and (self.length + len(rows)) * self.channels * 2 > WAV_LIMIT:
            raise AudioError(f"{self.path} would pass the 4 GiB that a WAV file can hold; write .flac instead")
        self._put(np.ascontiguousarray(data))
