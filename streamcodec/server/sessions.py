"""The sessions of a server: who may open one, who comes back to one, and what is counted of them."""

import contextlib
import math
import secrets
import time
from collections.abc import Callable, Iterator
from typing import Protocol

from ..entropy import Predictor
from ..protocol import (
    Agreement,
    CodecFacts,
    Ended,
    Lost,
    ProtocolError,
    Resume,
    ServerSession,
)
from .auth import AccessPolicy, digest, new_token
from .config import Config
from .connection import Connection
from .conversion import delays
from .live_session import LiveSession
from .logs import Log
from .prometheus import Metrics
from .rooms import RoomMember, Rooms
from .voice import Engines, queue_frames

__all__ = ["ServerParts", "Sessions"]

QUEUE_SHARE = 0.25  # of a client's max_delay, for its input that waits for the engine


class ServerParts(Protocol):
    """What of a server its sessions need."""

    config: Config
    offers: dict[str, CodecFacts]
    predictors: dict[str, Predictor]
    clock: Callable[[], float]
    access: AccessPolicy
    metrics: Metrics
    log: Log
    rooms: Rooms
    draining: bool

    @property
    def engine(self) -> Engines: ...

    @property
    def is_ready(self) -> bool: ...


class Sessions:
    """Those that are not over, in the order in which they were opened: iterating gives them, and `len` counts them.

    taken: slots of each codec that they have, encoders and decoders. by_token: sessions by the digest of their tokens.
    """

    def __init__(self, server: ServerParts) -> None:
        self._server, self._config = server, server.config
        self.offers, self.limits, self.clock = server.offers, server.config.limits, server.clock
        self.predictors = server.predictors
        self.taken: dict[str, list[int]] = {name: [0, 0] for name in server.offers}
        self.by_token: dict[bytes, LiveSession] = {}

    def __iter__(self) -> Iterator[LiveSession]:
        return iter(self.by_token.values())

    def __len__(self) -> int:
        return len(self.by_token)

    # -- they begin ------------------------------------------------------------------------------------------------

    def admit(self, connection: Connection, agreement: Agreement) -> None:
        """The answer to hello: a session, which is the connection's from then on, or a refusal."""
        protocol = connection.protocol
        assert protocol is not None
        try:
            self._check(connection, agreement)
        except ProtocolError as error:
            protocol.refuse(
                error.code, error.message, self.clock(), allowed=error.allowed, retry_after=error.retry_after
            )
            self.refused(error.code, connection.address)
        else:
            self._open(connection, protocol, agreement)

    def refused(self, code: str, address: str) -> None:
        """Count a connection that came to no session."""
        self._server.metrics.refused.labels(code).inc()
        self._server.log("info", "refused", code=code, address=address)

    def failed(self, address: str, error: Exception) -> None:
        """Tell of a mistake of ours on a connection without a session."""
        self._server.log("error", "connection", address=address, error=f"{type(error).__name__}: {error}")

    def _check(self, connection: Connection, agreement: Agreement) -> None:
        config, server, hello, retry = self._config, self._server, agreement.hello, self._config.retry_seconds
        if not server.access.admits(hello.key, connection.bearer):
            raise ProtocolError("unauthorised", "this server wants a key: hello.key, or a bearer token")
        if server.draining:
            raise ProtocolError("server_shutdown", "the server is going away", retry_after=retry)
        if not server.is_ready:
            raise ProtocolError("busy", "the server is not ready yet", retry_after=retry)
        if len(self) >= config.sessions:
            raise ProtocolError("busy", f"all {config.sessions} sessions are taken", retry_after=retry)
        if sum(live.address == connection.address for live in self) >= config.sessions_per_address:
            text = f"{config.sessions_per_address} sessions from one address are the most"
            raise ProtocolError("busy", text, retry_after=retry)
        taken = self.taken[agreement.codec.name]
        if any(there + more > config.slots for there, more in zip(taken, _slots(agreement), strict=True)):
            raise ProtocolError("busy", f"all {config.slots} slots of this codec are taken", retry_after=retry)
        if hello.room is not None:
            server.rooms.check(hello.room.name, agreement.codec.name, agreement.takes is not None)

    def _open(self, connection: Connection, protocol: ServerSession, agreement: Agreement) -> None:
        hello, now, server = agreement.hello, self.clock(), self._server
        name, token = secrets.token_hex(6), new_token()
        queue = math.inf if hello.max_delay is None else hello.max_delay * QUEUE_SHARE
        live = LiveSession(
            name, protocol, agreement, connection.address, server.engine,
            queue_frames(server.engine.codecs[agreement.codec.name], min(self._config.queue_seconds, queue)),
            self.clock, self._over, self._lost,
        )  # fmt: skip
        live.link, live.token = connection, digest(token)
        connection.live = live
        self.by_token[live.token] = live
        self._take_slots(agreement, 1)
        server.metrics.opened.labels(hello.mode).inc()
        server.metrics.sessions.labels(agreement.codec.name, hello.mode).inc()
        room = None
        member = server.rooms.enter(hello.room.name, live) if hello.room is not None else None
        if member is not None:
            live.membership, room = member, member.room.facts(member)
        protocol.accept(name, token, delays(agreement), now, time.time(), room)
        if member is not None:
            member.room.announce(member)
        server.log("info", "opened", session=name, mode=hello.mode, codec=agreement.codec.name,
                   address=connection.address)  # fmt: skip

    def _take_slots(self, agreement: Agreement, sign: int) -> None:
        taken = self.taken[agreement.codec.name]
        for direction, more in enumerate(_slots(agreement)):
            taken[direction] += sign * more

    def resume(self, connection: Connection, request: Resume) -> None:
        """The session with that token, on this connection from now on."""
        live = self.by_token.get(digest(request.token))
        if live is None or live.ended is not None or self._server.draining:
            assert connection.protocol is not None
            connection.protocol.refuse("resume_unknown", "no session has this token", self.clock())
            self.refused("resume_unknown", connection.address)
            return
        if live.link is not None:
            live.link.replaced()
        live.link, live.catching_up = connection, True
        connection.protocol = live.protocol
        connection.live = live
        live.take(live.protocol.resume(request, self.clock()))
        self._server.metrics.resumed.inc()
        self._server.log("info", "resumed", session=live.name, address=connection.address)

    # -- they end --------------------------------------------------------------------------------------------------

    def fail(self, live: LiveSession, error: BaseException) -> None:
        """End a session for a mistake of ours; it must not cost anyone else's, and nothing of it is kept."""
        self._server.log("error", "session", session=live.name, error=f"{type(error).__name__}: {error}")
        with contextlib.suppress(Exception):  # who calls this goes on with the other sessions
            live.take(live.protocol.refuse("internal", "the server failed on this session", self.clock()))
        with contextlib.suppress(Exception):
            if live.link is not None:
                live.link.pump()
        if live.token in self.by_token:  # its own way to the end fails too
            with contextlib.suppress(Exception):
                live.abandon("internal", "the server failed on this session")
            self._forget(live, "internal")

    def _lost(self, live: LiveSession, lost: Lost) -> None:
        self._server.metrics.lost.inc()
        self._server.log("info", "lost", session=live.name, code=lost.code)

    def _over(self, live: LiveSession, ended: Ended) -> None:
        self._count(live)
        self._forget(live, ended.code)

    def _forget(self, live: LiveSession, code: str) -> None:
        """It is over: give back all that it took. Twice is fine."""
        if self.by_token.pop(live.token, None) is None:
            return
        metrics = self._server.metrics
        self._take_slots(live.agreement, -1)
        metrics.ended.labels(code).inc()
        metrics.sessions.labels(live.agreement.codec.name, live.agreement.hello.mode).dec()
        self._server.log("info", "ended", session=live.name, code=code, received=live.protocol.received_messages,
                         sent=live.protocol.sent_messages)  # fmt: skip
        if isinstance(live.membership, RoomMember):
            gone = {"goodbye": "goodbye", "lost": "lost", "resume_timeout": "lost"}
            self._server.rooms.leave(live.membership, gone.get(code, "removed"))

    # -- what is counted -------------------------------------------------------------------------------------------

    def count(self) -> None:
        """Bring the metrics up to date."""
        for live in self:
            self._count(live)
        self._server.metrics.detached.set(sum(live.link is None for live in self))

    def _count(self, live: LiveSession) -> None:
        protocol, metrics = live.protocol, self._server.metrics
        now = (protocol.received_messages, protocol.received_bytes, protocol.sent_messages, protocol.sent_bytes)
        received, received_bytes, sent, sent_bytes = (new - old for new, old in zip(now, live.counted, strict=True))
        live.counted = now
        metrics.messages.labels("received").inc(received)
        metrics.messages.labels("sent").inc(sent)
        metrics.bytes.labels("received").inc(received_bytes)
        metrics.bytes.labels("sent").inc(sent_bytes)


def _slots(agreement: Agreement) -> tuple[int, int]:
    """Slots of a session: encoders, decoders. A room's speaker may have to be decoded for those who hear PCM."""
    if agreement.hello.mode == "room":
        return int(agreement.takes == "pcm"), int(agreement.takes is not None)
    return int(agreement.takes == "pcm"), int(agreement.gives == "pcm")
