"""EnCodec's ``.ecdc`` files (encodec 0.1.1, `compress.py` and `binary.py`).

``ECDC``, version 0 (1 byte), length of the JSON (4 bytes, big-endian), JSON: m (model), al (samples a channel), nc
(codebooks), lm (whether a language model compressed the codes). Then each segment: for a model that normalises its
scale (float32, big-endian), then all codes frame by frame, 10 bits each (`bits`), the last byte filled up. A model
without segments has one, the whole signal.

With the language model the codes of a segment are entropy coded by its floating-point probabilities (`ecdc_lm.py`),
and a difference in their last bit, as between two devices or versions of torch, makes the rest of the segment noise.
Such files are read and written where the model is given. How long they are their bytes tell, and no place in them can
be sought.

Upstream reads one frame too many where ``al / sample_rate * frame_rate`` is rounded up past a whole number (6,720
samples at 24 kHz: 21 frames, of which it wants 22) and stops there, at files of its own too. The bytes here are
upstream's all the same, and such files are read.
"""

import contextlib
import dataclasses
import json
import math
import shutil
import struct
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray

from ..bits import BitPacker, unpack_bits
from ..codecs import Codec
from ..codecs.encodec import EncodecCodec, EncodecConfig
from ..codecs.segments import Segments
from ..codes import Codes
from ..errors import AudioError, CodesError, ShapeError
from ..files import FileWriter, Output
from ..sources import FileReader, Source, SourceFile
from .ecdc_coder import most_symbols
from .ecdc_lm import PAST_SECONDS, EncodecLM, LmDecoder, LmEncoder, check_lm
from .safetensors_file import CodesHeader, spans

__all__ = ["EcdcModel", "EcdcReader", "EcdcWriter", "model_of"]

PREFIX = struct.Struct("!4sBI")
MAGIC, VERSION = b"ECDC", 0
SCALE = struct.Struct("!f")
MAX_JSON = 4096  # bytes: upstream's has about 60
MAX_LENGTH = 2**48  # samples: 185 years; the file's size bounds the length besides
BITS = 10  # of a code: codebooks have 1024 entries
PIECE = 4096  # bytes that are read at a time
NO_LM = (
    "was coded with EnCodec's language model (lm is true); give its checkpoint, such as encodec_lm_24khz-1608e3c0.th, "
    "with --lm, or in Python as lm=EncodecLM.load(path)"
)
OTHER_LM = (
    "The file is damaged, or was made with another language model, or by another machine or version of torch: the "
    "model's probabilities differ in their last bits then. Decode it where it was made"
)


@dataclass(frozen=True)
class EcdcModel:
    """One of the two models that the format knows; codebooks: as many as its highest bandwidth has."""

    name: str
    config: EncodecConfig

    @property
    def segments(self) -> Segments:
        """How a signal is cut: of one segment where the model has none."""
        return self.config.segments or Segments(self.config.hop_length, None, None, False)

    def tail(self, length: int) -> tuple[int, list[int]]:
        """Whole segments of a signal of `length` samples, and the frames of each that follows (one or two)."""
        whole, stride = self.segments.length, self.segments.stride
        if whole is None or stride is None:
            return 0, self.segments.cut(length)
        count = 0 if length < whole else 1 + (length - whole) // stride
        return count, self.segments.cut(length - count * stride)

    def samples(self, frames: int) -> int:
        """Samples that the first `frames` frames stand for."""
        hop, whole, stride = self.config.hop_length, self.segments.frames, self.segments.stride
        if whole is None or stride is None:
            return frames * hop
        count, rest = divmod(frames, whole)
        return count * stride + min(rest * hop, stride)

    @property
    def lm_past(self) -> int:
        """Frames that a layer of the language model sees before the one that it is at."""
        return int(PAST_SECONDS * self.config.frame_rate)

    def segment_bytes(self, frames: int, codebooks: int) -> int:
        """Of one segment in a file."""
        return (SCALE.size if self.config.normalize else 0) + -(-frames * codebooks * BITS // 8)


MODELS = {
    model.name: model
    for model in (
        EcdcModel("encodec_24khz", EncodecConfig()),
        EcdcModel(
            "encodec_48khz",
            EncodecConfig(
                target_bandwidths=(3.0, 6.0, 12.0, 24.0),
                sampling_rate=48_000,
                audio_channels=2,
                normalize=True,
                chunk_length_s=1.0,
                overlap=0.01,
                norm_type="time_group_norm",
                use_causal_conv=False,
            ),
        ),
    )
}
# What two codecs of one architecture may differ in.
_FREE = ("target_bandwidths", "default_bandwidth", "codebook_dim")


def model_of(codec: Codec, path: object) -> EcdcModel:
    """The model whose architecture `codec` has. Raises AudioError if it is neither."""
    if isinstance(codec, EncodecCodec):
        settings = _architecture(codec.settings)
        for model in MODELS.values():
            if settings == _architecture(model.config):
                return model
    raise AudioError(
        f"{path}: an .ecdc file holds codes of {' or '.join(MODELS)}; {codec.spec.name} is another codec. "
        "Use .safetensors for its codes"
    )


def _architecture(config: EncodecConfig) -> dict[str, Any]:
    return {name: value for name, value in dataclasses.asdict(config).items() if name not in _FREE}


class EcdcWriter(FileWriter):
    """Codes, block by block, to an .ecdc file.

    with EcdcWriter("codes.ecdc", model_of(codec, "codes.ecdc")) as writer:
        writer.append(codes)

    output: as of a `CodesWriter`. lm: the language model to code them with, in fewer bytes, a frame at a time.

    The length of the audio stands first and is known last: the segments wait in a temporary file in the same directory.
    The file appears under its name when the block ends without an exception (or at `close`), and not at all otherwise.
    Memory: two segments, or for a model without segments one block. Raises AudioError if the disk refuses.
    """

    frames: int
    """Frames so far."""
    length: int
    """Samples a channel that they stand for."""

    def __init__(self, output: Output, model: EcdcModel, lm: EncodecLM | None = None) -> None:
        self.model, self._lm = model, lm
        self.frames, self.length, self.codebooks = 0, 0, 0
        self._whole = 0  # segments written
        self._rows = np.zeros((0, 0), np.uint16)  # [frames, K] that wait
        self._scales = np.zeros(0, np.float32)
        self._packer: BitPacker | LmEncoder = BitPacker(BITS)
        self._begin(output)
        try:
            # Not in the default directory for temporary files, which is memory on many systems.
            self._spool = tempfile.TemporaryFile(dir=self.directory)  # noqa: SIM115, closed by abort
        except OSError as error:
            self._new.discard()
            raise self._failed(error) from error

    def append(self, codes: Codes) -> None:
        """Add frames of one signal, [1, K, T], T >= 0, K as before, with a length. Raises ShapeError or CodesError."""
        rows, scales = self._checked(codes)
        if not self.codebooks:
            self.codebooks = rows.shape[1]
            if self._lm is not None:
                check_lm(self._lm, self.codebooks, self.model.config.codebook_size, self.path)
                self._packer = LmEncoder(self._lm, self.codebooks, self.model.lm_past)
            self._rows = np.zeros((0, self.codebooks), np.uint16)
        self._rows = np.concatenate([self._rows, rows])
        self._scales = np.concatenate([self._scales, scales])
        self.frames += len(rows)
        self.length += codes.length or 0
        try:
            self._write_whole()
        except OSError as error:
            raise self._failed(error) from error

    def _checked(self, codes: Codes) -> tuple[NDArray[np.uint16], NDArray[np.float32]]:
        batch, codebooks, frames = codes.data.shape
        most = self.model.config.num_codebooks
        if batch != 1 or not 1 <= codebooks <= most or (self.codebooks and codebooks != self.codebooks):
            allowed = self.codebooks or f"1..{most}"
            raise ShapeError(f"codes have the shape {list(codes.data.shape)}; this file holds [1, {allowed}, T]")
        if codes.length is None:
            raise CodesError("codes without a length cannot be written; give Codes(..., length=samples)")
        rows = codes.data[0].T.cpu().numpy()
        if rows.size and (rows.min() < 0 or rows.max() >= 2**BITS):
            raise CodesError(f"a code is outside 0..{2**BITS - 1}")
        if not self.model.config.normalize:
            return rows.astype(np.uint16), np.zeros(frames, np.float32)
        if codes.scale is None:
            raise ShapeError(f"{self.model.name} normalises its input: codes need a scale [1, T], got None")
        return rows.astype(np.uint16), codes.scale[0].cpu().numpy().astype(np.float32)

    def _write_whole(self) -> None:
        """Write what no later frames can change the segments of."""
        whole = self.model.segments.frames
        if whole is None:
            self._spool.write(self._packer.push(self._rows))
            self._rows, self._scales = self._rows[:0], self._scales[:0]
            return
        # The end may be cut into a segment that is almost whole and one of the overlap: as many frames stay back.
        overlap = 1 + (self.model.segments.length or 0) - (self.model.segments.stride or 0)
        while len(self._rows) >= 2 * whole + -(-overlap // self.model.config.hop_length):
            self._write_segment(whole)

    def _write_segment(self, frames: int) -> None:
        rows, scale = self._rows[:frames], self._scales[:1]
        if self.model.config.normalize:
            self._spool.write(SCALE.pack(float(scale[0])))
        self._spool.write(self._packer.push(rows) + self._packer.flush())
        self._rows, self._scales = self._rows[frames:], self._scales[frames:]
        self._whole += 1

    def _finish(self) -> None:
        if not self.frames or not self.length:
            raise AudioError(f"there are no codes to write to {self.path}")
        self._write_rest()
        text = json.dumps({"m": self.model.name, "al": self.length, "nc": self.codebooks, "lm": self._lm is not None})
        self._new.file.write(PREFIX.pack(MAGIC, VERSION, len(text)) + text.encode())
        self._spool.seek(0)
        shutil.copyfileobj(self._spool, self._new.file)

    def _write_rest(self) -> None:
        whole, tail = self.model.tail(self.length)
        frames = whole * (self.model.segments.frames or 0) + sum(tail)
        if frames != self.frames:
            raise AudioError(
                f"{self.frames} frames were given for {self.length} samples, which {self.model.name} codes in {frames}"
            )
        if self.model.segments.frames is None:
            self._spool.write(self._packer.flush())
            return
        for count in [self.model.segments.frames] * (whole - self._whole) + tail:
            self._write_segment(count)

    def abort(self) -> None:
        """Leave no file; does nothing after `close`."""
        with contextlib.suppress(OSError):  # the disk is full
            self._spool.close()
        super().abort()


class EcdcReader(FileReader):
    """An .ecdc file, block by block.

    with EcdcReader("codes.ecdc") as reader:
        for codes in reader.blocks(75): ...

    source: as of a `CodesReader`. lm: the language model of a file that was coded with one.
    header: as of a `CodesReader`, its codec and source the model's published name; model; codebooks, frames: K and T.
    Raises AudioError for a file that is missing, cut short, of another format or version, inconsistent, or coded with
    a language model where none is given; CodesError where the model is for other codes.
    """

    def __init__(self, source: Source | SourceFile, lm: EncodecLM | None = None) -> None:
        self._lm = lm
        self._source = SourceFile.of(source)
        self._file, self.path = self._source.file, Path(self._source.name)
        try:
            self._read_header()
        except CodesError:
            self._source.close()
            raise
        except ValueError as error:
            self._source.close()
            raise AudioError(f"{self.path} {error}") from error

    def check(self, codec: Codec) -> None:
        """Raises AudioError unless the codec has the architecture of the file's model."""
        if model_of(codec, self.path) is not self.model:
            raise AudioError(
                f"{self.path} was made with {self.model.name}, not with {codec.spec.name}; give the former with --codec"
            )

    def _read_header(self) -> None:
        size = self._file.seek(0, 2)
        self._file.seek(0)
        prefix = self._file.read(PREFIX.size)
        if len(prefix) < PREFIX.size or not prefix.startswith(MAGIC):
            raise ValueError("is not an .ecdc file: it does not begin with ECDC, a version and a length")
        _, version, count = PREFIX.unpack(prefix)
        if version != VERSION:
            raise ValueError(f"has .ecdc version {version}; this streamcodec reads {VERSION}")
        if count > MAX_JSON:
            raise ValueError(f"has a header of {count} bytes; at most {MAX_JSON} are read")
        text = self._file.read(count)
        if len(text) < count:
            raise ValueError("is cut short: it ends within its header")
        self.model, self.codebooks, length, self._coded = _parse(text)
        self._start = PREFIX.size + count
        self._whole, self._tail = self.model.tail(length)
        full = self.model.segments.frames or 0
        self.frames = self._whole * full + sum(self._tail)
        self._check_size(size - self._start)
        config = self.model.config
        self.header = CodesHeader(
            codec=self.model.name,
            source=self.model.name,
            fingerprint="",
            bandwidth=self.codebooks * BITS * config.frame_rate / 1000,
            sample_rate=config.sampling_rate,
            channels=config.audio_channels,
            hop_length=config.hop_length,
            codebook_size=config.codebook_size,
            start="exact",
            length=length,
        )

    def _check_size(self, size: int) -> None:
        """size: of what follows the header, in bytes."""
        if self._coded:
            if self._lm is None:
                raise ValueError(NO_LM)
            check_lm(self._lm, self.codebooks, self.model.config.codebook_size, self.path)
            if self.frames * self.codebooks > most_symbols(size, self.model.config.codebook_size):
                raise ValueError(f"is cut short: {size} bytes cannot hold its {self.frames} frames")
            return
        sizes = [
            self.model.segment_bytes(frames, self.codebooks)
            for frames in (self.model.segments.frames or 0, *self._tail)
        ]
        sizes[0] *= self._whole
        if size < sum(sizes):
            raise ValueError(f"is cut short: {self._start + size} of {self._start + sum(sizes)} bytes are there")

    def blocks(self, frames: int, samples: Callable[[int], int] | None = None) -> Iterator[Codes]:
        """All codes, `frames` at a time; only the last block may have fewer, and its length is what remains.

        samples: as for `CodesReader.blocks`; default: the model's own. Raises CodesError for a scale that is no number,
        and where codes that were coded with a language model cannot be what was coded.
        """
        coded = self._coded_rows() if self._coded else None
        for start, end, length in spans(self.frames, frames, self.header, samples or self.model.samples):
            rows = [next(coded) for _ in range(end - start)] if coded else None
            yield (
                self._block(start, end, length)
                if rows is None
                else self._codes(
                    np.stack([row for row, _ in rows]), np.array([scale for _, scale in rows], np.float32), length
                )
            )
        if coded is not None:
            next(coded, None)  # it looks whether bytes are left

    def _codes(self, rows: NDArray[np.uint16], scales: NDArray[np.float32], length: int) -> Codes:
        """rows: [T, K]; scales: [T], of a model that normalises."""
        data = torch.from_numpy(rows.T[None].astype(np.int64))
        return Codes(data, torch.from_numpy(scales[None]) if self.model.config.normalize else None, length)

    def _coded_rows(self) -> Iterator[tuple[NDArray[np.uint16], float]]:
        """Each frame, [K], with its scale, of codes that were coded with a language model."""
        assert self._lm is not None, "looked at with the header"
        data = _Bytes(self._file, self._start)
        counts = [self.model.segments.frames or 0] * self._whole + self._tail
        try:
            for count in counts:
                scale = self._scale(bytes(data.next() for _ in range(SCALE.size))) if self.model.config.normalize else 1
                decoder = LmDecoder(self._lm, self.codebooks, self.model.lm_past, data.next)
                for _ in range(count):
                    yield decoder.pull(), scale
            if data.more():
                raise CodesError("bytes are left after the last frame")
        except (CodesError, EOFError) as error:
            raise CodesError(f"{self.path}: {error}. {OTHER_LM}") from None

    def _scale(self, data: bytes) -> float:
        scale: float = SCALE.unpack(data)[0]
        if not math.isfinite(scale):
            raise CodesError(f"{self.path} has {scale} for the scale of a segment; it must be a finite number")
        return scale

    def _block(self, start: int, end: int, length: int) -> Codes:
        rows, scales = [], []
        for offset, first, last in self._pieces(start, end):
            if self.model.config.normalize:
                scale = self._scale(self._bytes(offset, SCALE.size))
                offset += SCALE.size
                scales.append(np.full(last - first, scale, np.float32))
            begin, count = first * self.codebooks * BITS, (last - first) * self.codebooks
            data = self._bytes(offset + begin // 8, -(-(begin % 8 + count * BITS) // 8))
            rows.append(unpack_bits(data, BITS, count, begin % 8).reshape(-1, self.codebooks))
        return self._codes(np.concatenate(rows), np.concatenate([*scales, np.zeros(0, np.float32)]), length)

    def _pieces(self, start: int, end: int) -> Iterator[tuple[int, int, int]]:
        """The segments that frames start..end - 1 lie in: byte offset, first and last frame + 1 within the segment."""
        full = self.model.segments.frames or self.frames
        while start < end:
            index = min(start // full, self._whole)
            origin, offset = index * full, self._start + index * self.model.segment_bytes(full, self.codebooks)
            count = full
            if index == self._whole:  # one of the tail
                for count in self._tail:
                    if start < origin + count:
                        break
                    origin, offset = origin + count, offset + self.model.segment_bytes(count, self.codebooks)
            last = min(end, origin + count)
            yield offset, start - origin, last - origin
            start = last

    def _bytes(self, offset: int, count: int) -> bytes:
        self._file.seek(offset)
        data = self._file.read(count)
        if len(data) < count:
            raise AudioError(f"{self.path} became shorter while it was read")
        return data


class _Bytes:
    """The bytes of a file from a place on; others may read it meanwhile."""

    def __init__(self, file: BinaryIO, place: int) -> None:
        self._file, self._place, self._data, self._at = file, place, b"", 0

    def more(self) -> bool:
        if self._at == len(self._data):
            self._file.seek(self._place)
            self._data, self._at = self._file.read(PIECE), 0
            self._place += len(self._data)
        return self._at < len(self._data)

    def next(self) -> int:
        """Raises EOFError."""
        if not self.more():
            raise EOFError("the file ends before its last frame")
        self._at += 1
        return self._data[self._at - 1]


def _parse(text: bytes) -> tuple[EcdcModel, int, int, bool]:
    """Model, codebooks, samples, and whether a language model coded the codes, from the JSON.

    Raises ValueError, its message a clause after the file's name.
    """
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError("is not an .ecdc file: its header is not JSON") from None
    if not isinstance(values, dict) or {"m", "al", "nc", "lm"} - values.keys():
        raise ValueError("is not an .ecdc file: its header is no object with m, al, nc and lm")
    name, length, codebooks, entropy = (values[key] for key in ("m", "al", "nc", "lm"))
    if not isinstance(name, str) or name not in MODELS:
        raise ValueError(f"was made with the model {str(name)[:40]!r}; {' and '.join(MODELS)} are known")
    if type(entropy) is not bool:
        raise ValueError(f"has lm = {str(entropy)[:40]!r} in its header; it must be true or false")
    model = MODELS[name]
    most = model.config.num_codebooks
    if type(codebooks) is not int or not 1 <= codebooks <= most:
        raise ValueError(f"has nc = {str(codebooks)[:40]} in its header; {name} has 1..{most} codebooks")
    if type(length) is not int or not 1 <= length <= MAX_LENGTH:
        raise ValueError(f"has al = {str(length)[:40]} in its header; it must be a whole number in 1..{MAX_LENGTH}")
    return model, codebooks, length, entropy
