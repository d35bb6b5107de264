"""A connection that begins with HTTP and becomes a WebSocket where its request asks for one and gets it."""

import asyncio
import contextlib
from typing import Any, Protocol

from websockets.asyncio.server import Server, ServerConnection
from websockets.server import ServerProtocol

from .http import Exchange, Request, RequestError, Response
from .proxies import Proxies

__all__ = ["CLOSE_SECONDS", "Handler", "HttpConnection"]

# Seconds for what is still to be sent when a connection is closed, and for the closing handshake.
CLOSE_SECONDS = 3.0


class Handler(Protocol):
    """What says who gets a WebSocket, and what the others get."""

    async def __call__(self, request: Request, address: str) -> Response | None:
        """None: it gets one."""

    def refusal(self, error: RequestError, address: str) -> Response:
        """The response to what cannot be understood."""

    def failure(self, error: Exception, request: Request, address: str) -> Response:
        """The response where answering failed."""


class HttpConnection(ServerConnection):
    """The library has the connection from the handshake on; before, and for all other requests, `handler` does.

    address: of the client, as far as it is known. asked: its request, once all of it is here.
    """

    def __init__(
        self, protocol: ServerProtocol, server: Server, *, handler: Handler, proxies: Proxies, **options: Any
    ) -> None:
        super().__init__(protocol, server, **options)
        self.address = ""
        self.asked: Request | None = None
        self._http_handler, self._proxies = handler, proxies
        self._exchange: Exchange | None = Exchange()  # None: the library has the connection
        self._answering: asyncio.Task[None] | None = None
        self._answered = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.address = self.remote_address[0] if self.remote_address else ""

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answering is not None:
            self._answering.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._exchange is None:
            self.frames_received(data)
        else:
            self._read_request(self._exchange, data)

    def frames_received(self, data: bytes) -> None:
        """What comes after the handshake."""
        super().data_received(data)

    def _read_request(self, exchange: Exchange, data: bytes) -> None:
        """Reading stops while the request is answered: what comes after it is as much as one read gave."""
        if self._answered:  # what follows is the body of a request that needs none
            return
        if self.asked is not None:
            exchange.keep(data)
            return
        try:
            request = exchange.read(data)
        except RequestError as error:
            self._answer(exchange.write(self._http_handler.refusal(error, self.address)))
            return
        if request is not None:
            self.asked = request
            self.address = self._proxies.client(self.address, request)
            self.transport.pause_reading()
            self._answering = self.loop.create_task(self._decide(exchange, request))

    async def _decide(self, exchange: Exchange, request: Request) -> None:
        handler = self._http_handler
        try:
            response = await handler(request, self.address)
            data = request.handshake() if response is None else exchange.write(response)
        except RequestError as error:
            response = handler.refusal(error, self.address)
            data = exchange.write(response)
        except Exception as error:
            response = handler.failure(error, request, self.address)
            data = exchange.write(response)
        if self.transport.is_closing():
            return
        self.transport.resume_reading()
        if response is not None:
            self._answer(data)
            return
        self._exchange = None
        super().data_received(data)
        if rest := exchange.rest():
            self.frames_received(rest)

    def _answer(self, data: bytes) -> None:
        self._answered = True
        self.transport.write(data)
        if self.transport.can_write_eof():
            with contextlib.suppress(OSError, RuntimeError):  # the client is gone
                self.transport.write_eof()
        else:
            self.transport.close()
        self.loop.call_later(CLOSE_SECONDS, self.transport.abort)
