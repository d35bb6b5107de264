"""What a session gives, beside the messages of the protocol that it passes on, and how it fails."""

from dataclasses import dataclass
from typing import TypeAlias

from ..errors import StreamcodecError
from ..packet import Array
from ..protocol import CodesReceived as CodesPacket
from ..protocol import Lost, Missing
from ..protocol.messages import (
    CodebooksChanged,
    Dropped,
    ErrorMessage,
    Flushed,
    Joined,
    Left,
    Marker,
    NewBandwidth,
    Resumed,
    Welcome,
)

__all__ = ["CodesPacket", "Event", "Pcm", "Renewed", "SessionError"]


@dataclass(frozen=True, eq=False)
class Pcm:
    """samples: float32 [n, C], full scale 1; n may be 0 in a last packet. index: of the first in its stream.

    stream: in a room, whose; else 0. last: the stream ends with it.
    """

    index: int
    samples: Array
    stream: int = 0
    last: bool = False


@dataclass(frozen=True)
class Renewed:
    """The session before is over (code: why), and this is another: what was under way is lost, indices begin at 0."""

    code: str
    welcome: Welcome


Event: TypeAlias = (
    Pcm | CodesPacket | Missing | Marker | NewBandwidth | Flushed | Dropped | CodebooksChanged | Joined | Left
    | ErrorMessage | Lost | Resumed | Renewed
)  # fmt: skip


class SessionError(StreamcodecError):
    """A session that could not be opened, or is over.

    code: that of docs/protocol.md, or of this end: "unreachable" (no connection could be made), "lost" (the connection
    broke and the session could not be resumed), "resume_timeout" (no connection for as long as the server keeps the
    session), "closed" (used after `close`). allowed: what would have been taken; retry_after: seconds until it may
    work.
    """

    def __init__(self, code: str, message: str, *, allowed: object = None, retry_after: float | None = None) -> None:
        hint = "" if retry_after is None else f" (try again in {retry_after:g} s)"
        super().__init__(f"{message}{hint}")
        self.code, self.message, self.allowed, self.retry_after = code, message, allowed, retry_after
