"""The wire of the live server, as docs/protocol.md has it, without input or output.

`ServerSession` and `ClientSession` take messages and give events; whoever owns a socket carries the messages. Nothing
here knows sockets, clocks, threads, codecs or torch; bits are in `packet`.
"""

from .agreement import Agreement, codec_facts, directions, negotiate
from .client import ClientSession
from .events import CodesReceived, Ended, Event, HelloReceived, Lost, Missing, PcmReceived
from .faults import FAULTS, Close, Fault, ProtocolError, Scope
from .limits import Limits
from .messages import (
    MAX_DELAY,
    SUBPROTOCOL,
    VERSION,
    WAY_SHARE,
    CodecFacts,
    Delay,
    Delays,
    Hello,
    Member,
    PcmFormat,
    RedundancyAgreed,
    Resume,
    RoomFacts,
    RoomRequest,
)
from .server import REPLACED, ServerSession
from .states import Cause, State

__all__ = [
    "FAULTS",
    "MAX_DELAY",
    "REPLACED",
    "SUBPROTOCOL",
    "VERSION",
    "WAY_SHARE",
    "Agreement",
    "Cause",
    "ClientSession",
    "Close",
    "CodecFacts",
    "CodesReceived",
    "Delay",
    "Delays",
    "Ended",
    "Event",
    "Fault",
    "Hello",
    "HelloReceived",
    "Limits",
    "Lost",
    "Member",
    "Missing",
    "PcmFormat",
    "PcmReceived",
    "ProtocolError",
    "RedundancyAgreed",
    "Resume",
    "RoomFacts",
    "RoomRequest",
    "Scope",
    "ServerSession",
    "State",
    "codec_facts",
    "directions",
    "negotiate",
]
