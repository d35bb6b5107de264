"""A client of the live server, for asyncio; needs no torch. docs/protocol.md has the wire.

::

    async with connect("ws://127.0.0.1:8765", mode="roundtrip", sample_rate=24000) as session:
        await session.send(samples)         # float32 or int16 [n, C]; waits where the server is behind
        await session.flush()               # the stream ends
        async for samples in session.pcm():
            ...                             # float32 [n, C], until its last packet

Who sends much has to read at the same time, in another task: a server whose output is not taken stops reading.
"""

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
    Statistics,
    Welcome,
)
from .events import CodesPacket, Event, Pcm, Renewed, SessionError
from .jitter import JitterBuffer
from .mixer import Mixer
from .opening import connect
from .session import Session

__all__ = [
    "CodebooksChanged",
    "CodesPacket",
    "Dropped",
    "ErrorMessage",
    "Event",
    "Flushed",
    "JitterBuffer",
    "Joined",
    "Left",
    "Lost",
    "Marker",
    "Missing",
    "Mixer",
    "NewBandwidth",
    "Pcm",
    "Renewed",
    "Resumed",
    "Session",
    "SessionError",
    "Statistics",
    "Welcome",
    "connect",
]
