"""The text messages, field by field. docs/protocol.md says what they mean; here is what they may hold.

A class whose `numbered` is true takes a place among the numbered messages of its direction, with its `sequence`.
"""

# ruff: noqa: RUF009 - a rule is a constant of its field, made once

from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

from . import text as json_text
from .faults import ProtocolError
from .fields import anything, array, boolean, choice, integer, nested, number, optional, read, rule, text, write

__all__ = [
    "FROM_CLIENT",
    "FROM_SERVER",
    "SUBPROTOCOL",
    "VERSION",
    "Acknowledge",
    "AskStatistics",
    "Bandwidth",
    "CodebooksChanged",
    "CodecFacts",
    "Delay",
    "Delays",
    "Dropped",
    "ErrorMessage",
    "Farewell",
    "Flush",
    "Flushed",
    "Goodbye",
    "Hello",
    "Joined",
    "Left",
    "LossReport",
    "Marker",
    "Member",
    "Message",
    "NewBandwidth",
    "PcmFormat",
    "Ping",
    "Pong",
    "Resume",
    "Resumed",
    "RoomFacts",
    "RoomRequest",
    "Statistics",
    "ToldLimits",
    "Welcome",
    "parse",
    "to_text",
]

VERSION = 1
SUBPROTOCOL = "streamcodec.v1"
MODES = ("encode", "decode", "roundtrip", "room")

_SEQUENCE = integer(0, 2**32 - 1)
_COUNT = integer(0, json_text.MAX_SAFE)
_STREAM = integer(0, 2**16 - 1)
_RATE = integer(1, 10**6, "bad_rate")
_CHANNELS = integer(1, 255, "bad_channels")
_BANDWIDTH = number(0, 10**6, "bad_bandwidth")
_ROLE = choice("speaker", "listener", "both")
_SENDS = choice("pcm", "codes")
_NAME = text(
    r"[^\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff]{0,64}", "0 to 64 characters that print"
)
_TOKEN = text(r"[A-Za-z0-9_-]{1,128}", "1 to 128 letters, digits, - or _")
_KEY = text(r"[\x21-\x7e]{1,512}", "1 to 512 characters of ASCII without spaces")
_ID = text(r"[\x20-\x7e]{1,64}", "1 to 64 characters of ASCII")
_CODEC = text(r"[\x21-\x7e]{1,256}", "1 to 256 characters of ASCII without spaces", "unknown_codec")
_ROOM = text(r"[A-Za-z0-9_-]{1,64}", "1 to 64 letters, digits, - or _", "room_name")
_HASH = text(r"[0-9a-f]{64}", "64 hexadecimal digits")
_SENTENCE = text(r"(?s).{0,2000}", "a sentence")
_SECONDS = number(0, 10**9)
MAX_DELAY = (0.1, 60.0)  # seconds: least and most
WAY_SHARE = 0.4  # of a max_delay, for each way of the audio; the rest is for computing and playing
_MAX_DELAY = number(*MAX_DELAY)


class Message:
    """What every message has."""

    type: ClassVar[str]
    numbered: ClassVar[bool] = False


@dataclass(frozen=True, kw_only=True)
class PcmFormat:
    """The samples a client sends and gets. sample_rate: Hz."""

    format: str = rule(choice("s16le", "f32le"))
    sample_rate: int = rule(_RATE)
    channels: int = rule(_CHANNELS, 1)


@dataclass(frozen=True, kw_only=True)
class RoomRequest:
    """What a client wants of a room. send: what a speaker sends; receive: what a listener gets."""

    name: str = rule(_ROOM)
    role: str = rule(_ROLE)
    send: str = rule(_SENDS, "pcm")
    receive: str = rule(_SENDS, "codes")
    member: str = rule(_NAME, "")


@dataclass(frozen=True, kw_only=True)
class RedundancyAgreed:
    """What packets of codes may carry of frames that were left out before them: so many frames and codebooks.

    measured: each end tells what it lacked (`LossReport`), and the other carries what that asks for, this at most.
    """

    frames: int = rule(integer(1, 64))
    codebooks: int = rule(integer(1, 255))
    measured: bool | None = rule(optional(boolean), None)


@dataclass(frozen=True, kw_only=True)
class Hello(Message):
    """Opens a session. See docs/protocol.md for each field."""

    type = "hello"
    version: int = rule(integer(0, json_text.MAX_SAFE))
    mode: str = rule(choice(*MODES))
    codec: str | None = rule(optional(_CODEC), None)
    bandwidth: float | None = rule(optional(_BANDWIDTH), None)
    frames_per_packet: int = rule(integer(0, json_text.MAX_SAFE), 1)
    pcm: PcmFormat | None = rule(optional(nested(PcmFormat)), None)
    crc: bool = rule(boolean, False)
    resume: bool = rule(boolean, True)
    start: str = rule(choice("primed", "exact"), "primed")
    max_delay: float | None = rule(optional(_MAX_DELAY), None)
    entropy: str | None = rule(optional(_HASH), None)
    room: RoomRequest | None = rule(optional(nested(RoomRequest)), None)
    key: str | None = rule(optional(_KEY), None)
    redundancy: RedundancyAgreed | None = rule(optional(nested(RedundancyAgreed)), None)


@dataclass(frozen=True, kw_only=True)
class Resume(Message):
    """Opens a new connection of an old session. last_sequence: of the last numbered message that the client holds."""

    type = "resume"
    version: int = rule(integer(0, json_text.MAX_SAFE))
    token: str = rule(_TOKEN)
    last_sequence: int | None = rule(optional(_SEQUENCE), None)


@dataclass(frozen=True, kw_only=True)
class Bandwidth(Message):
    """The client asks for another bandwidth, kbps, from here on."""

    type = "bandwidth"
    numbered = True
    sequence: int = rule(_SEQUENCE)
    bandwidth: float = rule(_BANDWIDTH)


@dataclass(frozen=True, kw_only=True)
class Marker(Message):
    """From the client; and back, once, when all earlier audio is through."""

    type = "marker"
    numbered = True
    sequence: int = rule(_SEQUENCE)
    id: str = rule(_ID)


@dataclass(frozen=True, kw_only=True)
class Flush(Message):
    """The client's stream ends here. length: its samples at the codec's rate, where the client sends codes."""

    type = "flush"
    numbered = True
    sequence: int = rule(_SEQUENCE)
    length: int | None = rule(optional(_COUNT), None)


@dataclass(frozen=True, kw_only=True)
class Acknowledge(Message):
    """All numbered messages up to this one are here."""

    type = "ack"
    sequence: int = rule(_SEQUENCE)


@dataclass(frozen=True, kw_only=True)
class LossReport(Message):
    """Of `frames` frames of codes since the last report, `missing` were left out before packets that came."""

    type = "loss"
    frames: int = rule(integer(1, json_text.MAX_SAFE))
    missing: int = rule(_COUNT)


@dataclass(frozen=True, kw_only=True)
class AskStatistics(Message):
    type = "statistics"


@dataclass(frozen=True, kw_only=True)
class Ping(Message):
    type = "ping"
    id: str = rule(_ID)


@dataclass(frozen=True, kw_only=True)
class Goodbye(Message):
    """The client is done; nothing is kept."""

    type = "goodbye"


@dataclass(frozen=True, kw_only=True)
class CodecFacts:
    """A codec as the wire tells of it: see `CodecSpec`. scaled: its packets of codes have scales.

    bandwidth_codebooks: codebooks at each of the bandwidths. encoder_delay, decoder_delay: samples at its rate.
    entropy: the hash of its entropy model, where it has one.
    pre_roll: frames that a decoder must hear before a place where it begins (`Codec.pre_roll`). segment_frames,
    segment_stride: of a codec with overlapping segments, in frames and samples. Each is None where nobody says it.
    """

    name: str = rule(_CODEC)
    sample_rate: int = rule(_RATE)
    channels: int = rule(_CHANNELS)
    hop_length: int = rule(integer(1, 10**6))
    num_codebooks: int = rule(integer(1, 255))
    codebook_size: int = rule(integer(2, 65536))
    bits: int = rule(integer(1, 16))
    bandwidths: tuple[float, ...] = rule(array(_BANDWIDTH, 64))
    bandwidth_codebooks: tuple[int, ...] = rule(array(integer(1, 255), 64))
    default_bandwidth: float = rule(_BANDWIDTH)
    encoder_delay: int = rule(_COUNT)
    decoder_delay: int = rule(_COUNT)
    scaled: bool = rule(boolean, False)
    fingerprint: str = rule(text(r"[0-9a-f]{0,64}", "hexadecimal digits"), "")
    entropy: str | None = rule(optional(_HASH), None)
    pre_roll: int | None = rule(optional(integer(0, 2**32)), None)
    segment_frames: int | None = rule(optional(integer(1, 2**32)), None)
    segment_stride: int | None = rule(optional(integer(1, 2**32)), None)


@dataclass(frozen=True, kw_only=True)
class Delay:
    """samples: at the rate that the field's description says; ms: the same in time."""

    samples: int = rule(_COUNT)
    ms: float = rule(_SECONDS)


@dataclass(frozen=True, kw_only=True)
class Delays:
    """Where the time goes, for this session. Each is null where the mode has no such part."""

    framing: Delay | None = rule(optional(nested(Delay)), None)
    encoder: Delay | None = rule(optional(nested(Delay)), None)
    decoder: Delay | None = rule(optional(nested(Delay)), None)
    resampler_in: Delay | None = rule(optional(nested(Delay)), None)
    resampler_out: Delay | None = rule(optional(nested(Delay)), None)
    total_ms: float = rule(_SECONDS)


@dataclass(frozen=True, kw_only=True)
class ToldLimits:
    """The limits that a client must keep to: see `Limits`."""

    message_bytes: int = rule(_COUNT)
    text_bytes: int = rule(_COUNT)
    messages_per_second: float = rule(_SECONDS)
    burst: int = rule(_COUNT)
    unacknowledged_bytes: int = rule(_COUNT)
    acknowledge_every: int = rule(integer(1, 2**20))
    idle_seconds: float = rule(_SECONDS)
    gap_seconds: float = rule(_SECONDS)
    peak: float = rule(_SECONDS)


@dataclass(frozen=True, kw_only=True)
class Member:
    """stream: of the packets that hold what this member says; null for one that only listens."""

    id: int = rule(_COUNT)
    member: str = rule(_NAME)
    role: str = rule(_ROLE)
    stream: int | None = rule(optional(_STREAM), None)


@dataclass(frozen=True, kw_only=True)
class RoomFacts:
    """The room as it is now. id: the client's own among the members."""

    name: str = rule(_ROOM)
    id: int = rule(_COUNT)
    members: tuple[Member, ...] = rule(array(nested(Member), 65536))


@dataclass(frozen=True, kw_only=True)
class Welcome(Message):
    """The session is open. token: null where it cannot be resumed."""

    type = "welcome"
    version: int = rule(integer(VERSION, VERSION))
    session: str = rule(_TOKEN)
    token: str | None = rule(optional(_TOKEN), None)
    resume_seconds: float = rule(_SECONDS)
    server_time: float = rule(number(0, 10**12))
    mode: str = rule(choice(*MODES))
    codec: CodecFacts = rule(nested(CodecFacts))
    bandwidth: float = rule(_BANDWIDTH)
    codebooks: int = rule(integer(1, 255))
    frames_per_packet: int = rule(integer(1, 65535))
    pcm: PcmFormat | None = rule(optional(nested(PcmFormat)), None)
    crc: bool = rule(boolean)
    start: str = rule(choice("primed", "exact"))
    entropy: str | None = rule(optional(_HASH), None)
    delays: Delays = rule(nested(Delays))
    limits: ToldLimits = rule(nested(ToldLimits))
    room: RoomFacts | None = rule(optional(nested(RoomFacts)), None)
    redundancy: RedundancyAgreed | None = rule(optional(nested(RedundancyAgreed)), None)


@dataclass(frozen=True, kw_only=True)
class Resumed(Message):
    """The session goes on. last_sequence: of the last numbered message of the client's that the server holds."""

    type = "resumed"
    session: str = rule(_TOKEN)
    last_sequence: int | None = rule(optional(_SEQUENCE), None)
    server_time: float = rule(number(0, 10**12))


@dataclass(frozen=True, kw_only=True)
class NewBandwidth(Message):
    """The bandwidth asked for holds from this frame of the output on; 0 codebooks never occurs."""

    type = "bandwidth"
    numbered = True
    sequence: int = rule(_SEQUENCE)
    bandwidth: float = rule(_BANDWIDTH)
    codebooks: int = rule(integer(1, 255))
    frame: int = rule(_COUNT)


@dataclass(frozen=True, kw_only=True)
class Flushed(Message):
    """The client's flush is through. length: samples or frames of the output stream, whichever it consists of."""

    type = "flushed"
    numbered = True
    sequence: int = rule(_SEQUENCE)
    length: int = rule(_COUNT)


@dataclass(frozen=True, kw_only=True)
class Dropped(Message):
    """Not sent, since the client is slow: `count` frames of codes or samples of PCM from `index` on."""

    type = "dropped"
    numbered = True
    sequence: int = rule(_SEQUENCE)
    stream: int = rule(_STREAM)
    unit: str = rule(choice("frames", "samples"))
    index: int = rule(_COUNT)
    count: int = rule(_COUNT)


@dataclass(frozen=True, kw_only=True)
class CodebooksChanged(Message):
    """From this frame on packets have so many codebooks of those agreed: the client is slow, or no longer."""

    type = "codebooks"
    numbered = True
    sequence: int = rule(_SEQUENCE)
    stream: int = rule(_STREAM)
    codebooks: int = rule(integer(1, 255))
    agreed: int = rule(integer(1, 255))
    frame: int = rule(_COUNT)


@dataclass(frozen=True, kw_only=True)
class Joined(Message):
    type = "joined"
    numbered = True
    sequence: int = rule(_SEQUENCE)
    member: Member = rule(nested(Member))


@dataclass(frozen=True, kw_only=True)
class Left(Message):
    type = "left"
    numbered = True
    sequence: int = rule(_SEQUENCE)
    id: int = rule(_COUNT)
    reason: str = rule(choice("goodbye", "lost", "removed"))


@dataclass(frozen=True, kw_only=True)
class Statistics(Message):
    """Counts since the session began; the meaning of each is in docs/protocol.md."""

    type = "statistics"
    seconds: float = rule(_SECONDS)
    received_messages: int = rule(_COUNT)
    received_bytes: int = rule(_COUNT)
    refused_messages: int = rule(_COUNT)
    missing: int = rule(_COUNT)
    sent_messages: int = rule(_COUNT)
    sent_bytes: int = rule(_COUNT)
    unacknowledged_messages: int = rule(_COUNT)
    unacknowledged_bytes: int = rule(_COUNT)
    dropped: int = rule(_COUNT)
    reduced_packets: int = rule(_COUNT)
    resumes: int = rule(_COUNT)
    server: Any = rule(anything, None)


@dataclass(frozen=True, kw_only=True)
class Pong(Message):
    type = "pong"
    id: str = rule(_ID)
    server_time: float = rule(number(0, 10**12))


@dataclass(frozen=True, kw_only=True)
class ErrorMessage(Message):
    """Something was refused. scope: what that ends; sequence: of the numbered message refused, if it was one."""

    type = "error"
    code: str = rule(text(r"[a-z_]{1,64}", "a code"))
    scope: str = rule(choice("message", "connection", "session"))
    message: str = rule(_SENTENCE)
    sequence: int | None = rule(optional(_SEQUENCE), None)
    allowed: Any = rule(anything, None)
    retry_after: float | None = rule(optional(_SECONDS), None)


@dataclass(frozen=True, kw_only=True)
class Farewell(Message):
    """The server ends the session, without an error. retry_after: seconds until it may be back."""

    type = "goodbye"
    reason: str = rule(choice("client", "server_shutdown"))
    message: str = rule(_SENTENCE)
    retry_after: float | None = rule(optional(_SECONDS), None)


def _by_type(*classes: type[Message]) -> dict[str, type[Message]]:
    return {cls.type: cls for cls in classes}


FROM_CLIENT = _by_type(Hello, Resume, Bandwidth, Marker, Flush, Acknowledge, LossReport, AskStatistics, Ping, Goodbye)
FROM_SERVER = _by_type(
    Welcome, Resumed, NewBandwidth, Marker, Flushed, Acknowledge, LossReport, Dropped, CodebooksChanged, Joined, Left,
    Statistics, Pong, ErrorMessage, Farewell,
)  # fmt: skip

M = TypeVar("M", bound=Message)


def type_of(values: dict[str, Any], known: dict[str, type[Message]]) -> type[Message]:
    """The class of a message. Raises ProtocolError "bad_message" for a type that is not among the known."""
    kind = values.get("type")
    if type(kind) is not str or kind not in known:
        shown = ascii(kind) if kind is None or (type(kind) is str and len(kind) <= 40) else "no type there is"
        raise ProtocolError("bad_message", f"the message's type is {shown}", allowed=list(known))
    return known[kind]


def parse(values: dict[str, Any], known: dict[str, type[Message]]) -> Message:
    """The message of parsed JSON. Raises ProtocolError."""
    cls = type_of(values, known)
    return read(cls, values, cls.type)


def to_text(message: Message) -> str:
    return json_text.dump({"type": message.type, **write(message)})
