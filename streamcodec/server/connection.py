"""One WebSocket: a reader and a writer, and the session that they serve."""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from typing import Protocol

from websockets.exceptions import ConnectionClosed

from ..entropy import Predictor
from ..protocol import (
    REPLACED,
    Agreement,
    Close,
    CodecFacts,
    Ended,
    HelloReceived,
    Limits,
    ProtocolError,
    Resume,
    ServerSession,
)
from ..protocol.end import MAX_HELD
from ..protocol.messages import FROM_CLIENT, Goodbye, Message, type_of
from ..protocol.text import parse as parse_text
from .http_connection import CLOSE_SECONDS
from .live_session import LiveSession
from .sockets import GuardedConnection

__all__ = ["Connection"]

# Messages that may wait for the socket: what the protocol holds, and as many answers that have no number.
MOST_WAITING = 2 * MAX_HELD


class Reception(Protocol):
    """The server, as a connection sees it."""

    offers: dict[str, CodecFacts]
    predictors: dict[str, Predictor]
    limits: Limits
    clock: Callable[[], float]

    def admit(self, connection: "Connection", agreement: Agreement) -> None: ...
    def resume(self, connection: "Connection", request: Resume) -> None: ...
    def refused(self, code: str, address: str) -> None: ...
    def fail(self, live: LiveSession, error: BaseException) -> None: ...
    def failed(self, address: str, error: Exception) -> None: ...


class Connection:
    """Reads messages into the session's protocol and writes what that has to say.

    address: of the peer, for limits and logs. live: the session, once it is open.
    """

    def __init__(self, server: Reception, ws: GuardedConnection, address: str, bearer: str | None) -> None:
        self.server, self.ws, self.address, self.bearer = server, ws, address, bearer
        self.protocol: ServerSession | None = ServerSession(
            server.offers, server.limits, server.clock(), server.predictors
        )
        self.live: LiveSession | None = None
        self._outbox: deque[str | bytes] = deque()
        self.waiting_bytes = 0  # of messages that the transport has not taken yet
        self._wake = asyncio.Event()
        self._close: Close | None = None
        self._parked: deque[tuple[float, str | bytes]] = deque()
        self._parked_bytes = 0
        self._room = asyncio.Event()

    # -- for the session -------------------------------------------------------------------------------------------

    @property
    def waiting(self) -> int:
        """Messages that the transport has not taken yet."""
        return len(self._outbox)

    def pump(self) -> None:
        """Send what the protocol has to send, at once where the socket takes it; the rest is for the writer."""
        protocol = self.protocol
        if protocol is None:
            return
        for message in protocol.messages_to_send():
            if self._outbox or not self.ws.send_now(message):
                self._outbox.append(message)
                self.waiting_bytes += len(message)
        if protocol.close is not None and self._close is None:
            self._finish(protocol.close)
        if not self._outbox:
            return
        self._wake.set()
        limits = protocol.limits
        most = 2 * (limits.unacknowledged_bytes + limits.message_bytes)
        if self.waiting_bytes > most or len(self._outbox) > MOST_WAITING:
            # It asks for answers, or acknowledges what it was not sent, and reads nothing.
            self._clear()
            self.abort()

    def _clear(self) -> None:
        self._outbox.clear()
        self.waiting_bytes = 0

    def unpark(self) -> None:
        """The session has room: go on with what was read ahead."""
        live = self.live
        while self._parked and live is not None and not live.full and self._close is None:
            arrived, message = self._parked.popleft()
            self._parked_bytes -= len(message)
            self._receive(message, arrived)
        self._room.set()

    def replaced(self) -> None:
        """Another connection has the session now."""
        self.live = self.protocol = None
        self._clear()
        self._finish(REPLACED)

    def _finish(self, close: Close) -> None:
        self._close = close
        self._wake.set()
        self._room.set()
        asyncio.get_running_loop().call_later(CLOSE_SECONDS, self.abort)

    def abort(self) -> None:
        """Cut the connection, whatever waits."""
        self.ws.transport.abort()

    # -- the tasks -------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Until the connection is gone."""
        writer = asyncio.create_task(self._write())
        self.ws.take = self._take
        try:
            with contextlib.suppress(ConnectionClosed, OSError):
                await self._read()
            if self._close is not None:
                await self.ws.wait_closed()
        finally:
            writer.cancel()
            with contextlib.suppress(asyncio.CancelledError, ConnectionClosed, OSError):
                await writer
            self._gone()

    def _gone(self) -> None:
        live, protocol = self.live, self.protocol
        self._parked.clear()
        if protocol is None or (live is not None and live.link is not self):
            return
        if live is None:
            protocol.disconnected(self.server.clock())
            return
        live.link = None
        try:
            live.take(protocol.disconnected(self.server.clock()))
        except Exception as error:  # a mistake of ours
            self.server.fail(live, error)

    async def _write(self) -> None:
        outbox, ws = self._outbox, self.ws
        while True:
            while outbox:
                message = outbox[0]
                await ws.send(message)
                if outbox and outbox[0] is message:  # else the session has moved to another connection
                    outbox.popleft()
                    self.waiting_bytes -= len(message)
            if self._close is not None:
                await ws.close(self._close.code, self._close.text)
                return
            self._wake.clear()
            if self.live is not None and self.live.full:
                self.live.feed()
                self.pump()
            if not outbox and self._close is None:
                await self._wake.wait()

    def _take(self, message: str | bytes) -> bool:
        """A message as it comes, where none waits before it; returns whether it was taken, and else the reader gets it:
        waking that costs a fifth of what the server does for a packet.
        """
        live = self.live
        if live is None or live.full or self._parked or live.draining:
            return False
        self._receive(message, self.server.clock())
        return True

    async def _read(self) -> None:
        clock = self.server.clock
        async for message in self.ws:
            live = self.live
            if live is None:
                self._first(message)
            elif live.full or self._parked or live.draining:
                await self._read_ahead(live, message)
            else:
                self._receive(message, clock())

    def _receive(self, message: str | bytes, arrived: float) -> None:
        if self.protocol is None or self.live is None:
            return
        try:
            events = self.protocol.receive(message, arrived)
            if events or self.live.full:  # an acknowledgement is no event, and may have made room
                self.live.take(events)
            self.pump()
        except Exception as error:  # a mistake of ours
            self.server.fail(self.live, error)

    async def _read_ahead(self, live: LiveSession, message: str | bytes) -> None:
        """A message for which the session has no room.

        Those without a number, acknowledgements above all, are taken at once: a session without room may wait for just
        these. The others wait, unread by the protocol, so that they are not acknowledged and the client stops sending.
        A session that cannot be resumed has no acknowledgements to wait for: there one message waits, and the
        transport's flow control does the rest. When the server drains, no more input is taken.
        """
        kind = _control(message, live.protocol.limits.text_bytes)
        if kind is not None:
            if kind is Goodbye and live.speaks:  # what was said before is still to be heard in the room
                while self._parked:
                    arrived, before = self._parked.popleft()
                    self._receive(before, arrived)
                self._parked_bytes = 0
            self._receive(message, self.server.clock())
            return
        if live.draining:
            return
        self._parked.append((self.server.clock(), message))
        self._parked_bytes += len(message)
        self.unpark()  # an acknowledgement may have made room
        limits = live.protocol.limits
        most = limits.unacknowledged_bytes + limits.message_bytes if live.protocol.resumable else 0
        stopped = False
        while self._parked and self._close is None and self.protocol is not None:
            if self._parked_bytes <= most and len(self._parked) <= MAX_HELD:
                break
            stopped = True
            self._room.clear()
            closed = asyncio.ensure_future(self.ws.wait_closed())
            room = asyncio.ensure_future(self._room.wait())
            done, waiting = await asyncio.wait({closed, room}, return_when=asyncio.FIRST_COMPLETED)
            for task in waiting:
                task.cancel()
            if closed in done:
                return
        if stopped:
            live.protocol.read_again(self.server.clock())

    # -- the first message -----------------------------------------------------------------------------------------

    def _first(self, message: str | bytes) -> None:
        protocol, server = self.protocol, self.server
        if protocol is None:
            return
        try:
            for event in protocol.receive(message, server.clock()):
                if isinstance(event, HelloReceived):
                    server.admit(self, event.agreement)
                elif isinstance(event, Resume):
                    server.resume(self, event)
                elif isinstance(event, Ended):
                    server.refused(event.code, self.address)
        except Exception as error:  # a mistake of ours
            if self.live is not None:
                server.fail(self.live, error)
            else:
                server.failed(self.address, error)
                protocol.refuse("internal", "the server failed on this message", server.clock())
        self.pump()

    def tick(self, now: float) -> None:
        """Time passes, before there is a session."""
        if self.protocol is not None and self.live is None:
            for event in self.protocol.tick(now):
                if isinstance(event, Ended):
                    self.server.refused(event.code, self.address)
            self.pump()


def _control(message: str | bytes, most: int) -> type[Message] | None:
    """The kind of a text message without a number."""
    if not isinstance(message, str):
        return None
    try:
        kind = type_of(parse_text(message, most), FROM_CLIENT)
        return None if kind.numbered else kind
    except ProtocolError:
        return None
