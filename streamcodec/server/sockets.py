"""The sockets of strangers: what the WebSocket library leaves unbounded, bounded.

The library limits the size of a message and of a handshake, and how long a handshake lasts. It does not limit how many
handshakes go on at once, how many pings come a second and how many answers to them wait for a client that does not
read, of how many fragments a message is made (recent versions do), how many messages one read of the socket may hold,
and how long a connection stands that broke the protocol. Nor does it notice that a client is gone whose socket is not
read.
"""

import asyncio
import functools
import logging
import ssl
import sys
import time
from collections.abc import Callable
from typing import Any

from websockets.asyncio.server import Server
from websockets.frames import DATA_OPCODES, CloseCode, Frame
from websockets.protocol import Event, State
from websockets.server import ServerProtocol

from ..errors import InputError
from ..protocol.end import MAX_HELD
from ..protocol.link import Bucket
from .config import Config
from .conversion import MAX_COUNT
from .frames import BINARY, TEXT, alone, extent, head, unmasked
from .http_connection import CLOSE_SECONDS, Handler, HttpConnection
from .proxies import Proxies

__all__ = ["OVERSIZE", "WRITE_BUFFER", "GuardedConnection", "Handshakes", "quiet_logger", "tls_context"]

OPEN = State.OPEN  # for each message: an Enum's member takes many steps to be found
# A message above the limit is refused by the protocol; one above this many times it ends the connection unread.
OVERSIZE = 4
# Messages that the library reads ahead of us.
READ_AHEAD = 4
WRITE_BUFFER = 32_768
# Between pings, whose answers nobody waits for: a client whose socket is not read, to slow it, cannot answer in time.
# That one is gone whose socket is not read is only seen by writing to it.
PING_SECONDS = 10.0
# Fragments of a message; clients' libraries send whole messages, and browsers a few fragments.
FRAGMENTS = 1024
# Bytes that the transport may hold: what stops the writer, the largest message (a packet of stereo in float32) after
# that, and as much again for the answers to pings and the frames' headers, which no writer waits for.
MOST_WRITTEN = 2 * (WRITE_BUFFER + MAX_COUNT * 2 * 4)


class Handshakes:
    """The connections that are in their handshake or ask for a page: at most `most`, beyond which the oldest is cut.

    A client's own handshake takes milliseconds, so under a flood of slow ones it is the slow ones that go.
    cut: called with a connection's address.
    """

    def __init__(self, config: Config, handler: Handler, cut: Callable[[str], None]) -> None:
        self.most, self.limits, self.proxies = config.connections, config.limits, Proxies(config.trusted_proxy)
        self.handler, self._cut = handler, cut
        self._opening: dict[GuardedConnection, None] = {}  # in the order in which they came

    def options(self, tls: ssl.SSLContext | None) -> dict[str, Any]:
        """For the library's `serve`."""
        options: dict[str, Any] = {
            "create_connection": functools.partial(GuardedConnection, handshakes=self),
            "ssl": tls,
        }
        if tls is not None:
            options["ssl_handshake_timeout"] = self.limits.handshake_seconds
            if sys.version_info >= (3, 11):
                options["ssl_shutdown_timeout"] = CLOSE_SECONDS
        return options

    def enter(self, connection: "GuardedConnection") -> None:
        if len(self._opening) >= self.most:
            oldest = next(iter(self._opening))
            self.leave(oldest)
            oldest.transport.abort()
            self._cut(oldest.address)
        self._opening[connection] = None

    def leave(self, connection: "GuardedConnection") -> None:
        """It is through, or gone. Twice is fine."""
        self._opening.pop(connection, None)

    def shut(self) -> None:
        """Cut all that are still in the handshake."""
        for connection in list(self._opening):
            connection.transport.abort()

    def __len__(self) -> int:
        return len(self._opening)


class GuardedConnection(HttpConnection):
    """A connection that ends with 1008 (policy violation) or is cut when its client takes too much.

    take: given each whole message before which none waits; it returns whether it took it. Others, and those that it
    leaves, are for `recv`.
    """

    def __init__(self, protocol: ServerProtocol, server: Server, *, handshakes: Handshakes, **options: Any) -> None:
        super().__init__(protocol, server, handler=handshakes.handler, proxies=handshakes.proxies, **options)
        limits = handshakes.limits
        self._handshakes = handshakes
        self._control = Bucket(limits.messages_per_second, limits.burst, time.monotonic())
        self._most_ahead = MAX_HELD + limits.burst  # what a client may send again at once after a resume
        self._fragments = self._gathered = self._ahead = 0  # _gathered: bytes of the fragments
        self._refused = self._closing = False
        self._timer: asyncio.TimerHandle | None = None
        self._part = bytearray()  # of a frame that is not all here
        self._most_bytes = OVERSIZE * limits.message_bytes
        self._given_up = False  # the library has all that comes
        self.take: Callable[[str | bytes], bool] = lambda message: False

    # -- the library's callbacks -----------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._handshakes.enter(self)
        self._timer = self.loop.call_later(PING_SECONDS, self._knock)

    def connection_lost(self, exc: Exception | None) -> None:
        self._handshakes.leave(self)
        if self._timer is not None:
            self._timer.cancel()
        super().connection_lost(exc)

    def frames_received(self, data: bytes) -> None:
        """Whole messages are taken here. Every other frame is for the library, once all of it is here."""
        buffer: bytes | bytearray = data
        if self._part:
            self._part += data
            buffer = self._part
        elif self._takes_whole and (message := alone(data, self._most_bytes)) is not None and self.take(message):
            return
        place = 0
        while place < len(buffer):
            found = None if self._given_up else extent(buffer, place)
            if found is None or found[1] - found[0] > self._most_bytes - self._gathered:
                self._given_up = True  # it refuses this
                self._pass_on(bytes(buffer[place:]))
                place = len(buffer)
                break
            start, end = found
            if end > len(buffer):
                break
            if not self._taken(buffer, place, start, end):
                self._pass_on(bytes(buffer[place:end]))
            place = end
        if self._part:
            del self._part[:place]
        elif place < len(data):
            self._part += data[place:]

    @property
    def _takes_whole(self) -> bool:
        """Whether the next whole message may be taken here: the library has nothing that comes before it."""
        return not (self._ahead or self._fragments or self._given_up) and self.protocol.state is OPEN

    def _taken(self, data: bytes | bytearray, place: int, start: int, end: int) -> bool:
        """Whether the frame was a message that is done with."""
        kind = data[place]
        if (kind != BINARY and kind != TEXT) or not self._takes_whole:
            return False
        message = unmasked(data, start, end)
        if kind == BINARY:
            return self.take(message)
        try:
            return self.take(message.decode())
        except UnicodeDecodeError:
            return False

    def _pass_on(self, data: bytes) -> None:
        super().frames_received(data)
        if self.transport.get_write_buffer_size() > MOST_WRITTEN:
            self.transport.abort()
        elif self.protocol.state is State.CLOSING and not self._closing:
            self._closing = True  # and soon closed, also where the client does not close its side
            self.loop.call_later(CLOSE_SECONDS, self.transport.abort)

    def process_event(self, event: Event) -> None:
        if self._refused:
            return
        reason = self._objection(event) if isinstance(event, Frame) else None
        if reason is None:
            super().process_event(event)
            return
        self._refused = True
        self.protocol.fail(CloseCode.POLICY_VIOLATION, reason)
        self.send_data()

    async def recv(self, *how: Any, **options: Any) -> Any:
        message = await super().recv(*how, **options)
        self._ahead -= 1
        return message

    def send_now(self, message: str | bytes) -> bool:
        """Send a message, if the transport has room for it; returns whether it was sent."""
        if self.protocol.state is not OPEN or self.transport.get_write_buffer_size() > WRITE_BUFFER:
            return False
        kind, data = (TEXT, message.encode()) if isinstance(message, str) else (BINARY, message)
        self.transport.write(head(kind, len(data)) + data)
        return True

    # -- inside ----------------------------------------------------------------------------------------------------

    def _knock(self) -> None:
        self._timer = self.loop.call_later(PING_SECONDS, self._knock)
        if self.protocol.state is State.OPEN:
            self.protocol.send_ping(b"")
            self.send_data()

    def _objection(self, frame: Frame) -> str | None:
        """What is wrong with one more frame."""
        if frame.opcode not in DATA_OPCODES:
            wait = self._control.take(time.monotonic())
            return f"more than {self._handshakes.limits.messages_per_second:g} pings a second" if wait else None
        self._fragments += 1
        self._gathered += len(frame.data)
        if self._fragments > FRAGMENTS:
            return f"a message of more than {FRAGMENTS} fragments"
        if frame.fin:
            self._fragments = self._gathered = 0
            self._ahead += 1
        return f"more than {self._most_ahead} messages at once" if self._ahead > self._most_ahead else None


def tls_context(config: Config) -> ssl.SSLContext | None:
    if config.tls_certificate is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(config.tls_certificate, config.tls_key, password="")  # lest it asks at the terminal
    except (OSError, ssl.SSLError) as error:
        key = config.tls_key or config.tls_certificate
        raise InputError(
            f"--tls-certificate {config.tls_certificate} with --tls-key {key} cannot be used: {error}; give PEM files "
            "of a certificate and of its own private key, without a password"
        ) from error
    return context


def quiet_logger() -> logging.Logger:
    """The library's own log would have addresses and requests in another form."""
    logger = logging.getLogger("streamcodec.websockets")
    logger.addHandler(logging.NullHandler())
    logger.propagate = False
    logger.setLevel(logging.CRITICAL)
    return logger
