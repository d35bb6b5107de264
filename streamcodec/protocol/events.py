"""What a session tells its host. A text message that the host must act upon is itself the event (`messages`)."""

from dataclasses import dataclass

from ..packet import Array
from .agreement import Agreement
from .messages import Message
from .samples import from_wire

__all__ = ["CodesReceived", "Ended", "Event", "HelloReceived", "Lost", "Missing", "PcmReceived"]


@dataclass(frozen=True)
class HelloReceived:
    """Server: a client that could be served. The host answers with `accept` or `refuse`."""

    agreement: Agreement


@dataclass(eq=False, slots=True)
class PcmReceived:
    """rows: the samples as they came, [N, C] int16 or float32, at the session's rate; index: of the first."""

    index: int
    rows: Array
    stream: int = 0
    last: bool = False

    @property
    def samples(self) -> Array:
        """float32 [C, N], full scale 1."""
        return from_wire(self.rows)


@dataclass(frozen=True, eq=False)
class CodesReceived:
    """codes: uint16 [K, T], each below the codebook's size; T may be 0 in a last packet. scale: float32 [T] or None.

    index: of the first frame. length: samples of the whole stream, in a last packet that knows it. reduced: fewer
    codebooks than agreed. again: frames that were left out before, from the packet that follows them.
    """

    index: int
    codes: Array
    scale: Array | None = None
    stream: int = 0
    last: bool = False
    length: int | None = None
    reduced: bool = False
    again: bool = False


@dataclass(frozen=True)
class Missing:
    """`count` samples or frames from `index` on will not come: a server makes up for them."""

    index: int
    count: int
    stream: int = 0


@dataclass(frozen=True)
class Lost:
    """The connection is no more, for this reason; the session waits to be resumed."""

    code: str


@dataclass(frozen=True)
class Ended:
    """The session is over. code: "goodbye", "lost", "resume_timeout" or that of an error."""

    code: str
    message: str


Event = Message | HelloReceived | PcmReceived | CodesReceived | Missing | Lost | Ended
