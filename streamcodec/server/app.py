"""The server: listens, admits, keeps the sessions, and ends in good order."""

import asyncio
import contextlib
import math
import os
import sys
import time
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any

from websockets.asyncio.server import Server as WebSocketServer
from websockets.asyncio.server import ServerConnection, serve
from websockets.frames import CloseCode
from websockets.typing import Subprotocol

from ..codecs import Codec
from ..entropy import EntropyModel, Predictor
from ..errors import InputError, StreamError
from ..protocol import SUBPROTOCOL
from .auth import AccessPolicy, bearer
from .certificates import certified
from .config import Config
from .connection import Connection
from .engine_process import EngineProcesses
from .greeting import greeting
from .http import Request
from .http_connection import CLOSE_SECONDS
from .logs import Log
from .offers import check_live, facts_of
from .prometheus import Metrics
from .request_handler import RequestHandler
from .rooms import Rooms
from .sessions import Sessions
from .signals import told_by_signals
from .sockets import OVERSIZE, READ_AHEAD, WRITE_BUFFER, GuardedConnection, Handshakes, quiet_logger, tls_context
from .voice import Output, Voice

__all__ = ["Server"]

TICK_SECONDS = 0.1
FAILED = 2  # the exit code after a failure that is in the log
READY_SECONDS = 0.02  # between looks whether the engine is ready


class Server:
    """codecs: by the name that clients use, the default first. engines: made with the codecs and what they tell.
    models: for entropy coding of codes, by the codecs' names.

    ::

        server = Server(config, codecs)
        await server.start()            # port: where it listens
        await server.stop()             # in good order
    """

    def __init__(
        self,
        config: Config,
        codecs: dict[str, Codec],
        *,
        log: Log | None = None,
        models: Mapping[str, EntropyModel] | None = None,
        engines: Callable[..., EngineProcesses] = EngineProcesses,
    ) -> None:
        self.config = config
        self.limits = config.limits
        self.clock = time.monotonic
        self.log = log or Log(config.log_level, format=config.log_format)
        self.metrics = Metrics()
        self.access = AccessPolicy.from_file(config.key_file, config.origin)
        with certified(config, self.log) as files:
            self.tls = tls_context(files)
        self.handshakes = Handshakes(config, RequestHandler(self), self._cut)
        for name, codec in codecs.items():
            check_live(name, codec)
            for operation, backend in codec.served_by().items():
                self.metrics.backend.labels(name, operation, backend).set(1)
        fitting = self._fitting(codecs, models or {})
        self.offers = {name: facts_of(name, codec, fitting.get(name)) for name, codec in codecs.items()}
        self.predictors = {model.hash: Predictor(model) for model in fitting.values()}
        self.engine = engines(
            codecs, engines=config.engines, slots=config.slots, queue_seconds=config.queue_seconds,
            deliver=self._delivered, stepped=self._stepped, failed=self._failed,
        )  # fmt: skip
        self.rooms = Rooms(
            self.engine, members=config.room_members, speakers=config.room_speakers, lag=config.listener_lag,
            dropped=self.metrics.dropped.inc, reduced=self.metrics.reduced.inc,
        )  # fmt: skip
        self.draining = False
        self.hurried = False  # told to end at once, whatever is on its way
        self.port = 0
        self.sessions = Sessions(self)
        self.connections: set[Connection] = set()
        self._counted_drops = 0  # lines of the log
        self._listening: WebSocketServer | None = None
        self._ticker: asyncio.Task[None] | None = None
        self._failure: str | None = None

    def _fitting(self, codecs: Mapping[str, Codec], models: Mapping[str, EntropyModel]) -> dict[str, EntropyModel]:
        """The models that were trained for the weights that are here; of others the log tells."""
        fitting = {name: model for name, model in models.items() if model.fingerprint == codecs[name].fingerprint}
        for name in models.keys() - fitting.keys():
            self.log("warning", "entropy", codec=name, error="the entropy model is for other weights; not offered")
        return fitting

    # -- life ------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Listen; ready when the engine is, or draining when the server is told to stop before.

        Raises InputError where the address cannot be had, StreamError where the engine does not start.
        """
        config = self.config
        self.engine.start()
        try:
            self._listening = await self._listen()
        except (OSError, UnicodeError) as error:  # UnicodeError: no name at all
            await asyncio.get_running_loop().run_in_executor(None, self.engine.stop)
            raise InputError(f"cannot listen at {config.host} port {config.port}: {error}") from error
        self.port = next(iter(self._listening.sockets)).getsockname()[1]
        self._ticker = self._watched(self._tick(), "the task that ends what has waited too long")
        self.log("info", "listening", host=config.host, port=self.port, codecs=", ".join(self.offers))
        while not (self.engine.ready.is_set() or self.draining) and self.engine.alive:
            await asyncio.sleep(READY_SECONDS)
        if self.draining:
            return
        if not self.engine.alive:
            await self.stop()
            raise StreamError(f"the engine did not start: {self.engine.broken}")
        self.log("info", "ready")
        self.log.say(*greeting(config, self.port, self.offers, self.tls is not None))

    async def _listen(self) -> WebSocketServer:
        # The library's pings end a connection that does not answer; `GuardedConnection` has pings of its own.
        config, limits = self.config, self.limits
        return await serve(
            self._connected, config.host, config.port, ping_interval=None, server_header=None,
            subprotocols=[Subprotocol(SUBPROTOCOL)], compression=None, max_size=OVERSIZE * limits.message_bytes,
            max_queue=READ_AHEAD, write_limit=WRITE_BUFFER, open_timeout=limits.handshake_seconds,
            close_timeout=CLOSE_SECONDS, logger=quiet_logger(), **self.handshakes.options(self.tls),
        )  # fmt: skip

    async def stop(self) -> None:
        """Readiness goes false, audio on the way is finished, sessions are told; then all connections are closed.

        Takes at most `drain_seconds`, `CLOSE_SECONDS` for connections and as much for listening, and `STOP_SECONDS` for
        an engine that does not end.
        """
        self.draining = True
        self.log("info", "draining", sessions=len(self.sessions))
        deadline = self.clock() + self.config.drain_seconds
        for live in list(self.sessions):
            live.drain()
        while self.clock() < deadline and not self.hurried and not all(live.drained for live in self.sessions):
            await asyncio.sleep(0.01)
        unfinished = sum(not live.drained for live in self.sessions)
        for live in list(self.sessions):
            live.take(live.protocol.shut_down(self.config.retry_seconds))
            if live.link is not None:
                live.link.pump()
        if self._ticker is not None:
            self._ticker.cancel()
        closing = self.clock() + CLOSE_SECONDS
        while self.connections and self.clock() < closing and not self.hurried:
            for connection in self.connections:
                if connection.live is None:
                    connection.abort()
            await asyncio.sleep(0.01)
        for connection in self.connections:
            connection.abort()
        self.handshakes.shut()
        if self._listening is not None:
            self._listening.close()
            with contextlib.suppress(TimeoutError, asyncio.TimeoutError):
                await asyncio.wait_for(self._listening.wait_closed(), CLOSE_SECONDS)
        await asyncio.get_running_loop().run_in_executor(None, self.engine.stop)
        self.log("info", "stopped", unfinished=unfinished)

    def _watched(self, work: Coroutine[Any, Any, None], what: str) -> "asyncio.Task[None]":
        """Run what has no end while the server serves: should it end, the server has failed."""

        def ended(task: "asyncio.Task[None]") -> None:
            if self.draining:
                return
            error = None if task.cancelled() else task.exception()
            why = "without a word" if error is None else f"{type(error).__name__}: {error}"
            self._failure = self._failure or f"{what} has ended: {why}"
            self.log("error", "failed", error=self._failure)

        task = asyncio.create_task(work, name=what)
        task.add_done_callback(ended)
        return task

    @property
    def failure(self) -> str | None:
        """What has ended though the server cannot do without it; then nobody is admitted any more."""
        if self._failure is None and self.engine.broken is not None:
            return str(self.engine.broken)
        ended = not self.engine.alive and not self.draining  # before anybody said why
        return "the engine has ended" if ended and self._failure is None else self._failure

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_SECONDS)
            now = self.clock()
            for live in list(self.sessions):
                try:
                    live.tick(now)
                except Exception as error:
                    self.sessions.fail(live, error)
            for connection in list(self.connections):
                connection.tick(now)

    # -- the engine ---------------------------------------------------------------------------------------

    def _delivered(self, batch: list[tuple[Voice, Output]]) -> None:
        for voice, output in batch:
            if voice.closed:
                continue
            try:
                voice.receive(output)
            except Exception as error:  # a mistake of ours costs this session, and those after it nothing
                self._failed(voice.codec, error)
                with contextlib.suppress(Exception):
                    voice.receive(Output(error=error))
                voice.close()

    def _stepped(self, codec: str, seconds: float, sessions: int) -> None:
        self.metrics.step.observe(codec, seconds)
        self.metrics.batch.observe(codec, sessions)

    def _failed(self, codec: str, error: Exception) -> None:
        self.metrics.failed.inc()
        self.log("error", "engine", codec=codec, error=f"{type(error).__name__}: {error}")

    # -- connections -----------------------------------------------------------------------------------------------

    @property
    def full(self) -> bool:
        """Whether no connection is free."""
        return len(self.connections) >= self.config.connections

    def _cut(self, address: str) -> None:
        """A connection lost its place to a newer one, in its handshake."""
        self.sessions.refused("handshakes", address)

    async def _connected(self, ws: ServerConnection) -> None:
        assert isinstance(ws, GuardedConnection)
        assert ws.asked is not None
        self.handshakes.leave(ws)
        if self.full:  # several were in their handshakes at once
            self.sessions.refused("connections", ws.address)
            await ws.close(CloseCode.TRY_AGAIN_LATER, "no connection is free")
            return
        connection = Connection(self.sessions, ws, ws.address, bearer(ws.asked.get("authorization")))
        await self._serve(connection, ws.asked)

    async def _serve(self, connection: Connection, request: Request) -> None:
        self.connections.add(connection)
        self.metrics.connections.set(len(self.connections))
        try:
            self._check_origin(connection, request)
            await connection.run()
        except Exception as error:
            self.log("error", "connection", address=connection.address, error=f"{type(error).__name__}: {error}")
            raise
        finally:
            self.connections.discard(connection)
            self.metrics.connections.set(len(self.connections))

    def _check_origin(self, connection: Connection, request: Request) -> None:
        origin = request.get("origin")
        if not self.access.allows_origin(origin, request.get("host")):
            text = f"pages of {str(origin)[:200]} may not connect to this server"
            assert connection.protocol is not None
            connection.protocol.refuse("forbidden_origin", text, self.clock())
            self.sessions.refused("forbidden_origin", connection.address)
            connection.pump()

    @property
    def is_ready(self) -> bool:
        return self.state == "ready"

    @property
    def state(self) -> str:
        """What /readyz says."""
        if self.draining:
            return "draining"
        return self.failure or ("ready" if self.engine.ready.is_set() else "starting")

    # -- metrics ---------------------------------------------------------------------------------------------------

    def exposition(self) -> bytes:
        """The metrics, as text."""
        self.sessions.count()
        self.metrics.unwritten.inc(self.log.dropped - self._counted_drops)
        self._counted_drops = self.log.dropped
        self.metrics.rooms.set(len(self.rooms))
        self.metrics.engine_cpu.set(self.engine.cpu_seconds)
        self.metrics.process_cpu.set(time.process_time() + self.engine.cpu_seconds)
        self.metrics.resident.set(_resident())
        return self.metrics.exposition()


def _resident() -> float:
    """Bytes of memory that the process has now; NaN where the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:  # no Linux: the most that it ever had
        try:
            import resource
        except ImportError:  # Windows
            return math.nan
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


async def run(server: Server) -> int:
    """Serve until a signal says otherwise, then end in good order; a second signal breaks that off. The exit code.

    Afterwards the signals are ignored: the process is about to end. Raises what `Server.start` does.
    """
    told: list[int] = []
    event = asyncio.Event()

    def tell(number: int) -> None:
        told.append(number)
        server.draining = True  # also where it has not started yet
        server.hurried = len(told) > 1
        event.set()

    with told_by_signals(tell):
        await server.start()
        await event.wait()
        await server.stop()
    if server.failure is not None:
        return FAILED
    return 128 + told[-1] if server.hurried else 0
