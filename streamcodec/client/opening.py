"""`connect`: what a caller asks for, as a hello."""

import ssl as tls
from typing import SupportsFloat, SupportsIndex
from urllib.parse import urlsplit, urlunsplit

from ..errors import InputError
from ..protocol import MAX_DELAY, VERSION, Hello, PcmFormat, RoomRequest
from ..scalars import real, whole
from .session import Session

__all__ = ["address", "connect"]

SOCKET_PATH = "/v1/stream"
SCHEMES = {"ws": "ws", "wss": "wss", "http": "ws", "https": "wss"}


def connect(
    url: str,
    mode: str = "roundtrip",
    *,
    codec: str | None = None,
    bandwidth: SupportsFloat | None = None,
    sample_rate: SupportsIndex = 48_000,
    channels: SupportsIndex = 1,
    pcm_format: str = "s16le",
    frames_per_packet: SupportsIndex = 1,
    start: str = "primed",
    crc: bool = False,
    room: str | None = None,
    role: str = "both",
    send: str = "pcm",
    receive: str = "pcm",
    member: str = "",
    key: str | None = None,
    reconnect: bool = True,
    renew: bool = False,
    max_delay: SupportsFloat | None = None,
    open_seconds: float = 0.0,
    queue: int = 256,
    ssl: tls.SSLContext | None = None,
) -> Session:
    """A session with a server, to be opened by ``async with``.

    url: ws://HOST:PORT or wss://HOST:PORT; also http, https, and a path where the server is not at its own.
    mode: "encode" (PCM in, codes out), "decode", "roundtrip" or "room". codec, bandwidth (kbps): the server's own where
    None. sample_rate (Hz), channels, pcm_format ("s16le" or "f32le"): of PCM on the wire; the server resamples.
    frames_per_packet: in what the server sends. start: "primed", or "exact" for what the offline codec gives.
    crc: whether the server's packets have a checksum. key: the server's, if it wants one.
    room, role ("speaker", "listener", "both"), send and receive ("pcm" or "codes"), member (a name): in mode "room".

    reconnect: after a lost connection, try with back-off for as long as the server keeps the session, and go on to the
    bit. renew: where the session is gone (a server that was restarted), open another one; the iteration has a `Renewed`
    then. Otherwise that is a SessionError. open_seconds: for how long opening is tried again where the server is busy
    or cannot be reached. queue: packets and messages that wait to be taken; beyond it the server is not read from.

    max_delay: for live audio, the seconds (0.1 to 60) by which it may be late. What would be later is left out, by this
    end and by the server, and `send` does not wait. Without it nothing is left out.

    ssl: for wss; None trusts what the system does. For a certificate of the server's own give
    ``ssl.create_default_context(cafile=FILE)``.

    Entering raises SessionError where the server cannot be reached or refuses, and InputError for a wrong url.
    """
    server = address(url)
    if ssl is not None and not server.startswith("wss:"):
        raise InputError(f"{url} with ssl: only wss:// and https:// have a certificate")
    place = (
        RoomRequest(name=room or "", role=role, send=send, receive=receive, member=member) if mode == "room" else None
    )
    pcm = PcmFormat(
        format=pcm_format, sample_rate=whole(sample_rate, "sample_rate", 0), channels=whole(channels, "channels", 0)
    )
    hello = Hello(
        version=VERSION, mode=mode, codec=codec, bandwidth=None if bandwidth is None else real(bandwidth, "bandwidth"),
        frames_per_packet=whole(frames_per_packet, "frames_per_packet", 0), pcm=pcm, crc=crc, resume=reconnect,
        start=start, max_delay=_max_delay(max_delay, reconnect), room=place, key=key,
    )  # fmt: skip
    return Session(server, hello, renew=renew, open_seconds=open_seconds, queue=queue, ssl=ssl)


def _max_delay(seconds: SupportsFloat | None, reconnect: bool) -> float | None:
    if seconds is None:
        return None
    value, (least, most) = real(seconds, "max_delay"), MAX_DELAY
    if not least <= value <= most:
        raise InputError(f"max_delay is {value:g} s; it must be {least:g} to {most:g}")
    if not reconnect:
        raise InputError("max_delay with reconnect=False: only what the server acknowledges can be bounded")
    return value


def address(url: str) -> str:
    """The WebSocket address of a server. Raises InputError."""
    try:
        parts = urlsplit(url if "://" in url else f"ws://{url}")
        known = parts.scheme in SCHEMES and bool(parts.hostname) and not parts.fragment and parts.port != 0
    except ValueError:  # a port that is none, a bracket that is not closed
        known = False
    if not known:
        raise InputError(f"{url!r} is no address of a server; give one such as ws://127.0.0.1:8765")
    path = SOCKET_PATH if parts.path in ("", "/") else parts.path
    return urlunsplit((SCHEMES[parts.scheme], parts.netloc, path, parts.query, ""))
