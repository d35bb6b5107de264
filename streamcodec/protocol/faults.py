"""Every error of the wire: a stable code, how much it ends, and the WebSocket close code."""

from enum import Enum
from typing import NamedTuple

from ..errors import StreamcodecError

__all__ = ["FAULTS", "NORMAL", "SHUTDOWN", "Close", "Fault", "ProtocolError", "Scope"]

NORMAL = 1000  # RFC 6455, section 7.4.1: the purpose is fulfilled
SHUTDOWN = 1001  # the same: going away


class Scope(str, Enum):
    """What an error ends."""

    MESSAGE = "message"  # the message is refused, the session goes on
    CONNECTION = "connection"  # the connection is closed, the session can be resumed
    SESSION = "session"  # the session is over


class Fault(NamedTuple):
    scope: Scope
    close: int
    meaning: str


class Close(NamedTuple):
    """How the transport is to close the connection, once all messages are sent."""

    code: int
    reason: str

    @property
    def text(self) -> str:
        """As much of the reason as fits: a control frame has 125 bytes, 2 of them the code (RFC 6455, section 5.5)."""
        return self.reason.encode()[:123].decode(errors="ignore")


_MESSAGE, _CONNECTION, _SESSION = Scope.MESSAGE, Scope.CONNECTION, Scope.SESSION

# Close codes: 4000 to 4999 are an application's own (RFC 6455, section 7.4.2). They are stable, like the codes.
FAULTS: dict[str, Fault] = {
    "bad_message": Fault(_MESSAGE, 4400, "not a message of this protocol, or a field that it cannot have"),
    "bad_state": Fault(_MESSAGE, 4409, "a message that has no place now, or none in this mode"),
    "too_large": Fault(_MESSAGE, 4413, "a message above the limit of bytes"),
    "bad_bandwidth": Fault(_MESSAGE, 4420, "a bandwidth that the codec does not offer"),
    "not_finite": Fault(_MESSAGE, 4421, "NaN or infinity among samples or scales"),
    "out_of_range": Fault(_MESSAGE, 4422, "a sample, scale or code outside its range"),
    "index_gap": Fault(_MESSAGE, 4423, "an index that does not follow, or a gap that is too long"),
    "bad_coding": Fault(_MESSAGE, 4424, "coded codes that do not decode after what came before"),
    "too_fast": Fault(_CONNECTION, 4429, "more messages a second than the limit"),
    "bad_crc": Fault(_CONNECTION, 4430, "a packet was damaged"),
    "sequence_gap": Fault(_CONNECTION, 4431, "a sequence number that does not follow"),
    "replaced": Fault(_CONNECTION, 4432, "another connection has resumed the session"),
    "unsupported_version": Fault(_SESSION, 4426, "a version of the protocol that this end does not speak"),
    "unknown_codec": Fault(_SESSION, 4404, "a codec that the server does not offer"),
    "bad_rate": Fault(_SESSION, 4440, "a sample rate that is not allowed"),
    "bad_channels": Fault(_SESSION, 4441, "a number of channels that is not allowed"),
    "bad_frames": Fault(_SESSION, 4442, "a number of frames per packet that is not allowed"),
    "room_name": Fault(_SESSION, 4443, "a name of a room that is not allowed"),
    "room_full": Fault(_SESSION, 4444, "the room has no place for another member in this role"),
    "unauthorised": Fault(_SESSION, 4401, "the server wants a key, and this is not it"),
    "forbidden_origin": Fault(_SESSION, 4403, "a page of an origin that the server does not serve"),
    "busy": Fault(_SESSION, 4450, "no session is free; the error says when to try again"),
    "resume_unknown": Fault(_SESSION, 4451, "no session has this token: it is over, or never was"),
    "resume_gap": Fault(_SESSION, 4452, "what the client lacks is not held any more"),
    "handshake_timeout": Fault(_SESSION, 4408, "no hello in time"),
    "idle_timeout": Fault(_SESSION, 4410, "no message in time"),
    "too_many_errors": Fault(_SESSION, 4453, "more refused messages than the limit"),
    "too_slow": Fault(_SESSION, 4454, "more is unacknowledged than the server may hold"),
    "server_shutdown": Fault(_SESSION, 4460, "the server is going away"),
    "internal": Fault(_SESSION, 4500, "an error inside the server"),
}


class ProtocolError(StreamcodecError):
    """The peer sent what it may not, or was refused.

    code: a key of FAULTS; the text is the sentence that the peer gets. allowed: what would have been taken, as JSON;
    sequence: of the numbered message at fault; retry_after: seconds until it may work.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        allowed: object = None,
        sequence: int | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.allowed = allowed
        self.sequence = sequence
        self.retry_after = retry_after

    @property
    def fault(self) -> Fault:
        return FAULTS[self.code]
