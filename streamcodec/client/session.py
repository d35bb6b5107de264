"""One session over as many connections as it takes: what a caller has."""

import asyncio
import ssl as tls
import time
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import SupportsFloat, SupportsIndex

from ..entropy import Predictor
from ..errors import InputError
from ..packet import Array
from ..protocol import ClientSession, CodecFacts, Ended, Hello, PcmReceived, State
from ..protocol import Event as WireEvent
from ..protocol.messages import ErrorMessage, Farewell, Pong, Resumed, Statistics, Welcome
from ..scalars import whole
from .directions import check_gives, check_makes_codes, check_takes
from .events import CodesPacket, Event, Pcm, Renewed, SessionError
from .inbox import Inbox
from .packing import checked_codes, checked_pcm, chosen_bandwidth, frames_of, pieces, samples_of
from .retry import Retry
from .transport import FAILURES, REPLACED, SendRate, Transport, reason_of

__all__ = ["Session"]

CLOSE_SECONDS = 3.0  # for the goodbye and what waits before it
BACKLOG = 65_536  # bytes that the transport has not taken: a sender waits
FRUITLESS = 2  # messages of a connection that brought nothing: the answer to the resume, and an error
KEEP = "keep"  # of the pings that keep a silent session
# After these the session is gone though nobody wanted it: `renew` opens another one.
RENEWABLE = ("resume_unknown", "resume_gap", "resume_timeout", "idle_timeout", "too_slow", "server_shutdown", "lost")
AGAIN = ("unreachable", "lost", "busy", "server_shutdown", "handshake_timeout")  # opening may work a little later


class Session:
    """Opened by ``async with``; iterating gives packets and messages (`Event`) in order, until `close`.

    All calls belong to one event loop. After the session is over, for another reason than `close`, every call and the
    iteration raise that SessionError, once what came before was taken. A call that the session's mode has no answer to
    (PCM in mode decode, `pcm` in mode encode) raises InputError, and the session goes on.

    welcome: the server's answer: codec, delays, limits. reconnects: connections after the first that went on with it.
    """

    welcome: Welcome  # set when the session is open

    def __init__(
        self, url: str, hello: Hello, *, renew: bool, open_seconds: float, queue: int, ssl: tls.SSLContext | None,
        clock: Callable[[], float] = time.monotonic, predictor: Predictor | None = None,
    ) -> None:  # fmt: skip
        self.url, self.hello = url, hello
        self.reconnects = 0
        self._renew, self._open_seconds, self._ssl, self._clock = renew, open_seconds, ssl, clock
        self._predictor = predictor
        self._protocol = ClientSession(predictor)
        self._inbox: Inbox[Event] = Inbox(queue)
        self._connection: Transport | None = None
        self._send_rate = SendRate(clock)
        self._opened = False  # by the connection that is or was last
        self._runner: asyncio.Task[None] | None = None
        self._over: SessionError | None = None
        self._fault: ErrorMessage | Farewell | None = None  # what the server said last about the connection's end
        self._ended: tuple[str, str] | None = None
        self._renewing: str | None = None  # why the session before is over
        self._waiters: list[asyncio.Future[None]] = []
        self._asked: list[asyncio.Future[Statistics]] = []
        self._closing = False
        self._marks = 0

    # Life

    async def __aenter__(self) -> "Session":
        if self._runner is not None:
            raise InputError("a session is entered once; call connect again")
        self._runner = asyncio.create_task(self._run())
        try:
            await self._until(lambda: hasattr(self, "welcome"))
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Say goodbye, which frees the session's place at the server, and drop what was not taken. Twice is fine."""
        runner = self._runner
        if runner is None or self._closing:
            return
        self._closing = True
        self._inbox.discard()
        if self._protocol.state is State.OPEN and self._connection is not None:
            self._protocol.goodbye()
            self._connection.pump()
            await asyncio.wait({runner}, timeout=CLOSE_SECONDS)
        runner.cancel()
        await asyncio.gather(runner, return_exceptions=True)
        self._finish(SessionError("closed", "the session was closed"))

    # To the server

    async def send(self, samples: Array) -> None:
        """Samples [n, C] (or [n] of one channel), float32, float64 or int16, any n; at the session's rate.

        Waits while the server is behind, or the connection is lost and as much waits as may. With a max_delay it does
        not wait, and what would be late is left out: see `left_out`. Raises ShapeError, DtypeError or NonFiniteError,
        and nothing was sent then; InputError where the mode takes no PCM; SessionError where the session is over.
        """
        self._check_open("send")
        check_takes(self.hello, "send", "pcm")
        pcm, limits = self.welcome.pcm, self.welcome.limits
        assert pcm is not None, "who sends PCM has said how"
        columns = checked_pcm(samples, pcm, limits.peak)
        for piece in pieces(columns.shape[1], samples_of(pcm, limits.message_bytes)):
            if await self._on_time(piece.stop - piece.start):
                self._protocol.send_pcm(columns[:, piece])
                self._pump()

    async def send_codes(self, codes: Array, scale: Array | None = None) -> None:
        """Codes [K, T] of integers, with scale [T] for a codec that has scales. As `send`; raises CodesError too."""
        self._check_open("send_codes")
        check_takes(self.hello, "send_codes", "codes")
        codec = self.welcome.codec
        codes, scale = checked_codes(codes, scale, codec)
        most = frames_of(codes.shape[0], codec, self.welcome.limits.message_bytes)
        for piece in pieces(codes.shape[1], most):
            part, scales = codes[:, piece], None if scale is None else scale[piece]
            if await self._on_time(piece.stop - piece.start):
                self._protocol.send_codes(part, scale=scales)
                self._pump()
            else:
                self._protocol.lose(part, scales)

    async def marker(self, name: str | None = None) -> str:
        """A mark in what is sent; the iteration has a `Marker` of that id after all output of what was sent before."""
        self._check_open("marker")
        check_takes(self.hello, "marker", "pcm", "codes")
        self._marks += 1
        name = f"m{self._marks}" if name is None else name
        await self._writable()
        self._protocol.mark(name)
        self._pump()
        return name

    async def set_bandwidth(
        self, bandwidth: SupportsFloat | None = None, *, num_codebooks: SupportsIndex | None = None
    ) -> None:
        """Another bandwidth from here on; the iteration has a `NewBandwidth` that says from which frame.

        bandwidth: kbps, one of `codec.bandwidths`; or num_codebooks, one of `codec.bandwidth_codebooks`. Raises
        InputError.
        """
        self._check_open("set_bandwidth")
        check_makes_codes(self.hello, "set_bandwidth")
        chosen = chosen_bandwidth(bandwidth, num_codebooks, self.welcome.codec)
        await self._writable()
        self._protocol.change_bandwidth(chosen)
        self._pump()

    async def flush(self, length: SupportsIndex | None = None) -> None:
        """The stream ends, and what is sent next begins another one. The iteration has the rest, the last packet with
        `last`, then `Flushed`. length: of codes that were sent, the samples they stand for, at the codec's rate."""
        self._check_open("flush")
        check_takes(self.hello, "flush", "pcm", "codes")
        if length is not None:
            check_takes(self.hello, "flush with a length", "codes")
            length = whole(length, "length", 0)
        await self._writable()
        self._protocol.flush(length)
        self._pump()

    async def statistics(self) -> Statistics:
        """What the server counted so far. Somebody has to iterate at the same time, or little be waiting."""
        self._check_open("statistics")
        await self._until(lambda: self._protocol.state is State.OPEN)
        answer: asyncio.Future[Statistics] = asyncio.get_running_loop().create_future()
        self._asked.append(answer)
        self._protocol.ask_statistics()
        self._pump()
        return await answer

    # From the server

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        self._check_open("the iteration")
        return await self._inbox.get()

    def packets(self) -> AsyncIterator[Pcm | CodesPacket]:
        """The packets alone. Outside of rooms it ends with the last one of the stream, after a flush.

        Raises InputError for a room's speaker, who gets none.
        """
        self._check_open("packets")
        check_gives(self.hello, "packets", "pcm", "codes")
        return self._packets()

    def pcm(self) -> AsyncIterator[Array]:
        """The samples of `packets`, float32 [n, C]. Raises InputError where the mode gives no PCM."""
        self._check_open("pcm")
        check_gives(self.hello, "pcm", "pcm")
        return self._samples()

    async def _packets(self) -> AsyncIterator[Pcm | CodesPacket]:
        async for event in self:
            if isinstance(event, (Pcm, CodesPacket)):
                yield event
                if event.last and self.hello.mode != "room":
                    return

    async def _samples(self) -> AsyncIterator[Array]:
        async for packet in self._packets():
            if isinstance(packet, Pcm):
                yield packet.samples

    @property
    def codec(self) -> CodecFacts:
        """The server's codec."""
        return self.welcome.codec

    @property
    def connected(self) -> bool:
        """Whether there is a connection now."""
        return self._protocol.state is State.OPEN

    @property
    def left_out(self) -> int:
        """With a max_delay: samples or frames that were not sent, since they would have been late."""
        return self._protocol.left_out

    @property
    def redundancy_level(self) -> int | None:
        """With redundancy "auto": how much this end's packets carry of what was left out, 0 (nothing) to 3; None where
        the server does not know it."""
        measured = self._protocol.measured
        return None if measured is None else measured.level

    @property
    def loss(self) -> float | None:
        """With redundancy "auto": the share of this end's frames that the server lacked lately; None as above."""
        measured = self._protocol.measured
        return None if measured is None else measured.loss

    @property
    def unacknowledged(self) -> tuple[int, int]:
        """Messages and bytes that were sent and that the server may not have yet."""
        return self._protocol.unacknowledged

    # Inside: waiting

    def _check_open(self, call: str) -> None:
        if not hasattr(self, "welcome"):
            raise self._over or InputError(f"{call}: the session is not open yet; open it by `async with` first")

    async def _on_time(self, count: int) -> bool:
        """Whether so many samples or frames may be sent now. Without a max_delay: waits until they may."""
        if self.hello.max_delay is None:
            await self._writable()
            return True
        await self._until(lambda: True)  # raises where the session is over
        ready = self.connected and self._protocol.writable
        if not ready:
            self._protocol.leave_out(count)
        return ready

    async def _writable(self) -> None:
        await self._until(self._may_send)

    def _may_send(self) -> bool:
        connection = self._connection
        return self._protocol.writable and (connection is None or connection.waiting_bytes < BACKLOG)

    async def _until(self, ready: Callable[[], bool]) -> None:
        while True:
            if self._over is not None:
                raise self._over
            if self._closing:
                raise SessionError("closed", "the session was closed")
            if ready():
                return
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            await waiter

    def _notify(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    def _pump(self) -> None:
        if self._connection is not None:
            self._connection.pump()

    # Inside: connections

    async def _run(self) -> None:
        try:
            await self._connections()
            self._finish(None)
        except SessionError as error:
            self._finish(error)
        except Exception as error:
            self._finish(SessionError("internal", f"an error inside the client: {error!r}"))
            raise

    def _finish(self, error: SessionError | None) -> None:
        self._over = self._over or error or SessionError("closed", "the session was closed")
        self._inbox.close(error)
        for waiting in self._asked:
            if not waiting.done():
                waiting.set_exception(self._over)
        self._asked = []
        self._notify()

    async def _connections(self) -> None:
        """Until the client said goodbye. Raises SessionError."""
        retry = Retry(self._clock() + self._open_seconds)
        while True:
            before = self._protocol.received_messages
            error = await self._attempt()
            if error.code == "goodbye" or self._closing:
                return
            now, opened = self._clock(), self._opened
            if opened:
                retry.ends = now + self.welcome.resume_seconds
            if self._protocol.received_messages - before > FRUITLESS:
                retry.restart()
            wait = retry.wait(now, error.retry_after)
            if self._protocol.state is not State.DETACHED or error.code == "replaced" or wait is None:
                wait = self._anew(error, retry, wait)
            await asyncio.sleep(wait)

    def _anew(self, error: SessionError, retry: Retry, wait: float | None) -> float:
        """There is no session (any more): prepares another. Seconds to wait; raises the error if that is the end."""
        if hasattr(self, "welcome") and self._renewing is None:  # there was a session
            seconds = self.welcome.resume_seconds
            if self._protocol.state is State.DETACHED and error.code != "replaced":
                text = f"no connection for {seconds:g} s ({error.message}); the session is lost"
                error = SessionError("resume_timeout", text, retry_after=error.retry_after)
            if not (self._renew and error.code in RENEWABLE):
                raise error
            self._renewing = error.code
            retry.ends = self._clock() + max(self._open_seconds, seconds)
            wait = retry.wait(self._clock(), error.retry_after)
        elif error.code not in AGAIN:
            raise error
        if wait is None:
            raise error
        self._protocol, self._send_rate = ClientSession(self._predictor), SendRate(self._clock)
        return wait

    async def _attempt(self) -> SessionError:
        """One connection from its opening to its end; why it ended."""
        protocol = self._protocol
        self._fault = self._ended = None
        self._opened = False
        try:
            connection = await Transport.open(
                self.url, protocol, self._ssl, self._send_rate, self._notify, self.hello.resume
            )
        except FAILURES as error:
            return reason_of(self.url, error)
        self._connection = connection
        keeper = asyncio.create_task(self._keep_alive())
        try:
            if protocol.state is State.DETACHED:
                protocol.resume()
            else:
                protocol.hello(self.hello)
            connection.pump()
            async for events in connection:
                for event in events:
                    await self._take(event)
        finally:
            keeper.cancel()
            self._connection = None
            code = await connection.close()
            for event in protocol.disconnected():
                await self._take(event)
            self._notify()
        return self._reason(code)

    def _reason(self, close_code: int | None) -> SessionError:
        fault = self._fault
        retry_after = None if fault is None else fault.retry_after
        if close_code == REPLACED:
            return SessionError("replaced", "another connection has resumed this session")
        if isinstance(fault, ErrorMessage):
            return SessionError(fault.code, fault.message, allowed=fault.allowed, retry_after=retry_after)
        code, message = self._ended or ("lost", "the connection was lost")
        return SessionError(code, message, retry_after=retry_after)

    async def _keep_alive(self) -> None:
        """A ping now and then, lest a silent session ends by its idle time-out."""
        while True:
            await asyncio.sleep(self.welcome.limits.idle_seconds / 3 if hasattr(self, "welcome") else 1.0)
            if self._protocol.state is State.OPEN:
                self._protocol.ping(KEEP)
                self._pump()

    # Inside: what comes

    async def _take(self, event: WireEvent) -> None:
        self._notify()
        if isinstance(event, PcmReceived):
            await self._inbox.put(Pcm(event.index, event.samples.T, event.stream, event.last))
        elif isinstance(event, Welcome):
            await self._welcomed(event)
        elif isinstance(event, Statistics):
            if self._asked:
                self._asked.pop(0).set_result(event)
        elif (isinstance(event, ErrorMessage) and event.scope != "message") or isinstance(event, Farewell):
            self._fault = event
        elif not isinstance(event, Pong):
            await self._take_other(event)

    async def _take_other(self, event: WireEvent) -> None:
        if isinstance(event, Ended):
            self._ended = event.code, event.message
            return
        if isinstance(event, Resumed):
            self._opened = True
            self.reconnects += 1
            for _ in self._asked:  # what was asked before is lost with the old connection
                self._protocol.ask_statistics()
            self._pump()
        await self._inbox.put(event)  # type: ignore[arg-type]  # CodesPacket, Missing, Lost and the messages of `Event`

    async def _welcomed(self, welcome: Welcome) -> None:
        self.welcome, self._opened = welcome, True
        code, self._renewing = self._renewing, None
        if code is not None:
            await self._inbox.put(Renewed(code, welcome))
