"""Prints docs/formats.md: ``python tests/formats_table.py > docs/formats.md``.

Files of each kind that soundfile writes, and files whose headers are edited by hand, each read in pieces by AudioReader
and compared with the samples that went in. `tests/test_formats.py` holds each row to its word, and the page to this.
"""

import contextlib
import io
import re
import struct
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
from numpy.typing import NDArray

from streamcodec import audio
from streamcodec.audio import AudioReader
from streamcodec.errors import StreamcodecError

Array = NDArray[np.float32]
RATE, LENGTH, PIECE = 16000, 5003, 997
TIME = np.arange(LENGTH) / RATE
SIGNAL = np.rint(9000 * (np.sin(2 * np.pi * 330 * TIME) + np.sin(2 * np.pi * 517 * TIME))).astype(np.int16)
HALVES = SIGNAL.astype(np.float32) / 32768

BITS = "bit for bit"
LOSSY = "every sample, at the format's precision"
BLOCKS = "every sample; zeros or noise fill its last block"
REFUSED = "refused"

# By the samples' coding: the largest error, or a signal-to-noise ratio in dB after the coder has settled.
ERRORS = {"PCM_S8": 0.01, "PCM_U8": 0.01, "DPCM_8": 0.3, "DWVW_12": 0.001, "ULAW": 0.02, "ALAW": 0.02}
SNR = {"OPUS": 8, "VORBIS": 10, "MPEG_LAYER_III": 15}
WHOLE_BLOCKS = {("WAV", "IMA_ADPCM"), ("W64", "IMA_ADPCM"), ("W64", "MS_ADPCM"), ("AIFF", "IMA_ADPCM")}
WHOLE_BLOCKS |= {("AU", "G721_32"), ("AU", "G723_24"), ("AU", "G723_40"), ("PAF", "PCM_24")}
LONGEST_BLOCK = 4096


class Variant(NamedTuple):
    """A file. want: its samples [n]; None if it must be refused. coding: soundfile's name. grade: what is promised."""

    container: str
    coding: str
    header: str
    data: bytes
    want: Array | None
    grade: str
    suffix: str = ""


def written(container: str, coding: str, pcm: NDArray[np.int16] = SIGNAL, **options: float | str) -> bytes:
    """What soundfile makes of the signal."""
    buffer = io.BytesIO()
    whole = coding in ("FLOAT", "DOUBLE", "VORBIS", "OPUS", "MPEG_LAYER_III")
    samples = pcm.astype(np.float32) / 32768 if whole else pcm
    soundfile.write(buffer, samples, RATE, format=container, subtype=coding, **options)
    return buffer.getvalue()


def decoded(data: bytes) -> Array:
    """In one piece, as soundfile reads it."""
    samples, _ = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)
    return np.asarray(samples[:, 0])


def plain() -> Iterator[Variant]:
    """Each container with each coding that soundfile writes."""
    for container in sorted(soundfile.available_formats()):
        for coding in soundfile.available_subtypes(container):
            if container in ("RAW", "SD2"):  # without a header; in two files
                continue
            # libsndfile writes whole blocks of SDS only, and the byte that makes an AIFF even as a sample.
            whole = LENGTH - LENGTH % {"SDS": 120, "AIFF": 2}.get(container, 1)
            try:
                data = written(container, coding, SIGNAL[:whole])
            except soundfile.LibsndfileError:
                continue
            if container == "VOC" and coding.endswith("LAW"):  # libsndfile writes a size that is too large by one
                data = edited(data, data.index(b"\t", 26) + 1, (LENGTH + 12).to_bytes(3, "little"))
            exact = coding not in (*ERRORS, *SNR) and not coding.startswith(("IMA", "MS_", "GSM", "G72", "NMS"))
            grade = BLOCKS if (container, coding) in WHOLE_BLOCKS else BITS if exact else LOSSY
            yield Variant(container, coding, "", data, HALVES[:whole], grade)


def edited(data: bytes, at: int, new: bytes) -> bytes:
    """The bytes with others in their place."""
    return data[:at] + new + data[at + len(new) :]


# -- headers by hand -----------------------------------------------------------------------------------------------

RAW = SIGNAL.astype("<i2").tobytes()
FMT = struct.pack("<HHIIHH", 1, 1, RATE, 2 * RATE, 2, 16)
GUID = bytes.fromhex("000000001000800000aa00389b71")
LIST = b"LIST" + struct.pack("<I", 26) + b"INFOISFT" + struct.pack("<I", 14) + b"Lavf60.16.100\0"
ID3V2 = b"ID3\x03\0\0" + bytes([0, 2, 0, 0]) + bytes(2 << 14)
ID3V1 = b"TAG" + bytes(125)
APE = b"APETAGEX" + struct.pack("<IIII", 2000, 232, 1, 0) + bytes(8)
APEV2 = bytes(200) + APE


def wav(raw: bytes = RAW, fmt: bytes = FMT, size: int | None = None, riff: int | None = None, **around: bytes) -> bytes:
    """A WAV file; `size` and `riff` in place of what is true."""
    chunk = b"fmt " + struct.pack("<I", len(fmt)) + fmt + around.get("before", b"")
    size = len(raw) if size is None else size
    body = b"WAVE" + chunk + b"data" + struct.pack("<I", size) + raw + around.get("behind", b"")
    return around.get("magic", b"RIFF") + struct.pack("<I", len(body) if riff is None else riff) + body


def extensible(tag: int, bits: int, valid: int) -> bytes:
    """The chunk "fmt " in its long form."""
    width = bits // 8
    head = struct.pack("<HHIIHHHHI", 0xFFFE, 1, RATE, width * RATE, width, bits, 22, valid, 4)
    return head + struct.pack("<H", tag) + GUID


def long_wav(magic: bytes, size: int) -> bytes:
    """RF64 and its likes."""
    sizes = b"ds64" + struct.pack("<IQQQI", 28, 72 + len(RAW), size, LENGTH, 0)
    chunks = sizes + b"fmt " + struct.pack("<I", 16) + FMT + b"data\xff\xff\xff\xff" + RAW
    return magic + b"\xff\xff\xff\xffWAVE" + chunks


def of_wav() -> Iterator[tuple[str, bytes, Array | None]]:
    for size in (0, 0xFFFFFFFF, 0x7FFFFFFF, 0x80000000, 0x7FFFF000, 0xFFFFFFD7):
        yield f"size of samples {size:,}", wav(size=size), HALVES
        yield f"the same behind a LIST, RIFF size {size:,}", wav(size=size, riff=size, before=LIST), HALVES
    yield "size of samples 2,000,000,000, RIFF size -1", wav(size=2_000_000_000, riff=0xFFFFFFFF), HALVES
    yield "half the size of what is there", wav(size=4000), HALVES
    yield "size of samples 4,000 too large", wav(size=len(RAW) + 4000), None
    yield "cut in the middle", wav()[:5000], None
    yield "cut, of 3 GB", wav(size=3_000_000_000, riff=3_000_000_036), None
    for size in (0, 4, 0xFFFFFFFF):
        yield f"RIFF size {size:,}", wav(riff=size), HALVES
    yield "LIST behind", wav(behind=LIST), HALVES
    yield "3 bytes of junk behind", wav(behind=b"abc"), HALVES
    yield "ID3v2 chunk behind", wav(behind=b"id3 " + struct.pack("<I", len(ID3V2)) + ID3V2), HALVES
    yield "text behind", wav() + b"<?xml version?>" * 50, HALVES
    yield "ID3v1 behind", wav() + ID3V1, HALVES
    yield "ID3v2 in front", ID3V2 + wav(), HALVES
    yield "odd size, no byte to make it even", wav(RAW + b"\1"), HALVES
    odd = wav(RAW + b"\1")
    yield "odd size, LIST behind without that byte", odd + LIST, HALVES
    second = b"data" + struct.pack("<I", len(RAW) - 4000) + RAW[4000:]
    yield "two chunks of samples", wav(RAW[:4000], behind=second), HALVES
    yield "two files joined", wav() + wav(before=LIST), np.tile(HALVES, 2)
    yield "two files joined, the sizes of the second 0", wav() + wav(size=0, riff=0), np.tile(HALVES, 2)
    yield "two files of different rates joined", wav() + wav(fmt=edited(FMT, 4, struct.pack("<I", 8000))), None
    yield "extensible", wav(fmt=extensible(1, 16, 16)), HALVES
    yield "extensible, 24 bits in 32", wav((SIGNAL.astype("<i4") << 16).tobytes(), extensible(1, 32, 24)), HALVES
    wide = (SIGNAL.astype("<i4") << 8).view("u1").reshape(-1, 4)[:, :3].tobytes()
    yield "extensible, 20 bits in 24", wav(wide, extensible(1, 24, 20)), HALVES
    yield "bytes a second 1", wav(fmt=edited(FMT, 8, struct.pack("<I", 1))), HALVES
    yield "bytes a frame 0", wav(fmt=edited(FMT, 12, b"\0\0")), HALVES
    turned = struct.pack(">IHHIIHH", 16, 1, 1, RATE, 2 * RATE, 2, 16)
    big = b"RIFX" + struct.pack(">I", 36 + len(RAW)) + b"WAVEfmt " + turned
    swapped = SIGNAL.astype(">i2").tobytes()
    yield "big-endian (RIFX)", big + b"data" + struct.pack(">I", len(RAW)) + swapped, HALVES
    yield "big-endian (RIFX), size of samples -1", big + b"data\xff\xff\xff\xff" + swapped, HALVES
    yield "RF64, sizes 0", long_wav(b"RF64", 0), HALVES
    yield "RF64, half the size", long_wav(b"RF64", 5002), HALVES
    yield "BW64", long_wav(b"BW64", len(RAW)), HALVES
    yield "rate 0", wav(fmt=edited(FMT, 4, bytes(4))), None
    yield "0 channels", wav(fmt=edited(FMT, 2, bytes(2))), None
    yield "no samples", wav(b""), None
    yield "no samples, size -1", wav(b"", size=0xFFFFFFFF), None
    yield "16-bit float", wav(HALVES.astype("<f2").tobytes(), edited(FMT, 0, b"\3\0")), None


def of_others() -> Iterator[tuple[str, str, str, bytes, Array | None]]:
    """(container, coding, header, bytes, samples)"""
    twice = np.tile(HALVES, 2)
    aiff = written("AIFF", "PCM_16")
    sound, common = aiff.index(b"SSND"), aiff.index(b"COMM")
    yield "AIFF", "PCM_16", "size of samples 0", edited(aiff, sound + 4, bytes(4)), HALVES
    yield "AIFF", "PCM_16", "number of samples 0", edited(aiff, common + 10, bytes(4)), HALVES
    yield "AIFF", "PCM_16", "half the size", edited(aiff, sound + 4, struct.pack(">I", 5008)), HALVES
    yield "AIFF", "PCM_16", "two files joined", aiff + aiff, twice
    yield "AIFF", "PCM_16", "cut in the middle", aiff[:5000], None
    au = written("AU", "PCM_16")
    for size in (0, 0xFFFFFFFF, 5000):
        yield "AU", "PCM_16", f"size of samples {size:,}", edited(au, 8, struct.pack(">I", size)), HALVES
    yield "AU", "PCM_16", "two files joined", au + au, twice
    yield "AU", "PCM_16", "cut in the middle", au[:5000], None
    caf = written("CAF", "PCM_16")
    place = caf.index(b"data") + 4
    yield "CAF", "PCM_16", "size of samples -1", edited(caf, place, b"\xff" * 8), HALVES
    yield "CAF", "PCM_16", "half the size", edited(caf, place, struct.pack(">Q", 5004)), HALVES
    yield "CAF", "PCM_16", "two files joined", caf + caf, twice
    yield "CAF", "PCM_16", "cut in the middle", caf[:6000], None
    w64 = written("W64", "PCM_16")
    place = w64.index(b"data\xf3") + 16
    yield "W64", "PCM_16", "size of samples 0", edited(w64, place, bytes(8)), HALVES
    yield "W64", "PCM_16", "size of samples -1", edited(w64, place, b"\xff" * 8), HALVES
    yield "W64", "PCM_16", "two files joined", w64 + w64, twice
    yield "W64", "PCM_16", "cut in the middle", w64[:5000], None
    yield from ((*row[:1], "PCM_16", *row[1:]) for row in of_flac())
    yield from of_ogg()
    for container, data in (("M4A", b"\0\0\0\x20ftypM4A "), ("WebM", bytes.fromhex("1a45dfa3")), ("headerless", RAW)):
        yield container, "", "", data + bytes(400), None
    yield "empty file", "", "", b"", None


def of_flac() -> Iterator[tuple[str, str, bytes, Array | None]]:
    flac, twice = written("FLAC", "PCM_16"), np.tile(HALVES, 2)
    high = flac[21] & 0xF0

    def counting(samples: int) -> bytes:
        return edited(flac, 21, bytes([high]) + samples.to_bytes(4, "big"))

    yield "FLAC", "number of samples unknown", counting(0), HALVES
    yield "FLAC", "half the number of samples", counting(2500), HALVES
    yield "FLAC", "64 samples too many", counting(LENGTH + 64), None
    yield "FLAC", "ID3v2 in front", ID3V2 + flac, HALVES
    yield "FLAC", "ID3v1 behind", flac + ID3V1, HALVES
    yield "FLAC", "ID3v1 behind, number of samples unknown", counting(0) + ID3V1, HALVES
    yield "FLAC", "junk behind", flac + b"junk" * 99, HALVES
    yield "FLAC", "two files joined", flac + flac, twice
    yield "FLAC", "cut in the middle", flac[: len(flac) // 2], None


def of_ogg() -> Iterator[tuple[str, str, str, bytes, Array | None]]:
    for coding in ("VORBIS", "OPUS"):
        ogg = written("OGG", coding)
        whole = decoded(ogg)
        yield "OGG", coding, f"{coding.capitalize()}, two files joined (chained)", ogg + ogg, np.tile(whole, 2)
        yield "OGG", coding, f"{coding.capitalize()}, three files joined", ogg * 3, np.tile(whole, 3)
        yield "OGG", coding, f"{coding.capitalize()}, zeros behind", ogg + bytes(3000), whole
        yield "OGG", coding, f"{coding.capitalize()}, ID3v2 in front", ID3V2 + ogg, whole
        yield "OGG", coding, f"{coding.capitalize()}, cut in the middle", ogg[: len(ogg) // 2], None
        yield "OGG", coding, f"{coding.capitalize()}, cut between two pages", ogg[: ogg.rindex(b"OggS")], None
        pages = [at for at in range(len(ogg)) if ogg[at : at + 4] == b"OggS"]
        yield "OGG", coding, f"{coding.capitalize()}, a page missing", ogg[: pages[1]] + ogg[pages[2] :], None


def of_mpeg() -> Iterator[tuple[str, bytes, Array | None]]:
    loud = np.concatenate([SIGNAL // 2000, SIGNAL, np.random.default_rng(0).integers(-9000, 9000, 9000, np.int16)])
    for mode in ("VARIABLE", "CONSTANT"):
        data = written("MP3", "MPEG_LAYER_III", loud, bitrate_mode=mode, compression_level=0.5)
        whole, name = decoded(data), {"VARIABLE": "VBR", "CONSTANT": "CBR"}[mode]
        size = next(at for at in range(4, len(data)) if data[at : at + 2] == data[:2] and data[at + 3] == data[3])
        frames = data[size:]
        begun = np.concatenate([np.full(1105, np.nan, np.float32), whole])  # NaN: whatever the decoder begins with
        yield name, data, whole
        yield f"{name}, no Xing header", frames, begun
        yield f"{name}, no Xing header, ID3v2 in front", ID3V2 + frames, begun
        yield f"{name}, ID3v2 in front", ID3V2 + data, whole
        yield f"{name}, ID3v1 and APE behind", data + APEV2 + ID3V1, whole
        yield f"{name}, text in front", b"HTTP/1.0 200 OK\r\n\r\n" + data, whole
        yield f"{name}, zeros behind", data + bytes(5000), whole
        yield f"{name}, two files joined", data + data, np.tile(whole, 2)
        tagged = ID3V2 + data + ID3V1 + ID3V2 + data + APEV2
        yield f"{name}, two files joined with tags between", tagged, np.tile(whole, 2)
        yield f"{name}, in a WAV", wav(data, struct.pack("<HHIIHH", 0x55, 1, RATE, 4000, 1, 0)), whole
        yield f"{name}, cut in the middle", data[: len(data) // 2], None
        yield f"{name}, no Xing header, cut in the middle of a frame", frames[: len(frames) // 2], None
        yield f"{name}, bytes missing in the middle", data[: len(data) // 2] + data[len(data) // 2 + 700 :], None


def variants() -> list[Variant]:
    """All, in the order of the page."""
    found = list(plain())
    found += [Variant("WAV", "PCM_16", *row, BITS if row[2] is not None else REFUSED) for row in of_wav()]
    found += [Variant(*row, BITS if row[4] is not None else REFUSED) for row in of_others()]
    for header, data, want in of_mpeg():
        grade = REFUSED if want is None else LOSSY if np.isnan(want[0]) else BITS
        found.append(Variant("MP3", "MPEG_LAYER_III", header, data, want, grade))
    return found


# -- reading -------------------------------------------------------------------------------------------------------


def read(variant: Variant, folder: Path) -> tuple[str, str]:
    """What becomes of the file: one of the grades, and the message of an error. Raises AssertionError if neither."""
    path = folder / "file"
    path.write_bytes(variant.data)
    try:
        with AudioReader(path, _rate(path), 1, PIECE) as reader:
            pieces, length = list(reader), reader.length
    except StreamcodecError as error:
        return REFUSED, str(error).replace(str(path), "FILE")
    got, want = np.concatenate(pieces, 1)[0], variant.want
    if want is None:
        raise AssertionError(f"{variant[:3]} was read: {len(got)} samples")
    # An MPEG file that does not say where its samples end has those that fill its last frame.
    room = LONGEST_BLOCK if variant.grade == BLOCKS else 1152 if np.isnan(want[0]) else 0
    assert 0 <= len(got) - len(want) <= room, f"{variant[:3]}: {len(got)} of {len(want)} samples"
    assert length in (None, len(got)), f"{variant[:3]}: length {length} of {len(got)}"
    return _grade(variant, got[: len(want)], want), ""


def _rate(path: Path) -> int:
    """The file's own rate: some containers know a few only. Reading at it changes no sample."""
    from streamcodec.containers import Recording

    with path.open("rb") as file:
        return Recording(file, str(path)).sample_rate if path.stat().st_size else RATE


def _grade(variant: Variant, got: Array, want: Array) -> str:
    known = ~np.isnan(want)
    if np.array_equal(got[known], want[known]):
        return variant.grade if variant.grade == BLOCKS else BITS
    error = (got - want)[known]
    if (limit := ERRORS.get(variant.coding)) is not None:
        assert np.abs(error).max() <= limit, f"{variant[:3]}: an error of {np.abs(error).max()}"
    else:
        ratio = 10 * np.log10((want[known][1000:] ** 2).sum() / (error[1000:] ** 2).sum())
        assert ratio > SNR.get(variant.coding, 15), f"{variant[:3]}: {ratio:.1f} dB"
    return variant.grade if variant.grade == BLOCKS else LOSSY


@contextlib.contextmanager
def small_pieces() -> Iterator[None]:
    """Files are read in pieces far smaller than they are."""
    before, audio.READ_FRAMES = audio.READ_FRAMES, PIECE
    try:
        yield
    finally:
        audio.READ_FRAMES = before


# -- the page ------------------------------------------------------------------------------------------------------

HEAD = f"""# Audio files: what is read and written

`streamcodec` writes `.wav` and `.flac` with 16 bits, `.ogg` with Vorbis, and `.mp3`.

It reads the files below, from a path, a pipe or a file object. This page is made by `python tests/formats_table.py`: it
makes each file, reads it in pieces, and compares the samples with those that went in. Nothing is read short without a
word: what is not whole is refused before the work begins.

- *{BITS}*: the samples are those that went in; of MPEG and of joined Ogg files, those of a decoder that gets the
  file whole and in one piece.
- *{LOSSY}*: all are there, in their places, as well as the coding keeps them.
- *{BLOCKS}*: the file does not say how many samples its last block holds.

Joined files must have one sample rate and one number of channels. An MP3 without a Xing header does not say how many
samples its encoder put in front (1,105 as a rule), and keeps them.

## Containers and codings

The names are libsndfile's; files without a header (`RAW`) and the two files of `SD2` are left out.

| container | codings | read |
|---|---|---|
"""


def page() -> str:
    """The text of docs/formats.md. Raises AssertionError where a file is read wrong."""
    rows: dict[tuple[str, str], list[str]] = {}
    headers = []
    with tempfile.TemporaryDirectory() as folder, small_pieces():
        for variant in variants():
            grade, message = read(variant, Path(folder))
            assert grade == variant.grade, f"{variant[:3]}: {grade} {message}"
            if not variant.header and variant.coding:
                rows.setdefault((variant.container, grade), []).append(variant.coding)
            else:
                headers.append(f"| {variant.container} | {variant.header} | {_said(grade, message)} |\n")
    text = HEAD + "".join(f"| {name} | {', '.join(codings)} | {grade} |\n" for (name, grade), codings in rows.items())
    return text + "\n## Headers, tags and damage\n\n| container | the file | read |\n|---|---|---|\n" + "".join(headers)


def _said(grade: str, message: str) -> str:
    """The message without its numbers, which are those of an encoder's version."""
    return f"{grade}: {re.sub(r'[0-9][0-9.,]*', 'N', message.removeprefix('FILE '))}" if message else grade


if __name__ == "__main__":
    sys.stdout.write(page())
