"""Codes and PCM as bytes: the media packets of docs/protocol.md. `bits` packs the codes.

A packet is a header of 24 bytes, little endian, and a payload::

    offset  size  field
         0     1  version    1
         1     1  kind       1 PCM, 2 codes
         2     2  flags
         4     4  sequence   of all numbered messages of one direction, modulo 2**32
         8     8  index      of the packet's first sample (PCM) or frame (codes) in its stream
        16     2  stream     speaker of a room; 0 elsewhere
        18     2  count      samples a channel (PCM) or frames (codes)
        20     1  depth      channels (PCM) or codebooks (codes)
        21     1  width      bits of a sample (16 integer, 32 float) or of a code (1 to 16)
        22     2  check      of coded codes, else 0

Codes lie codebook after codebook, least significant bit first, so that the first codebooks are a prefix of the payload:
`drop_codebooks` cuts a packet without unpacking it.

Knows nothing of sessions: that an index follows the one before is checked in `protocol`.
"""

import struct
import zlib
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .bits import MAX_WIDTH, pack_bits, unpack_bits
from .entropy.frames import Coded
from .errors import InputError

__all__ = [
    "CODED",
    "CODES",
    "CRC",
    "DISCONTINUITY",
    "EARLIER",
    "HEADER_BYTES",
    "LAST",
    "LENGTH",
    "MAX_INDEX",
    "PCM",
    "REDUCED",
    "RESTART",
    "SCALE",
    "VERSION",
    "Array",
    "CodedMessage",
    "CodesMessage",
    "EarlierFrames",
    "Header",
    "Likeness",
    "Packet",
    "PacketError",
    "PcmMessage",
    "check_crc",
    "drop_codebooks",
    "pack",
    "pack_pcm",
    "read_header",
    "unpack",
    "unpack_samples",
]

VERSION = 1
PCM = 1  # kinds
CODES = 2

# Plain integers: combining members of an IntFlag costs more than packing a packet.
LAST = 1  # the stream ends with this packet
DISCONTINUITY = 2  # what lies between the end of the stream's packet before and this index is missing
REDUCED = 4  # fewer codebooks than were agreed, since the receiver is slow
SCALE = 8  # a gain for each frame
LENGTH = 16  # samples of the whole stream; only with LAST
CRC = 32  # CRC-32 of all that comes before it
CODED = 64  # the codes are entropy coded: see `streamcodec.entropy`
RESTART = 128  # with CODED: they were coded without those before
EARLIER = 256  # lower codebooks of the frames before this packet's, in case that these were lost; not with CODED
FLAGS = {
    PCM: LAST | DISCONTINUITY | CRC,
    CODES: LAST | DISCONTINUITY | REDUCED | SCALE | LENGTH | CRC | CODED | RESTART | EARLIER,
}

HEADER = struct.Struct("<BBHIQHHBBH")
HEADER_BYTES = HEADER.size
AROUND_NUMBERS = struct.Struct("<4sIQ8s")  # a header as its two numbers, sequence and index, and what is around them
EARLIER_HEAD = struct.Struct("<HBB")  # frames, codebooks, 0
MAX_INDEX = 2**53 - 1  # the greatest whole number that a JavaScript number counts up to
_U16, _U32 = 0xFFFF, 0xFFFFFFFF
_PCM_TYPES: "dict[int, np.dtype[Any]]" = {16: np.dtype("<i2"), 32: np.dtype("<f4")}
_PCM_WIDTHS = {"h": 16, "f": 32}  # by numpy's letters: int16 and float32

Array: TypeAlias = NDArray[Any]


class PacketError(InputError):
    """Bytes that are no packet, or a packet that cannot be written.

    code: the protocol's error code: "bad_message", "unsupported_version" or "bad_crc".
    """

    def __init__(self, message: str, code: str = "bad_message") -> None:
        super().__init__(message)
        self.code = code


@dataclass(slots=True)
class Header:
    """The fields of a packet's header; see the head of this file."""

    kind: int
    flags: int
    sequence: int
    index: int
    stream: int
    count: int
    depth: int
    width: int
    check: int = 0


@dataclass(eq=False, slots=True)
class PcmMessage:
    """Audio: samples [N, C] int16 or float32, interleaved as on the wire; index: of the first, at the stream's rate."""

    sequence: int
    index: int
    samples: Array
    stream: int = 0
    last: bool = False
    discontinuity: bool = False
    crc: bool = False


@dataclass(frozen=True, eq=False)
class EarlierFrames:
    """The frames just before a packet's, with fewer codebooks: codes [K, T], scale [T] float32 where the codec has one.

    `redundancy` makes and takes them.
    """

    codes: Array
    scale: Array | None = None


@dataclass(frozen=True, eq=False)
class CodesMessage:
    """Codes: codes [K, T] uint16 of `bits` bits each; index: of the first frame.

    scale: [T] float32, for codecs that normalise their input. length: samples of the whole stream, at the codec's rate,
    where the packet is the last and the length is known. earlier: see `EarlierFrames`.
    """

    sequence: int
    index: int
    codes: Array
    bits: int
    stream: int = 0
    scale: Array | None = None
    length: int | None = None
    last: bool = False
    discontinuity: bool = False
    reduced: bool = False
    crc: bool = False
    earlier: EarlierFrames | None = None


@dataclass(frozen=True, eq=False)
class CodedMessage:
    """Codes that are entropy coded: `coded` stands for `frames` frames of `codebooks` codebooks.

    restart: they were coded without those before. The rest as in a `CodesMessage`.
    """

    sequence: int
    index: int
    coded: Coded
    codebooks: int
    frames: int
    bits: int
    stream: int = 0
    scale: Array | None = None
    length: int | None = None
    last: bool = False
    discontinuity: bool = False
    reduced: bool = False
    crc: bool = False
    restart: bool = False


Packet: TypeAlias = PcmMessage | CodesMessage | CodedMessage


def pack(packet: Packet) -> bytes:
    """The packet's bytes. Raises PacketError for a field that does not fit."""
    if isinstance(packet, PcmMessage):
        return pack_pcm(
            packet.sequence, packet.index, packet.samples, packet.stream, packet.last, packet.discontinuity, packet.crc
        )
    return _pack_codes(packet) if isinstance(packet, CodesMessage) else _pack_coded(packet)


def pack_pcm(
    sequence: int, index: int, samples: Array, stream: int = 0, last: bool = False, discontinuity: bool = False,
    crc: bool = False,
) -> bytes:  # fmt: skip
    """The bytes of the `PcmMessage` of these fields, without making one: it is what a live server writes most."""
    width = _PCM_WIDTHS.get(samples.dtype.char)
    if width is None or samples.ndim != 2:
        raise PacketError(
            f"samples are {samples.dtype} of {samples.ndim} dimensions; they must be int16 or float32 [N, C]"
        )
    flags = (LAST if last else 0) | (DISCONTINUITY if discontinuity else 0) | (CRC if crc else 0)
    body = samples.astype(_PCM_TYPES[width], copy=False).tobytes()
    count, depth = samples.shape
    return _assemble(sequence, index, stream, PCM, flags, count, depth, width, body)


def _pack_codes(packet: CodesMessage) -> bytes:
    codes = packet.codes
    _check_codes(codes, packet.bits)
    flags, extra = _extra(packet, codes.shape[1])
    body = extra + pack_bits(codes, packet.bits)
    if packet.earlier is not None:
        flags, body = flags | EARLIER, body + _pack_earlier(packet.earlier, packet)
    depth, count = codes.shape
    return _assemble(packet.sequence, packet.index, packet.stream, CODES, flags, count, depth, packet.bits, body)


def _check_codes(codes: Array, bits: int) -> None:
    if codes.ndim != 2 or codes.dtype.kind not in "iu":
        raise PacketError(f"codes are {codes.dtype} of {codes.ndim} dimensions; they must be integers [K, T]")
    if not 1 <= bits <= MAX_WIDTH:
        raise PacketError(f"{bits} bits a code; it must be 1 to {MAX_WIDTH}")
    if codes.size and (codes.min() < 0 or int(codes.max()) >> bits):
        raise PacketError(f"codes from {codes.min()} to {codes.max()} do not fit in {bits} bits")


def _pack_earlier(earlier: EarlierFrames, packet: CodesMessage) -> bytes:
    codes, scale = earlier.codes, earlier.scale
    _check_codes(codes, packet.bits)
    depth, count = codes.shape
    if not (1 <= depth <= 255 and 1 <= count <= min(_U16, packet.index)):
        raise PacketError(f"{count} earlier frames of {depth} codebooks, before frame {packet.index}")
    if (scale is None) != (packet.scale is None) or (scale is not None and scale.shape != (count,)):
        raise PacketError("earlier frames have a scale each where the packet's frames have")
    scales = b"" if scale is None else scale.astype("<f4").tobytes()
    return EARLIER_HEAD.pack(count, depth, 0) + scales + pack_bits(codes, packet.bits)


def _pack_coded(packet: CodedMessage) -> bytes:
    if packet.frames < 1 or not 1 <= packet.bits <= MAX_WIDTH or not 0 <= packet.coded.check <= _U16:
        raise PacketError(
            f"{packet.frames} coded frames of {packet.bits} bits a code, check {packet.coded.check}: a coded one has "
            f"at least one frame, 1 to {MAX_WIDTH} bits, and a check of 16 bits"
        )
    flags, extra = _extra(packet, packet.frames)
    flags |= CODED | (RESTART if packet.restart else 0)
    body = extra + packet.coded.data
    return _assemble(
        packet.sequence, packet.index, packet.stream, CODES, flags, packet.frames, packet.codebooks, packet.bits, body,
        packet.coded.check,
    )  # fmt: skip


def _extra(packet: CodesMessage | CodedMessage, count: int) -> tuple[int, bytes]:
    """The flags, and what comes before the codes: length and scales."""
    flags, extra = _flags(packet), b""
    if packet.length is not None:
        if not packet.last or not 0 <= packet.length <= MAX_INDEX:
            raise PacketError(f"length {packet.length}: only the last packet has one, from 0 to 2**53 - 1")
        flags, extra = flags | LENGTH, struct.pack("<Q", packet.length)
    if packet.scale is not None:
        if packet.scale.shape != (count,):
            raise PacketError(f"scale has shape {packet.scale.shape}; it must be one a frame, ({count},)")
        flags, extra = flags | SCALE, extra + packet.scale.astype("<f4").tobytes()
    return flags, extra


def _flags(packet: CodesMessage | CodedMessage) -> int:
    flags = (LAST if packet.last else 0) | (DISCONTINUITY if packet.discontinuity else 0) | (CRC if packet.crc else 0)
    return flags | REDUCED if packet.reduced else flags


def _assemble(
    sequence: int, index: int, stream: int, kind: int, flags: int, count: int, depth: int, width: int, body: bytes,
    check: int = 0,
) -> bytes:  # fmt: skip
    if not 1 <= depth <= 255 or count > _U16 or not (count or flags & LAST):
        raise PacketError(
            f"{count} of depth {depth}: a packet has 1 to {_U16} samples or frames (0 in a last one), 1 to 255 deep"
        )
    if not (0 <= sequence <= _U32 and 0 <= index <= MAX_INDEX - count and 0 <= stream <= _U16):
        raise PacketError(
            f"sequence {sequence}, index {index}, stream {stream}: "
            "they must be below 2**32, 2**53 and 2**16, and not negative"
        )
    header = HEADER.pack(VERSION, kind, flags, sequence, index, stream, count, depth, width, check)
    return _with_crc(header + body) if flags & CRC else header + body


def _with_crc(data: bytes) -> bytes:
    return data + struct.pack("<I", zlib.crc32(data))


def read_header(data: "bytes | memoryview") -> Header:
    """The header, checked in itself. Raises PacketError."""
    if len(data) < HEADER_BYTES:
        raise PacketError(f"{len(data)} bytes are no packet: its header alone has {HEADER_BYTES}")
    version, kind, flags, sequence, index, stream, count, depth, width, check = HEADER.unpack_from(data)
    if version != VERSION:
        raise PacketError(f"packet version {version}; this end speaks {VERSION}", "unsupported_version")
    if kind not in FLAGS:
        raise PacketError(f"packet of kind {kind}; there are {PCM} (PCM) and {CODES} (codes)")
    if (
        flags & ~FLAGS[kind]
        or (flags & (CODED | RESTART) == RESTART)
        or (check and not flags & CODED)
        or (flags & CODED and flags & EARLIER)
    ):
        raise PacketError(f"flags {flags:#06x} and check {check}: a packet of kind {kind} has no such ones")
    if flags & CODED and not count:
        raise PacketError("a coded packet without a frame")
    if flags & LENGTH and not flags & LAST:
        raise PacketError("a length in a packet that is not the last of its stream")
    if not depth or not (count or flags & LAST):
        raise PacketError(
            f"{count} samples or frames of depth {depth}: only a last packet may be empty, and none of depth 0"
        )
    if index > MAX_INDEX - count:
        raise PacketError(f"index {index} is past 2**53 - 1")
    if width not in _PCM_TYPES if kind == PCM else not 1 <= width <= MAX_WIDTH:
        allowed = "16 or 32" if kind == PCM else f"1 to {MAX_WIDTH}"
        raise PacketError(f"{width} bits each in a packet of kind {kind}; it must be {allowed}")
    return Header(kind, flags, sequence, index, stream, count, depth, width, check)


class Likeness:
    """What a packet has in common with most that follow it: its size, and its header but for sequence and index.

    data: the packet; header: as `read_header` gave it.
    """

    def __init__(self, data: bytes, header: Header) -> None:
        self._size, self._header = len(data), header
        self._head, _, _, self._tail = AROUND_NUMBERS.unpack_from(data)

    def read_header(self, data: bytes) -> Header | None:
        """The header of another packet, good until the next is read; None for one that differs in more.

        What was found right of the first one's header, and does not depend on the two numbers, holds for it too.
        """
        if len(data) != self._size:
            return None
        head, sequence, index, tail = AROUND_NUMBERS.unpack_from(data)
        header = self._header
        if head != self._head or tail != self._tail or index > MAX_INDEX - header.count:
            return None
        header.sequence, header.index = sequence, index
        return header


def _offsets(header: Header, size: int) -> tuple[int, int, int]:
    """Where the scales, the samples or codes, and the CRC (or the end) begin, in bytes. size: of the packet."""
    scales = HEADER_BYTES + (8 if header.flags & LENGTH else 0)
    body = scales + (4 * header.count if header.flags & SCALE else 0)
    if header.flags & CODED:  # as long as they came out
        return scales, body, max(body, size - (4 if header.flags & CRC else 0))
    return scales, body, body + (header.count * header.depth * header.width + 7) // 8


def check_crc(data: bytes, header: Header) -> None:
    """Raises PacketError "bad_crc" for a packet that has a CRC-32 and was damaged: nothing in it can be trusted."""
    if header.flags & CRC and zlib.crc32(memoryview(data)[:-4]) != int.from_bytes(data[-4:], "little"):
        raise PacketError("the CRC-32 is wrong: the packet was damaged", "bad_crc")


def unpack(data: bytes, header: Header | None = None) -> Packet:
    """The packet of these bytes, checked; coded codes as they are, for what they stand for depends on those before.

    header: what `read_header` gave, where that was called already.

    Raises PacketError: lengths that do not agree, a wrong CRC-32, padding that is not 0.
    """
    header = header or read_header(data)
    if header.kind == PCM:
        samples, flags = unpack_samples(data, header), header.flags
        last, gap, crc = bool(flags & LAST), bool(flags & DISCONTINUITY), bool(flags & CRC)
        return PcmMessage(header.sequence, header.index, samples, header.stream, last, gap, crc)
    scales, body, end = _offsets(header, len(data))
    crc = bool(header.flags & CRC)
    earlier, rest = _earlier_block(data, header, end)
    _check_size(data, header, rest)
    last, gap = bool(header.flags & LAST), bool(header.flags & DISCONTINUITY)
    scale = np.frombuffer(data, "<f4", header.count, scales) if header.flags & SCALE else None
    length = int.from_bytes(data[HEADER_BYTES:scales], "little") if header.flags & LENGTH else None
    if length is not None and length > MAX_INDEX:
        raise PacketError(f"length {length} is past 2**53 - 1")
    if header.flags & CODED:
        return CodedMessage(
            header.sequence, header.index, Coded(data[body:end], header.check), header.depth, header.count,
            header.width, header.stream, scale, length, last, gap, bool(header.flags & REDUCED), crc,
            bool(header.flags & RESTART),
        )  # fmt: skip
    codes = _unpack_codes(data, body, header.width, header.depth, header.count)
    return CodesMessage(
        header.sequence, header.index, codes, header.width, header.stream,
        scale, length, last, gap, bool(header.flags & REDUCED), crc,
        None if earlier is None else _unpack_earlier(data, header, *earlier),
    )  # fmt: skip


def _check_size(data: bytes, header: Header, end: int) -> None:
    """end: of all but the CRC-32, which is checked too. Raises PacketError."""
    size = end + 4 if header.flags & CRC else end
    if len(data) != size:
        raise PacketError(f"a packet of {len(data)} bytes; its header says {size}")
    if header.flags & CRC:
        check_crc(data, header)


def unpack_samples(data: bytes, header: Header) -> Array:
    """The samples [N, C] of a packet of PCM, checked as by `unpack`. Raises PacketError."""
    count, depth, width = header.count, header.depth, header.width
    _check_size(data, header, HEADER_BYTES + count * depth * width // 8)
    return np.ndarray((count, depth), _PCM_TYPES[width], data, HEADER_BYTES)


def _unpack_codes(data: bytes, begin: int, width: int, depth: int, count: int) -> Array:
    number = depth * count
    end = begin + (number * width + 7) // 8
    spare = -number * width % 8
    if spare and data[end - 1] >> (8 - spare):
        raise PacketError("the bits after the last code are not 0")
    return unpack_bits(memoryview(data)[begin:end], width, number).reshape(depth, count)


def _earlier_block(data: bytes, header: Header, begin: int) -> tuple[tuple[int, int, int] | None, int]:
    """Of the earlier frames: their place, number and codebooks; and the place behind them. Raises PacketError."""
    if not header.flags & EARLIER:
        return None, begin
    if len(data) < begin + EARLIER_HEAD.size:
        raise PacketError(f"a packet of {len(data)} bytes; its header says more")
    count, depth, reserved = EARLIER_HEAD.unpack_from(data, begin)
    if not 1 <= count <= header.index or not depth or reserved:
        raise PacketError(f"{count} earlier frames of {depth} codebooks, before frame {header.index}")
    begin += EARLIER_HEAD.size
    end = begin + (4 * count if header.flags & SCALE else 0) + (count * depth * header.width + 7) // 8
    return (begin, count, depth), end


def _unpack_earlier(data: bytes, header: Header, begin: int, count: int, depth: int) -> EarlierFrames:
    if not header.flags & SCALE:
        return EarlierFrames(_unpack_codes(data, begin, header.width, depth, count))
    scale = np.frombuffer(data, "<f4", count, begin)
    return EarlierFrames(_unpack_codes(data, begin + 4 * count, header.width, depth, count), scale)


def drop_codebooks(data: bytes, codebooks: int) -> bytes:
    """A packet of codes with its first `codebooks` codebooks only, marked REDUCED; the packet itself if it has no more.

    Earlier frames are left out. The codes are not unpacked: the bytes are cut, and the bits after the last code
    cleared. data: as `pack` gave it.
    Raises PacketError for a packet of PCM or of coded codes, and for less than one codebook.
    """
    header = read_header(data)
    if header.kind != CODES or header.flags & CODED or codebooks < 1:
        raise PacketError(
            f"{codebooks} codebooks of a packet of kind {header.kind} with flags {header.flags}; at least one is left, "
            "and of codes that are not coded"
        )
    if codebooks >= header.depth:
        return data
    _, body, _ = _offsets(header, len(data))
    bits = codebooks * header.count * header.width
    cut = bytearray(data[: body + (bits + 7) // 8])
    if bits % 8:
        cut[-1] &= (1 << bits % 8) - 1
    struct.pack_into("<H", cut, 2, header.flags & ~EARLIER | REDUCED)
    cut[20] = codebooks
    return _with_crc(bytes(cut)) if header.flags & CRC else bytes(cut)
