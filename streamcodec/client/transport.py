"""One WebSocket: carries what a `ClientSession` says, no faster than the server allows, and what it is told."""

import asyncio
import contextlib
import inspect
import ssl as tls
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from ..addresses import is_loopback
from ..errors import MissingPackageError
from ..install import how_to_install
from ..protocol import REPLACED as REPLACED_CLOSE
from ..protocol import SUBPROTOCOL, ClientSession, Event
from ..protocol.faults import NORMAL, Close
from ..protocol.link import Bucket
from ..protocol.messages import Welcome
from .events import SessionError

try:
    from websockets import exceptions
    from websockets.asyncio.client import ClientConnection
    from websockets.asyncio.client import connect as open_socket
    from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
except ModuleNotFoundError as error:  # not there, or before version 13
    raise MissingPackageError(
        f"the client needs the package websockets, 13 or later ({error}); install it with: {how_to_install('client')}",
        name=error.name,
    ) from error

__all__ = ["FAILURES", "REPLACED", "SendRate", "Transport", "reason_of"]

REPLACED = REPLACED_CLOSE.code
MAX_BYTES = 2**24  # of one message of the server's, as `ClientSession` has it
READ_AHEAD = 16  # messages that the library holds
OPEN_SECONDS = 10.0
CLOSE_SECONDS = 1.0
PING_SECONDS = 20.0
# Of the server's rate of messages: what the network bunches up must not break it.
PACE, BURST = 0.95, 0.5

TAKES_PROXY = "proxy" in inspect.signature(open_socket).parameters  # from version 15 on
# A proxy's address that is none, and a package for proxies that is not installed.
PROXY_FAILURES = (getattr(exceptions, "InvalidProxy", InvalidHandshake), ImportError)
FAILURES = (OSError, asyncio.TimeoutError, InvalidHandshake, EOFError, *PROXY_FAILURES)  # no connection came about


def reason_of(url: str, error: BaseException) -> SessionError:
    """Why no connection came about."""
    retry_after = None
    text = str(error) or type(error).__name__
    if isinstance(error, InvalidStatus):
        body = (error.response.body or b"").decode("utf-8", "replace").strip()
        text = f"HTTP {error.response.status_code} {body[:200]}".strip()
        told = error.response.headers.get("Retry-After", "")
        retry_after = float(told) if told.isascii() and told.isdecimal() and len(told) < 6 else None
    elif isinstance(error, tls.SSLCertVerificationError):
        text = f"{error.verify_message}; give its certificate by ssl= (streamcodec connect --ca FILE) if you trust it"
    elif isinstance(error, asyncio.TimeoutError):
        text = f"no answer within {OPEN_SECONDS:g} s"
    if not isinstance(error, InvalidStatus) and _has_proxy(host := urlsplit(url).hostname or ""):
        text += f" (through a proxy, of HTTPS_PROXY, ALL_PROXY or the like; NO_PROXY={host} goes past it)"
    return SessionError("unreachable", f"{url} cannot be reached: {text}", retry_after=retry_after)


def _has_proxy(host: str) -> bool:
    return TAKES_PROXY and not is_loopback(host) and bool(getproxies()) and not proxy_bypass(host)


class Transport:
    """Iterating gives the events of each message, until the connection is gone. waiting_bytes: not yet sent."""

    def __init__(
        self, socket: ClientConnection, protocol: ClientSession, rate: "SendRate", sent: Callable[[], None]
    ) -> None:
        self.waiting_bytes = 0
        self._socket, self._protocol, self._send_rate, self._sent = socket, protocol, rate, sent
        self._outbox: deque[str | bytes] = deque()
        self._wake = asyncio.Event()
        self._writer = asyncio.create_task(self._write())

    @staticmethod
    async def open(
        url: str,
        protocol: ClientSession,
        ssl: tls.SSLContext | None,
        rate: "SendRate",
        sent: Callable[[], None],
        resumable: bool = True,
    ) -> "Transport":
        """sent: called when messages have left. Raises those of FAILURES.

        resumable: whether the session outlives the connection. Else a server slows a sender by not reading for as long
        as it takes, and a ping that is not answered says nothing.
        """
        options: dict[str, Any] = {"ssl": ssl} if ssl is not None else {}
        if TAKES_PROXY and is_loopback(urlsplit(url).hostname or ""):
            options["proxy"] = None  # it would look on its own machine
        socket = await open_socket(
            url,
            subprotocols=[SUBPROTOCOL],  # type: ignore[list-item]
            compression=None,
            max_size=MAX_BYTES,
            max_queue=READ_AHEAD,
            open_timeout=OPEN_SECONDS,
            close_timeout=CLOSE_SECONDS,
            ping_interval=PING_SECONDS,
            ping_timeout=PING_SECONDS if resumable else None,
            **options,
        )
        if socket.subprotocol != SUBPROTOCOL:
            await socket.close()
            raise InvalidHandshake(f"the server does not speak {SUBPROTOCOL}")
        return Transport(socket, protocol, rate, sent)

    def pump(self) -> None:
        """Take over what the protocol has to send."""
        for message in self._protocol.messages_to_send():
            self._outbox.append(message)
            self.waiting_bytes += len(message)
        self._wake.set()

    async def __aiter__(self) -> AsyncIterator[list[Event]]:
        with contextlib.suppress(ConnectionClosed):
            async for message in self._socket:
                events = self._protocol.receive(message)
                self.pump()
                yield events
                if self._protocol.close is not None:
                    return

    async def close(self) -> int | None:
        """End the connection as the protocol has it; the code that the server closed it with, if it did."""
        self._writer.cancel()
        await asyncio.gather(self._writer, return_exceptions=True)
        close = self._protocol.close or Close(NORMAL, "")
        await self._socket.close(close.code, close.text)
        received = self._socket.protocol.close_rcvd
        return None if received is None else int(received.code)

    async def _write(self) -> None:
        outbox = self._outbox
        with contextlib.suppress(ConnectionClosed):
            while True:
                while outbox:
                    await self._send_rate.wait(self._protocol.welcome)
                    message = outbox.popleft()
                    self.waiting_bytes -= len(message)
                    await self._socket.send(message)
                    self._sent()
                self._wake.clear()
                await self._wake.wait()


class SendRate:
    """Keeps a session's messages below the server's limit, over all its connections."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._bucket: Bucket | None = None

    async def wait(self, welcome: Welcome | None) -> None:
        """Until another message may go."""
        if welcome is None:
            return
        limits = welcome.limits
        if self._bucket is None:
            burst = max(1, int(limits.burst * BURST))
            self._bucket = Bucket(limits.messages_per_second * PACE, burst, self._clock())
        while (wait := self._bucket.take(self._clock())) > 0:
            await asyncio.sleep(wait)
