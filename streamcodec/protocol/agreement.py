"""What hello asks for, against what the server offers."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from ..scalars import meant
from .faults import ProtocolError
from .limits import Limits
from .messages import VERSION, CodecFacts, Hello, PcmFormat, RedundancyAgreed

__all__ = ["Agreement", "codec_facts", "directions", "negotiate"]

MAX_CHANNELS = 2  # of a client; the server mixes down or doubles to the codec's own


@dataclass(frozen=True)
class Agreement:
    """What a session does.

    takes: what the client sends, "pcm", "codes" or None; gives: what it gets. pcm: for either that is PCM. entropy: the
    hash of the model with which codes are coded; None where they are not.
    redundancy: of packets of codes, or None.
    """

    hello: Hello
    codec: CodecFacts
    bandwidth: float
    codebooks: int
    pcm: PcmFormat | None
    takes: str | None
    gives: str | None
    entropy: str | None = None
    redundancy: RedundancyAgreed | None = None


def codec_facts(
    *, name: str, sample_rate: int, channels: int, hop_length: int, num_codebooks: int, codebook_size: int,
    bandwidths: tuple[float, ...], bandwidth_codebooks: tuple[int, ...], default_bandwidth: float,
    encoder_delay: int, decoder_delay: int, scaled: bool = False, fingerprint: str = "", entropy: str | None = None,
    pre_roll: int | None = None, segment_frames: int | None = None, segment_stride: int | None = None,
) -> CodecFacts:  # fmt: skip
    """A codec for the wire, from the fields of its `CodecSpec`; bandwidth_codebooks: one for each of the bandwidths."""
    return CodecFacts(
        name=name, sample_rate=sample_rate, channels=channels, hop_length=hop_length, num_codebooks=num_codebooks,
        codebook_size=codebook_size, bits=(codebook_size - 1).bit_length(), bandwidths=tuple(bandwidths),
        bandwidth_codebooks=tuple(bandwidth_codebooks), default_bandwidth=default_bandwidth,
        encoder_delay=encoder_delay, decoder_delay=decoder_delay, scaled=scaled, fingerprint=fingerprint,
        entropy=entropy,
        pre_roll=pre_roll, segment_frames=segment_frames, segment_stride=segment_stride,
    )  # fmt: skip


def negotiate(hello: Hello, offers: Mapping[str, CodecFacts], limits: Limits) -> Agreement:
    """What hello and server agree on. offers: by the name a client uses; the first is the default.

    Raises ProtocolError.
    """
    if hello.version != VERSION:
        raise ProtocolError(
            "unsupported_version", f"version {hello.version}; this server speaks {VERSION}", allowed=[VERSION]
        )
    takes, gives = directions(hello)
    codec = _codec(hello, offers)
    bandwidth = codec.default_bandwidth if hello.bandwidth is None else hello.bandwidth
    bandwidth = meant(bandwidth, codec.bandwidths) or bandwidth  # 0.3125 where 0.312 is on offer
    codebooks = codebooks_at(codec, bandwidth)
    _check_frames(hello, limits)
    if hello.max_delay is not None and not hello.resume:
        raise ProtocolError("bad_message", "hello.max_delay without resume; only what is acknowledged can be bounded")
    _check_pcm(hello.pcm, "pcm" in (takes, gives), limits)
    entropy = codec.entropy if hello.entropy == codec.entropy and "codes" in (takes, gives) else None
    redundancy = _redundancy(hello.redundancy, limits) if "codes" in (takes, gives) else None
    return Agreement(hello, codec, bandwidth, codebooks, hello.pcm, takes, gives, entropy, redundancy)


def codebooks_at(codec: CodecFacts, bandwidth: float) -> int:
    """Codebooks of a bandwidth in kbps. Raises ProtocolError "bad_bandwidth"."""
    if bandwidth not in codec.bandwidths:
        offered = ", ".join(f"{value:g}" for value in codec.bandwidths)
        raise ProtocolError(
            "bad_bandwidth",
            f"{codec.name} has no bandwidth of {bandwidth:g} kbps; choose one of {offered}",
            allowed=list(codec.bandwidths),
        )
    return codec.bandwidth_codebooks[codec.bandwidths.index(bandwidth)]


def directions(hello: Hello) -> tuple[str | None, str | None]:
    """What the server takes and gives: "pcm", "codes" or None, each. Raises ProtocolError "bad_message"."""
    fixed = {"encode": ("pcm", "codes"), "decode": ("codes", "pcm"), "roundtrip": ("pcm", "pcm")}
    if hello.mode in fixed:
        if hello.room is not None:
            raise ProtocolError("bad_message", f"hello.room in mode {hello.mode}; only mode room has one")
        return fixed[hello.mode]
    if hello.room is None:
        raise ProtocolError("bad_message", "mode room needs hello.room, with a name and a role")
    takes = hello.room.send if hello.room.role != "listener" else None
    return takes, hello.room.receive if hello.room.role != "speaker" else None


def _codec(hello: Hello, offers: Mapping[str, CodecFacts]) -> CodecFacts:
    name = next(iter(offers), "") if hello.codec is None else hello.codec
    if name not in offers:
        raise ProtocolError(
            "unknown_codec", f"no codec {name}; choose one of {', '.join(offers) or 'none'}", allowed=list(offers)
        )
    return offers[name]


def _redundancy(asked: RedundancyAgreed | None, limits: Limits) -> RedundancyAgreed | None:
    if asked is None or limits.redundancy == "off":
        return None
    return asked if limits.redundancy == "auto" else replace(asked, measured=None)


def _check_frames(hello: Hello, limits: Limits) -> None:
    most = limits.frames_per_packet
    if not 1 <= hello.frames_per_packet <= most:
        raise ProtocolError(
            "bad_frames",
            f"{hello.frames_per_packet} frames per packet; this server allows 1 to {most}",
            allowed=[1, most],
        )


def _check_pcm(pcm: PcmFormat | None, needed: bool, limits: Limits) -> None:
    if pcm is None:
        if needed:
            raise ProtocolError("bad_message", "this mode needs hello.pcm, with a format, a sample_rate and channels")
        return
    rates = [limits.min_rate, limits.max_rate]
    if not rates[0] <= pcm.sample_rate <= rates[1]:
        raise ProtocolError(
            "bad_rate", f"a sample rate of {pcm.sample_rate} Hz; allowed are {rates[0]} to {rates[1]}", allowed=rates
        )
    if pcm.channels > MAX_CHANNELS:
        raise ProtocolError(
            "bad_channels",
            f"{pcm.channels} channels; allowed are 1 to {MAX_CHANNELS}",
            allowed=list(range(1, MAX_CHANNELS + 1)),
        )
