"""DAC's ``.dac`` files (descript-audio-codec 1.0.0, `DACFile`).

A dict that `numpy.save` pickled: ``codes`` [channels, K, T] uint16, and ``metadata`` with

- original_length, sample_rate: of the recording, before it was resampled for the codec;
- channels: of the recording, each coded as a mono signal;
- input_db: LUFS of the recording, to which a decoder brings its output (each channel by itself);
- chunk_length, padding: frames to decode at a time, and whether with padding (`codecs.dac_chunked` has the other way);
- dac_version: "1.0.0".

Nothing in a file says which model made it. The format is one block: all codes are in memory, at most
`npy_dict.MAX_BYTES` of them (an hour of 44.1 kHz mono at its fullest is 6 MB).
"""

import dataclasses
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..codecs import Codec
from ..codes import Codes
from ..errors import AudioError, CodesError, ShapeError
from ..files import FileWriter, NewFile, Output
from ..sources import Source, SourceFile, reason
from . import npy_dict
from .loudness import LOWEST, LoudnessMeter

__all__ = ["DacFile", "DacReader", "DacWriter", "require_dac"]

VERSIONS = ("1.0.0",)
MAX_CHANNELS = 32
RATES = (1000, 768_000)  # Hz
MAX_LENGTH = 2**40  # samples
MAX_SECONDS = 15 * 3600  # of audio that the codes may decode to: see npy_dict.MAX_BYTES
MAX_CHUNK_SECONDS = 120  # of a chunk without padding, decoded at once: the command's own is 5 s
LOUDEST = 60.0  # LUFS: float audio may pass full scale, but nothing real does by this much
SPARE_BYTES = 4096  # of a file, for all but the codes


@dataclass(frozen=True)
class DacFile:
    """The content of a .dac file; the module says what the fields are. codes: [channels, K, T], any integer type."""

    codes: NDArray[Any]
    chunk_length: int
    original_length: int
    input_db: float
    channels: int
    sample_rate: int
    padding: bool

    @staticmethod
    def parse(data: bytes) -> "DacFile":
        """From the bytes of a file. Raises ValueError, its message a clause that follows the file's name."""
        content = npy_dict.load(data)
        metadata, codes = content.get("metadata"), content.get("codes")
        if not isinstance(metadata, dict) or not isinstance(codes, np.ndarray):
            raise ValueError("is not a .dac file: it holds no 'codes' and 'metadata'")
        version = metadata.get("dac_version")
        if version not in VERSIONS:
            raise ValueError(f"has dac_version {str(version)[:40]!r}; this streamcodec reads {', '.join(VERSIONS)}")
        whole = {
            name: _whole(metadata, name, least, most)
            for name, least, most in (
                ("chunk_length", 1, MAX_LENGTH),
                ("original_length", 1, MAX_LENGTH),
                ("channels", 1, MAX_CHANNELS),
                ("sample_rate", *RATES),
            )
        }
        if type(metadata.get("padding")) is not bool:
            raise ValueError("has no 'padding' in its metadata that is true or false")
        _check_codes(codes, whole["channels"])
        return DacFile(codes, input_db=_level(metadata.get("input_db")), padding=metadata["padding"], **whole)

    def dump(self) -> bytes:
        """The bytes of a file that upstream's `DACFile.load` reads."""
        metadata = dataclasses.asdict(dataclasses.replace(self, codes=np.zeros(0)))
        del metadata["codes"]
        metadata |= {"input_db": np.array([self.input_db], np.float32), "dac_version": VERSIONS[-1]}
        return npy_dict.dump({"codes": self.codes.astype("<u2"), "metadata": metadata})


def _whole(metadata: dict[str, Any], name: str, least: int, most: int) -> int:
    value = metadata.get(name)
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.item()
    if type(value) is not int or not least <= value <= most:
        raise ValueError(
            f"has {name} = {str(value)[:40]} in its metadata; it must be a whole number in {least}..{most}"
        )
    return value


def _level(value: Any) -> float:
    """One number in LUFS, NaN where there is none that can be used: that must not keep a file from being decoded."""
    if isinstance(value, np.ndarray) and value.size >= 1 and value.dtype.kind in "iuf":
        value = float(value.flat[0])  # upstream has one for each recording of its batch, and there is one recording
    if type(value) not in (int, float) or not math.isfinite(value) or value > LOUDEST:
        return math.nan
    return max(LOWEST, float(value))


def _check_codes(codes: NDArray[Any], channels: int) -> None:
    if codes.ndim != 3 or codes.dtype.kind not in "iu" or codes.shape[0] != channels or min(codes.shape) < 1:
        raise ValueError(
            f"has codes of the shape {list(codes.shape)} and type {codes.dtype}; they must be whole numbers "
            f"[{channels}, K, T]"
        )


def require_dac(codec: Codec, path: object) -> None:
    """Raises AudioError unless the codec is a DAC model."""
    if codec.config.get("model_type") != "dac":
        raise AudioError(f"{path}: a .dac file holds codes of DAC; {codec.spec.name} is another kind of codec")


class DacReader:
    """A .dac file, read whole.

    source: as of a `CodesReader`.
    file: its content; codebooks, frames: K and T.
    Raises AudioError for a file that is missing, cut short, too large, or holds anything but codes and plain values.
    """

    def __init__(self, source: Source | SourceFile) -> None:
        with SourceFile.of(source) as opened:
            self.path = Path(opened.name)
            try:
                size = opened.file.seek(0, 2)
                if size > npy_dict.MAX_BYTES:
                    raise ValueError(f"has {size} bytes; a .dac file of at most {npy_dict.MAX_BYTES} is read")
                opened.file.seek(0)
                self.file = DacFile.parse(opened.file.read(npy_dict.MAX_BYTES))
            except OSError as error:
                raise AudioError(f"cannot read the codes file {self.path}: {reason(error)}") from error
            except ValueError as error:
                raise AudioError(f"{self.path} {error}") from error
        _, self.codebooks, self.frames = self.file.codes.shape

    def check(self, codec: Codec) -> None:
        """Raises AudioError where the codec cannot decode the file."""
        spec, file = codec.spec, self.file
        require_dac(codec, self.path)
        least, most = int(file.codes.min()), int(file.codes.max())
        if self.codebooks > spec.num_codebooks or least < 0 or most >= spec.codebook_size:
            raise AudioError(
                f"{self.path} has {self.codebooks} codebooks with codes {least}..{most}; {spec.name} has "
                f"{spec.num_codebooks} with 0..{spec.codebook_size - 1}; give the codec that made the file with --codec"
            )
        if self.frames / spec.frame_rate > MAX_SECONDS:
            raise AudioError(f"{self.path} has more than {MAX_SECONDS // 3600} hours of codes; it is damaged")
        if not file.padding and min(file.chunk_length, self.frames) / spec.frame_rate > MAX_CHUNK_SECONDS:
            raise AudioError(
                f"{self.path} was encoded in chunks of {file.chunk_length} frames, which would have to be decoded at "
                f"once; at most {MAX_CHUNK_SECONDS} s are"
            )

    def blocks(self, frames: int, start: int = 0, stop: int | None = None) -> Iterator[Tensor]:
        """The codes of frames start..stop - 1 (all), [channels, K, n] int64, `frames` frames at a time."""
        stop = self.frames if stop is None else stop
        for begin in range(start, stop, frames):
            yield torch.from_numpy(self.file.codes[:, :, begin : min(begin + frames, stop)].astype(np.int64))


class DacWriter(FileWriter):
    """Codes of a mono DAC codec, block by block, to a file that DAC's own command decodes.

    with DacWriter("out.dac", codec) as writer:
        for block in writer.listen(audio_blocks): writer.append(stream.push(block[None]))

    output: as of a `CodesWriter`.

    The codes wait in memory. All frames are one chunk, decoded with padding: upstream's decoder gives what ours does,
    at the level of the audio that `listen` heard. The file appears under its name when the block ends without an
    exception (or at `close`), and not at all otherwise. Raises AudioError.
    """

    frames: int
    """Frames so far."""
    length: int
    """Samples that they stand for."""

    def __init__(self, output: Output, codec: Codec) -> None:
        require_dac(codec, output.path if isinstance(output, NewFile) else output)
        self.spec = codec.spec
        if self.spec.codebook_size > 2**16 or self.spec.channels != 1:
            raise AudioError(f"a .dac file holds 16-bit codes of mono signals; {self.spec.name} has others")
        self._begin(output)
        self._meter = LoudnessMeter(self.spec.sample_rate)
        self._parts: list[NDArray[np.uint16]] = []
        self.frames, self.length, self._heard = 0, 0, False

    def listen(self, blocks: Iterable[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
        """The blocks [1, n] unchanged, their loudness measured on the way."""
        for block in blocks:
            self._meter.push(block[0])
            self._heard = True
            yield block

    def append(self, codes: Codes) -> None:
        """Add frames of one signal, [1, K, T], with a length. Raises ShapeError, CodesError, AudioError."""
        codebooks = self._parts[0].shape[0] if self._parts else codes.data.shape[1]
        if codes.data.shape[:2] != (1, codebooks):
            raise ShapeError(f"codes have the shape {list(codes.data.shape)}; this .dac file holds [1, {codebooks}, T]")
        if codes.length is None:
            raise CodesError("codes without a length cannot be written; give Codes(..., length=samples)")
        rows = codes.data[0].cpu().numpy()
        if rows.size and (rows.min() < 0 or rows.max() >= self.spec.codebook_size):
            raise CodesError(f"a code is outside 0..{self.spec.codebook_size - 1}")
        frames = self.frames + rows.shape[1]
        if 2 * codebooks * frames > npy_dict.MAX_BYTES - SPARE_BYTES:
            raise AudioError(
                f"{self.path} would pass the {npy_dict.MAX_BYTES} bytes that a .dac file may have here; write a "
                ".safetensors file, or parts of the recording"
            )
        self._parts.append(rows.astype(np.uint16))
        self.frames, self.length = frames, self.length + codes.length

    def _finish(self) -> None:
        if not self.frames or not self.length:
            raise AudioError(f"there are no codes to write to {self.path}")
        if not self._heard:
            raise AudioError(f"{self.path} must say how loud the recording was; pass its audio through listen()")
        file = DacFile(
            codes=np.concatenate(self._parts, axis=1)[None],
            chunk_length=self.frames,
            original_length=self.length,
            input_db=self._meter.integrated(),
            channels=1,
            sample_rate=self.spec.sample_rate,
            padding=True,
        )
        self._new.file.write(file.dump())

    def abort(self) -> None:
        """Leave no file; does nothing after `close`."""
        self._parts.clear()
        super().abort()
