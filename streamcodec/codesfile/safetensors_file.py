"""Codes in a file: safetensors, so that any language with a safetensors reader can use them.

Tensors: ``codes`` [1, K, T], int16, or int32 where the codebook has more than 32768 entries; ``scale`` [1, T] float32
for codecs that normalise their input. Where they are entropy coded (`coded`), instead of the first: ``coded``, uint8,
the bytes of all blocks, and ``blocks`` [B, 2] int32, the size and the check of each. Metadata (all strings, as the
format has it): the fields of `CodesHeader`, ``format`` and ``version``. Written and read in blocks, so that memory does
not depend on the length. Needs no torch, but for `CodesReader.blocks`.
"""

import contextlib
import dataclasses
import json
import math
import os
import shutil
import struct
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..entropy import EntropyModel, Predictor
from ..errors import AudioError, CodesError, DtypeError, ShapeError
from ..files import FileWriter, Output
from ..install import needs_torch
from ..sources import FileReader, Source, SourceFile
from .coded import BLOCK, CodedFrames, coded_blocks, model_of_file, places_of

if TYPE_CHECKING:
    from ..codes import Codes

__all__ = ["CodesBlock", "CodesHeader", "CodesReader", "CodesWriter", "check_model", "portable"]

FORMAT = "streamcodec-codes"
VERSION = "1"
STARTS = ("exact", "primed")
MAX_HEADER = 2**20  # bytes of JSON: a real header has a few hundred; a damaged length must not be believed
TRANSPOSE_FRAMES = 16384  # at a time: 1 MB of 32 codebooks in int16
CODED_VERSION = "2"  # of files that are entropy coded, so that who reads version 1 alone says so
_DTYPES: dict[str, "np.dtype[Any]"] = {
    "U8": np.dtype("u1"), "I16": np.dtype("<i2"), "I32": np.dtype("<i4"), "F32": np.dtype("<f4"),
}  # fmt: skip


@dataclass(frozen=True)
class CodesHeader:
    """What a codes file says about its codes.

    codec: `CodecSpec.name`; source: what `streamcodec.load` was given ("" for the bundled codec); fingerprint:
    `Codec.fingerprint`. bandwidth: kbps. sample_rate: Hz. start: how the encoder's stream began, "exact" or "primed".
    length: samples a channel that the codes stand for; the writer fills it in.
    """

    codec: str
    source: str
    fingerprint: str
    bandwidth: float
    sample_rate: int
    channels: int
    hop_length: int
    codebook_size: int
    start: str
    length: int = 0

    def metadata(self) -> dict[str, str]:
        """As strings, with format and version."""
        fields = {name: str(value) for name, value in dataclasses.asdict(self).items()}
        return {"format": FORMAT, "version": VERSION, **portable(fields)}

    @staticmethod
    def parse(metadata: object) -> "CodesHeader":
        """The inverse of `metadata`. Raises ValueError, its message a clause that follows the file's name."""
        if not isinstance(metadata, dict) or metadata.get("format") != FORMAT:
            raise ValueError(f"is not a codes file: its metadata has no format {FORMAT!r}")
        if metadata.get("version") not in (VERSION, CODED_VERSION):
            raise ValueError(f"has format version {metadata.get('version')!r}; this streamcodec reads '1' and '2'")
        return CodesHeader.of(metadata)

    @staticmethod
    def of(values: "dict[str, Any]") -> "CodesHeader":
        """The header of these fields, numbers as numbers or as text. Raises ValueError as `parse` does."""
        found: dict[str, Any] = {}
        for field in dataclasses.fields(CodesHeader):
            if field.name not in values:
                raise ValueError(f"has no {field.name!r} in its metadata")
            try:
                found[field.name] = {"str": str, "int": int, "float": float}[_type_name(field)](values[field.name])
            except (TypeError, ValueError, OverflowError):
                raise ValueError(f"has {field.name} = {values[field.name]!r}; it must be a number") from None
        header = CodesHeader(**found)
        sizes = (header.sample_rate, header.channels, header.hop_length, header.codebook_size)
        if min(sizes) < 1 or header.length < 0 or not 0 <= header.bandwidth < math.inf:
            raise ValueError("has a size in its metadata that is not positive")
        if header.start not in STARTS:
            raise ValueError(f"has start = {header.start!r}; it must be one of {', '.join(STARTS)}")
        return header


class CodesBlock(NamedTuple):
    """`Codes` of one signal as NumPy arrays.

    data: [1, K, T] of any integer type; a reader gives int64. scale: [1, T] float32, or None. length: samples that they
        stand for.
    """

    data: NDArray[Any]
    scale: NDArray[Any] | None
    length: int


def portable(values: Any) -> Any:
    """What UTF-8 can hold of texts: a file name that is none has odd bytes as \\xNN, else nobody reads the header."""
    if isinstance(values, dict):
        return {portable(name): portable(value) for name, value in values.items()}
    return os.fsencode(values).decode("utf-8", "backslashreplace") if isinstance(values, str) else values


def _type_name(field: "dataclasses.Field[Any]") -> str:
    return field.type if isinstance(field.type, str) else field.type.__name__


class CodesWriter(FileWriter):
    """Codes, block by block, to a file.

    with CodesWriter("codes.safetensors", header) as writer:
        writer.append(codes)

    output: a path, a `NewFile`, or a file object opened to write bytes, which gets the file at the end. entropy: the
    model to code them with, in fewer bytes.

    The format needs the number of frames first and the codebooks one after the other: the frames wait in a temporary
    file in the same directory and are transposed at the end. The file appears under its name when the block ends
    without an exception (or at `close`), and not at all otherwise. Raises AudioError if the disk refuses.
    """

    frames: int
    """Frames so far."""
    length: int
    """Samples a channel that they stand for."""

    def __init__(self, output: Output, header: CodesHeader, entropy: EntropyModel | None = None) -> None:
        self.header, self.frames, self.codebooks = header, 0, 0
        self._dtype_name = "I16" if header.codebook_size <= 2**15 else "I32"
        self._dtype = _DTYPES[self._dtype_name]
        if entropy is not None:
            check_model(entropy, header)
        self._entropy = entropy
        self._begin(output)
        self.length, self._scaled = 0, False
        # Not in the default directory for temporary files, which is memory on many systems.
        try:
            with contextlib.ExitStack() as stack:
                self._codes = stack.enter_context(tempfile.TemporaryFile(dir=self.directory))
                self._scale = stack.enter_context(tempfile.TemporaryFile(dir=self.directory))
                self._spools = stack.pop_all()
        except OSError as error:
            self._new.discard()
            raise self._failed(error) from error

    def append(self, codes: "Codes") -> None:
        """Add frames of one signal, [1, K, T], T >= 0, K as before, with a length. Raises ShapeError or CodesError."""
        if codes.length is None:
            raise CodesError("codes without a length cannot be written; give Codes(..., length=samples)")
        scale = None if codes.scale is None else codes.scale.cpu().numpy()
        self.write(CodesBlock(codes.data.cpu().numpy(), scale, codes.length))

    def write(self, codes: CodesBlock) -> None:
        """`append` for NumPy arrays. Raises DtypeError, too."""
        if codes.data.dtype.kind not in "iu":
            raise DtypeError(f"codes are {codes.data.dtype}; they must be integers")
        if codes.data.ndim != 3 or len(codes.data) != 1 or (self.codebooks and codes.data.shape[1] != self.codebooks):
            raise ShapeError(
                f"codes have the shape {list(codes.data.shape)}; a codes file holds [1, {self.codebooks or 'K'}, T]"
            )
        if self.codebooks and (codes.scale is not None) != self._scaled:
            raise ShapeError("some codes have a scale and some have none; a codes file holds one kind")
        rows = codes.data[0].T
        if codes.scale is not None and codes.scale.shape != (1, len(rows)):
            raise ShapeError(f"scale has the shape {list(codes.scale.shape)}; it must be [1, {len(rows)}], one a frame")
        if rows.size and (rows.min() < 0 or rows.max() >= self.header.codebook_size):
            raise CodesError(f"a code is outside 0..{self.header.codebook_size - 1}")
        try:
            self._codes.write(rows.astype(self._dtype).tobytes())
            if codes.scale is not None:
                self._scale.write(codes.scale[0].astype("<f4").tobytes())
        except OSError as error:
            raise self._failed(error) from error
        self.codebooks, self._scaled = rows.shape[1], codes.scale is not None
        self.frames += len(rows)
        self.length += codes.length

    def _finish(self) -> None:
        if not self.codebooks:
            raise AudioError(f"there are no codes to write to {self.path}")
        self._assemble(self._new.file)

    def abort(self) -> None:
        """Leave no file; does nothing after `close`."""
        with contextlib.suppress(OSError):  # the disk is full
            self._spools.close()
        super().abort()

    def _assemble(self, file: IO[bytes]) -> None:
        header = dataclasses.replace(self.header, length=self.length)
        layout: dict[str, Any] = {"__metadata__": header.metadata()}
        end = 0
        if self._scaled:  # before the codes, so that its 4-byte numbers stay aligned
            layout["scale"], end = _entry("F32", [1, self.frames], 0)
        if self._entropy is not None:
            with tempfile.TemporaryFile(dir=self.directory) as spool:
                table = self._code(self._entropy, spool)
                layout["__metadata__"] |= {
                    "version": CODED_VERSION, "entropy": self._entropy.hash, "codebooks": str(self.codebooks),
                    "frames": str(self.frames),
                }  # fmt: skip
                layout["blocks"], end = _entry("I32", list(table.shape), end)
                layout["coded"], _ = _entry("U8", [spool.tell()], end)
                self._begin_file(file, layout)
                file.write(table.tobytes())
                spool.seek(0)
                shutil.copyfileobj(spool, file)
            return
        layout["codes"], _ = _entry(self._dtype_name, [1, self.codebooks, self.frames], end)
        self._begin_file(file, layout)
        self._transpose(file, file.tell())

    def _code(self, model: EntropyModel, spool: IO[bytes]) -> "np.ndarray[Any, Any]":
        """All blocks to the spool; [B, 2] of their sizes and checks."""
        places = []
        self._codes.seek(0)
        size = self.codebooks * self._dtype.itemsize
        pieces = iter(lambda: self._codes.read(BLOCK * size), b"")
        rows = (np.frombuffer(piece, self._dtype).reshape(-1, self.codebooks) for piece in pieces)
        for data, check in coded_blocks(Predictor(model), rows):
            spool.write(data)
            places.append((len(data), check))
        return np.array(places, _DTYPES["I32"]).reshape(-1, 2)

    def _begin_file(self, file: IO[bytes], layout: dict[str, Any]) -> None:
        """The header, and the scales where there are any."""
        text = json.dumps(layout).encode()
        text += b" " * (-len(text) % 8)
        file.write(struct.pack("<Q", len(text)) + text)
        if self._scaled:
            self._scale.seek(0)
            while piece := self._scale.read(2**20):
                file.write(piece)

    def _transpose(self, file: IO[bytes], offset: int) -> None:
        self._codes.seek(0)
        for start in range(0, self.frames, TRANSPOSE_FRAMES):
            frames = min(TRANSPOSE_FRAMES, self.frames - start)
            block = self._codes.read(frames * self.codebooks * self._dtype.itemsize)
            rows = np.frombuffer(block, self._dtype).reshape(frames, self.codebooks).T
            for index, row in enumerate(rows):
                file.seek(offset + (index * self.frames + start) * self._dtype.itemsize)
                file.write(row.tobytes())


def _entry(dtype: str, shape: list[int], start: int) -> tuple[dict[str, Any], int]:
    end = start + math.prod(shape) * _DTYPES[dtype].itemsize
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}, end


@dataclass(frozen=True)
class _Tensor:
    dtype: "np.dtype[Any]"
    shape: tuple[int, ...]
    start: int  # byte in the file

    @property
    def end(self) -> int:
        return self.start + math.prod(self.shape) * self.dtype.itemsize


class CodesReader(FileReader):
    """A codes file, block by block.

    with CodesReader("codes.safetensors") as reader:
        for codes in reader.blocks(75): ...

    source: a path, or a file object opened to read bytes, which is left open (see `SourceFile`).
    header: what the file says; codebooks, frames: K and T. entropy: the model of codes that are entropy coded; without
    it the one that lies beside the codec that the file names.
    Raises AudioError for a file that is missing, cut short, of another format, version or model, or inconsistent.
    """

    def __init__(self, source: Source | SourceFile, entropy: EntropyModel | None = None) -> None:
        self._source = SourceFile.of(source)
        self._file, self.path = self._source.file, Path(self._source.name)
        try:
            self.header, tensors, metadata = self._read_header()
            self._scale, self._coded = tensors.get("scale"), None
            if "coded" in tensors:
                self._coded = self._open_coded(tensors, metadata, entropy)
            else:
                self._codes = tensors["codes"]
                _, self.codebooks, self.frames = self._codes.shape
        except ValueError as error:
            self._source.close()
            raise AudioError(f"{self.path} {error}") from error
        except AudioError:
            self._source.close()
            raise

    def _open_coded(self, tensors: "dict[str, _Tensor]", metadata: Any, entropy: EntropyModel | None) -> CodedFrames:
        self.codebooks, self.frames, hash = sizes_of(metadata)
        blocks, coded = tensors["blocks"], tensors["coded"]
        if blocks.shape != (-(-self.frames // BLOCK), 2) or len(coded.shape) != 1:
            raise ValueError(f"has {list(blocks.shape)} blocks for {self.frames} frames")
        if self._scale is not None and self._scale.shape != (1, self.frames):
            raise ValueError(f"has 'scale' of the shape {list(self._scale.shape)}; it must be [1, {self.frames}]")
        table = self._numbers(blocks, 0, math.prod(blocks.shape)).reshape(-1, 2)
        places = places_of(table, coded.start, coded.end - coded.start)
        model = model_of_file(str(self.path), hash, self.header.source, entropy)
        check_model(model, self.header)
        return CodedFrames(str(self.path), Predictor(model), places, (self.codebooks, self.frames))

    def blocks(self, frames: int, samples: Callable[[int], int] | None = None) -> "Iterator[Codes]":
        """All codes, `frames` at a time; only the last block may have fewer, and its length is what remains.

        samples: samples that the first n frames stand for, `CodecSpec.samples`; default: n times the hop.
        Raises CodesError at a block with a code outside the codebook.
        """
        with needs_torch():
            import torch

            from ..codes import Codes
        for data, scale, length in self.arrays(frames, samples):
            yield Codes(torch.from_numpy(data), None if scale is None else torch.from_numpy(scale), length)

    def arrays(self, frames: int, samples: Callable[[int], int] | None = None) -> Iterator[CodesBlock]:
        """`blocks` as NumPy arrays; needs no torch."""
        for span in spans(self.frames, frames, self.header, samples or self.header.hop_length.__mul__):
            yield self._block(*span)

    def _block(self, start: int, end: int, length: int) -> CodesBlock:
        if self._coded is not None:
            data = self._coded.rows(self._bytes, start, end)[None]
        else:
            rows = [self._numbers(self._codes, k * self.frames + start, end - start) for k in range(self.codebooks)]
            data = np.stack(rows)[None].astype(np.int64)
        if data.min() < 0 or data.max() >= self.header.codebook_size:
            raise CodesError(
                f"{self.path} holds a code outside 0..{self.header.codebook_size - 1} in frames {start}..{end - 1}"
            )
        scale = None
        if self._scale is not None:
            scale = self._numbers(self._scale, start, end - start)[None].astype(np.float32)
        return CodesBlock(data, scale, length)

    def _numbers(self, tensor: _Tensor, index: int, count: int) -> "np.ndarray[Any, Any]":
        size = tensor.dtype.itemsize
        return np.frombuffer(self._bytes(tensor.start + index * size, count * size), tensor.dtype)

    def _bytes(self, start: int, count: int) -> bytes:
        self._file.seek(start)
        data = self._file.read(count)
        if len(data) < count:
            raise AudioError(f"{self.path} became shorter while it was read")
        return data

    def _read_header(self) -> tuple[CodesHeader, dict[str, _Tensor], dict[str, str]]:
        size = self._file.seek(0, 2)
        self._file.seek(0)
        prefix = self._file.read(8)
        count = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else MAX_HEADER + 1
        if count > MAX_HEADER:
            raise ValueError("is not a codes file: it does not begin with a safetensors header")
        text = self._file.read(count)
        if len(text) < count:
            raise ValueError("is cut short: it ends within its header")
        try:
            layout = json.loads(text)
        except ValueError:
            raise ValueError("is not a codes file: its header is not JSON") from None
        if not isinstance(layout, dict):
            raise ValueError("is not a codes file: its header is no JSON object")
        metadata: Any = layout.get("__metadata__")
        header = CodesHeader.parse(metadata)
        names = ("scale", "blocks", "coded") if metadata["version"] == CODED_VERSION else ("codes", "scale")
        tensors = {name: _tensor(name, layout[name], 8 + count) for name in names if name in layout}
        _check(tensors, size, names)
        return header, tensors, metadata


def check_model(model: EntropyModel, header: CodesHeader) -> None:
    """Raises AudioError where the model is for another codec's codes."""
    if header.fingerprint and model.fingerprint != header.fingerprint:
        raise AudioError(f"the entropy model is for other weights than those of {header.codec} that made the codes")
    if model.codebook_size < header.codebook_size:
        raise AudioError(
            f"the entropy model is for {model.codebook_size} entries, and these are {header.codebook_size}"
        )


def sizes_of(metadata: Any) -> tuple[int, int, str]:
    """Codebooks, frames, and the hash of the model, of codes that are entropy coded. Raises ValueError."""
    try:
        codebooks, frames = int(metadata["codebooks"]), int(metadata["frames"])
    except (KeyError, ValueError):
        raise ValueError("has no number of codebooks and frames in its metadata") from None
    if not 1 <= codebooks <= 255 or frames < 0 or "entropy" not in metadata:
        raise ValueError("has a size in its metadata that cannot be, or names no entropy model")
    return codebooks, frames, str(metadata["entropy"])


def spans(total: int, most: int, header: CodesHeader, samples: Callable[[int], int]) -> Iterator[tuple[int, int, int]]:
    """0..total - 1 in pieces of `most` frames: (first, one past the last, samples that they add to those before).

    samples: that the first n frames stand for, together no more than the header's `length`, which the last piece fills.
    """
    before = 0
    for start in range(0, total, most):
        end = min(start + most, total)
        after = header.length if end == total else min(samples(end), header.length)
        yield start, end, max(0, after - before)
        before = after


def _tensor(name: str, entry: Any, base: int) -> _Tensor:
    allowed = {"codes": ("I16", "I32"), "scale": ("F32",), "blocks": ("I32",), "coded": ("U8",)}[name]
    try:
        dtype, shape = entry["dtype"], tuple(int(size) for size in entry["shape"])
        start, end = (int(offset) for offset in entry["data_offsets"])
        tensor = _Tensor(_DTYPES[dtype], shape, base + start)
    except (TypeError, KeyError, ValueError):
        raise ValueError(f"has a damaged entry for the tensor {name!r}") from None
    if dtype not in allowed:
        raise ValueError(f"has {name!r} as {dtype}; it must be {' or '.join(allowed)}")
    if min(shape, default=0) < 0 or start < 0 or tensor.end != base + end:
        raise ValueError(f"has a damaged entry for the tensor {name!r}")
    return tensor


def _check(tensors: dict[str, _Tensor], size: int, names: tuple[str, ...]) -> None:
    for name in names:
        if name not in tensors and name != "scale":
            raise ValueError(f"has no tensor {name!r}")
    if "codes" in tensors:
        shape = tensors["codes"].shape
        if len(shape) != 3 or shape[0] != 1 or shape[1] < 1:
            raise ValueError(f"has 'codes' of the shape {list(shape)}; it must be [1, K, T]")
        if "scale" in tensors and tensors["scale"].shape != (1, shape[2]):
            raise ValueError(f"has 'scale' of the shape {list(tensors['scale'].shape)}; it must be [1, {shape[2]}]")
    end = max(tensor.end for tensor in tensors.values())
    if size < end:
        raise ValueError(f"is cut short: {size} of {end} bytes are there")
