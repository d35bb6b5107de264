"""Media packets of one direction: checks of what comes, and the making of what goes."""

from dataclasses import dataclass

import numpy as np

from ..packet import (
    CODED,
    CODES,
    DISCONTINUITY,
    LAST,
    MAX_INDEX,
    PCM,
    SCALE,
    Array,
    CodedMessage,
    CodesMessage,
    Header,
    PacketError,
    check_crc,
    read_header,
    unpack,
    unpack_samples,
)
from ..redundancy import Part, frames_from
from .agreement import Agreement
from .coding import Coding
from .events import CodesReceived, Event, Missing, PcmReceived
from .faults import ProtocolError
from .limits import Limits
from .messages import CodecFacts, PcmFormat

__all__ = ["Checks", "checked_header"]

FLOAT_BITS = 32
WIDTHS = {"s16le": 16, "f32le": FLOAT_BITS}


def checked_header(data: bytes, most: int) -> Header:
    """The header of a peer's packet whose CRC-32, if it has one, is right. Raises ProtocolError.

    Of a packet above the limit, `most` bytes, only the header is looked at.
    """
    try:
        header = read_header(data)
        if len(data) <= most:
            check_crc(data, header)
        return header
    except PacketError as error:
        # Within a session that speaks version 1 a packet of another version is only a bad packet.
        code = "bad_message" if error.code == "unsupported_version" else error.code
        raise ProtocolError(code, str(error)) from None


@dataclass(frozen=True)
class Checks:
    """What the packets of one direction may be.

    kind: PCM, CODES, or 0 where none may come. peak: of samples in float32. gap: samples or frames left out at most.
    coding: where entropy coding was agreed.
    """

    kind: int
    codec: CodecFacts
    pcm: PcmFormat | None
    peak: float
    gap: int
    coding: Coding | None = None

    @staticmethod
    def of_client(agreement: Agreement, limits: Limits, coding: Coding | None = None) -> "Checks":
        """For what a server receives."""
        direction = agreement.takes
        kind = {"pcm": PCM, "codes": CODES, None: 0}[direction]
        codec, pcm = agreement.codec, agreement.pcm
        rate = pcm.sample_rate if kind == PCM and pcm else codec.sample_rate / codec.hop_length
        return Checks(kind, codec, pcm, limits.peak, int(limits.gap_seconds * rate), coding)

    @staticmethod
    def of_server(kind: int, codec: CodecFacts, pcm: PcmFormat | None, coding: Coding | None = None) -> "Checks":
        """For what a client receives: finite samples of any size, and any gap."""
        return Checks(kind, codec, pcm, float(np.finfo(np.float32).max), MAX_INDEX, coding)

    def header(self, header: Header) -> None:
        """Raises ProtocolError for a packet that this session cannot take, whatever is in it."""
        if header.kind != self.kind:
            name = {PCM: "PCM", CODES: "codes"}
            wanted = f"it takes {name[self.kind]}" if self.kind else "it takes no media from this end"
            raise ProtocolError("bad_state", f"a packet of {name[header.kind]}; in this session {wanted}")
        if self.kind == PCM:
            self._pcm_header(header)
        else:
            self._codes_header(header)

    def _pcm_header(self, header: Header) -> None:
        if self.pcm is None:
            raise ProtocolError("bad_state", "a packet of PCM in a session without PCM")
        wanted = (self.pcm.channels, WIDTHS[self.pcm.format])
        if (header.depth, header.width) != wanted:
            raise ProtocolError(
                "bad_message",
                f"PCM of {header.depth} channels and {header.width} bits; {wanted[0]} of {wanted[1]} bits were agreed",
                allowed={"depth": wanted[0], "width": wanted[1]},
            )

    def _codes_header(self, header: Header) -> None:
        codec = self.codec
        if header.width != codec.bits or header.depth > codec.num_codebooks:
            raise ProtocolError(
                "bad_message",
                f"codes of {header.depth} codebooks and {header.width} bits; {codec.name} has 1 to "
                f"{codec.num_codebooks} of {codec.bits} bits",
                allowed={"depth": [1, codec.num_codebooks], "width": codec.bits},
            )
        if header.flags & CODED and self.coding is None:
            raise ProtocolError(
                "bad_state", "a packet of coded codes; no entropy model was agreed in hello and welcome"
            )
        if bool(header.flags & SCALE) != codec.scaled:
            needed = "needs a scale for each frame" if codec.scaled else "has no scales"
            raise ProtocolError("bad_message", f"a packet of codes {'without' if codec.scaled else 'with'} scales; "
                                f"{codec.name} {needed}")  # fmt: skip

    def gap_before(self, header: Header, expected: int) -> int:
        """Samples or frames missing before the packet. Raises ProtocolError "index_gap"."""
        gap = header.index - expected
        told = bool(header.flags & DISCONTINUITY)
        if not gap and not told:
            return 0
        if gap < 0 or told != (gap > 0) or gap > self.gap:
            furthest = min(MAX_INDEX, expected + self.gap)
            raise ProtocolError(
                "index_gap",
                f"index {header.index} {'with' if told else 'without'} the flag DISCONTINUITY; {expected} is expected, "
                f"or with the flag up to {furthest}",
                allowed=[expected, furthest],
            )
        return gap

    def content(self, data: bytes, header: Header, most: int, expected: int) -> list[Event]:
        """The packet unpacked and looked through, with what is missing before it. Raises ProtocolError."""
        if len(data) > most:
            raise ProtocolError("too_large", f"a packet of {len(data)} bytes; the limit is {most}", allowed=most)
        try:
            if header.kind == PCM:
                received = self._pcm(data, header)
                gap = header.index - expected
                return [Missing(expected, gap, header.stream), received] if gap else [received]
            packet = unpack(data, header)
        except PacketError as error:
            raise ProtocolError(error.code, str(error)) from None
        message = self._decoded(packet) if isinstance(packet, CodedMessage) else packet
        assert isinstance(message, CodesMessage), "there are two kinds of packets"
        codes = self._codes(message)
        parts = [part for part in frames_from(message, expected) if part.index < message.index]
        return [*(_before(part, message.stream) for part in parts), codes]

    def _decoded(self, packet: CodedMessage) -> CodesMessage:
        assert self.coding is not None, "`header` lets no other through"
        return CodesMessage(
            packet.sequence, packet.index, self.coding.decode(packet), packet.bits, packet.stream, packet.scale,
            packet.length, packet.last, packet.discontinuity, packet.reduced, packet.crc,
        )  # fmt: skip

    def _pcm(self, data: bytes, header: Header) -> PcmReceived:
        samples = unpack_samples(data, header)
        if header.width == FLOAT_BITS and samples.size:
            greatest = np.abs(samples).max()  # NaN if one is
            if not greatest <= self.peak:
                raise self._bad_sample(float(greatest))
        return PcmReceived(header.index, samples, header.stream, bool(header.flags & LAST))

    def _bad_sample(self, greatest: float) -> ProtocolError:
        if not np.isfinite(greatest):
            return ProtocolError("not_finite", "NaN or infinity among the samples; every sample must be finite")
        return ProtocolError(
            "out_of_range",
            f"a sample of magnitude {greatest:g}; full scale is 1, and at most {self.peak:g} is allowed",
            allowed=[-self.peak, self.peak],
        )

    def _frames(self, codes: Array, scale: Array | None) -> None:
        """Raises ProtocolError for codes and scales outside their ranges."""
        size = self.codec.codebook_size
        if codes.size and int(codes.max()) >= size:
            raise ProtocolError(
                "out_of_range", f"a code {codes.max()}; {self.codec.name} has 0 to {size - 1}", allowed=[0, size - 1]
            )
        if codes.shape[0] > self.codec.num_codebooks:
            raise ProtocolError("bad_message", f"{codes.shape[0]} codebooks; {self.codec.name} has fewer")
        if scale is not None and scale.size:
            if not np.isfinite(scale).all():
                raise ProtocolError("not_finite", "NaN or infinity among the scales; every scale must be finite")
            if scale.min() <= 0 or scale.max() > self.peak:
                raise ProtocolError(
                    "out_of_range", f"a scale outside 0 to {self.peak:g} (0 excluded)", allowed=[0, self.peak]
                )

    def _codes(self, packet: CodesMessage) -> CodesReceived:
        self._frames(packet.codes, packet.scale)
        if packet.earlier is not None:
            self._frames(packet.earlier.codes, packet.earlier.scale)
        return CodesReceived(
            packet.index, packet.codes, packet.scale, packet.stream, packet.last, packet.length, packet.reduced
        )


def _before(part: Part, stream: int) -> CodesReceived | Missing:
    """What is to be said of frames before a packet: that they came again with it, or are missing."""
    if part.codes is None:
        return Missing(part.index, part.count, stream)
    return CodesReceived(part.index, part.codes, part.scale, stream, reduced=True, again=True)
