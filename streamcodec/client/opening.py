"""`connect`: what a caller asks for, as a hello."""

import ssl as tls
from typing import SupportsFloat, SupportsIndex

from ..addresses import ServerAddress, server_address
from ..entropy import EntropyModel, Predictor
from ..errors import InputError
from ..protocol import MAX_DELAY, VERSION, Hello, PcmFormat, RedundancyAgreed, RoomRequest
from ..scalars import real, whole
from .session import Session

__all__ = ["connect"]

MEASURED = RedundancyAgreed(frames=16, codebooks=4, measured=True)  # a third of a second of the bundled codec at most


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
    entropy: EntropyModel | None = None,
    redundancy: tuple[int, int] | str | None = None,
    open_seconds: float = 0.0,
    queue: int = 256,
    ssl: tls.SSLContext | None = None,
) -> Session:
    """A session with a server, to be opened by ``async with``.

    url: ws://HOST:PORT or wss://HOST:PORT; also the page's address, http or https, and its link to a room. A path that
    ends in / is that of the page, another one the WebSocket's own. Proxy variables (HTTPS_PROXY, ALL_PROXY, NO_PROXY)
    count, with websockets 15 or later, but never for this machine's own loopback addresses.
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

    entropy: the model with which codes are coded on the wire, where the server has the same for its codec; then
    `welcome.entropy` is its hash. None: codes go as they are.

    redundancy: (frames, codebooks), 1 to 64 and at least 1: where codes are left out, since an end is slow, the packet
    after them carries so many of the last of these frames, with so many codebooks. "auto": as much as the loss that the
    other end measures and tells asks for, 16 frames of 4 codebooks at most; `redundancy_level` and `loss` tell of it.

    ssl: for wss; None trusts what the system does. For a certificate of the server's own give
    ``ssl.create_default_context(cafile=FILE)``.

    Entering raises SessionError where the server cannot be reached or refuses, and InputError for a wrong url.
    """
    server = server_address(url)
    if ssl is not None and not server.secure:
        raise InputError(f"{server.socket} with ssl: only wss:// and https:// have a certificate")
    name = _room(mode, room, server)
    place = None if name is None else RoomRequest(name=name, role=role, send=send, receive=receive, member=member)
    pcm = PcmFormat(
        format=pcm_format, sample_rate=whole(sample_rate, "sample_rate", 0), channels=whole(channels, "channels", 0)
    )
    hello = Hello(
        version=VERSION, mode=mode, codec=codec, bandwidth=None if bandwidth is None else real(bandwidth, "bandwidth"),
        frames_per_packet=whole(frames_per_packet, "frames_per_packet", 0), pcm=pcm, crc=crc, resume=reconnect,
        start=start, max_delay=_max_delay(max_delay, reconnect), room=place,
        key=server.key if key is None else key, entropy=None if entropy is None else entropy.hash,
        redundancy=_redundancy(redundancy),
    )  # fmt: skip
    return Session(
        server.socket, hello, renew=renew, open_seconds=open_seconds, queue=queue, ssl=ssl,
        predictor=None if entropy is None else Predictor(entropy),
    )  # fmt: skip


def _redundancy(asked: tuple[int, int] | str | None) -> RedundancyAgreed | None:
    if asked is None:
        return None
    if isinstance(asked, str):
        if asked != "auto":
            raise InputError(f"redundancy is {asked!r}; it must be (frames, codebooks) or 'auto'")
        return MEASURED
    frames, codebooks = whole(asked[0], "redundancy's frames", 1), whole(asked[1], "redundancy's codebooks", 1)
    if frames > 64 or codebooks > 255:
        raise InputError(f"redundancy of {frames} frames and {codebooks} codebooks; at most 64 and 255 are allowed")
    return RedundancyAgreed(frames=frames, codebooks=codebooks)


def _max_delay(seconds: SupportsFloat | None, reconnect: bool) -> float | None:
    if seconds is None:
        return None
    value, (least, most) = real(seconds, "max_delay"), MAX_DELAY
    if not least <= value <= most:
        raise InputError(f"max_delay is {value:g} s; it must be {least:g} to {most:g}")
    if not reconnect:
        raise InputError("max_delay with reconnect=False: only what the server acknowledges can be bounded")
    return value


def _room(mode: str, room: str | None, server: ServerAddress) -> str | None:
    """The room that is asked for, in a call or by a link to it; None in other modes."""
    if server.room is None:
        return (room or "") if mode == "room" else None
    if mode != "room":
        raise InputError(f"the address is a link to the room {server.room!r}; take mode room, or leave #room= out")
    if room not in (None, server.room):
        raise InputError(f"the address is a link to the room {server.room!r}, and {room!r} is asked for; leave one out")
    return server.room
