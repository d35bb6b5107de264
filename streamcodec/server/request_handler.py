"""What the port answers to requests: the page, health, metrics, codecs, and who may not have a WebSocket."""

import dataclasses
import json
import math
from http import HTTPStatus
from typing import Protocol

from ..addresses import SOCKET_PATH
from ..protocol import CodecFacts
from ..protocol.fields import write
from .auth import AccessPolicy, bearer
from .config import Config
from .http import Request, RequestError, Response
from .logs import Log
from .pages import Pages, respond
from .prometheus import CONTENT_TYPE
from .sessions import Sessions

__all__ = ["RequestHandler"]

METHODS = "GET, HEAD, OPTIONS"


class ServerState(Protocol):
    """What of a server its answers tell."""

    config: Config
    offers: dict[str, CodecFacts]
    access: AccessPolicy
    log: Log
    sessions: Sessions
    draining: bool

    @property
    def failure(self) -> str | None: ...

    @property
    def state(self) -> str: ...

    @property
    def full(self) -> bool: ...

    def exposition(self) -> bytes: ...


class RequestHandler:
    """Of one server."""

    def __init__(self, server: ServerState) -> None:
        self.server = server
        self.pages = Pages()

    async def __call__(self, request: Request, address: str) -> Response | None:
        """None: it gets its WebSocket. address: of the client."""
        response = await self._respond(request, address)
        if response is None:
            return None
        self._log(response.status, address, method=request.method, path=request.path)
        return dataclasses.replace(response, fields={**response.fields, **self._for_pages_of_others(request)})

    def refusal(self, error: RequestError, address: str) -> Response:
        """To what is no request that this server understands."""
        self._log(error.status, address, error=str(error))
        return respond(error.status, f"{error}\n", **error.fields)

    def failure(self, error: Exception, request: Request, address: str) -> Response:
        """To a request on which the server failed."""
        text = f"{type(error).__name__}: {error}"
        self.server.log("error", "request", method=request.method, path=request.path, address=address, error=text)
        return respond(HTTPStatus.INTERNAL_SERVER_ERROR, "the server failed on this request; its log says how\n")

    def _log(self, status: HTTPStatus, address: str, **about: str) -> None:
        self.server.log("debug", "answered", status=status.value, address=address, **about)

    def _for_pages_of_others(self, request: Request) -> dict[str, str]:
        """Pages of other origins that may connect may read answers too (CORS)."""
        origin = request.get("origin")
        if origin is None or not self.server.access.allows_origin(origin, request.get("host")):
            return {"Vary": "Origin"}
        return {
            "Vary": "Origin", "Access-Control-Allow-Origin": origin, "Access-Control-Allow-Methods": METHODS,
            "Access-Control-Allow-Headers": "Authorization",
        }  # fmt: skip

    async def _respond(self, request: Request, address: str) -> Response | None:
        if request.method == "OPTIONS" and request.path == "*":
            return respond(HTTPStatus.NO_CONTENT, Allow=METHODS)
        if request.path == SOCKET_PATH and request.is_websocket:
            return self._no_connection(address)
        response = self.pages.get(request.path) or await self._found(request)
        if response is None:
            return respond(HTTPStatus.NOT_FOUND, "not found\n")
        if request.method == "OPTIONS":
            return respond(HTTPStatus.NO_CONTENT, Allow=METHODS)
        if request.method not in ("GET", "HEAD"):
            return respond(HTTPStatus.METHOD_NOT_ALLOWED, f"only {METHODS} are answered here\n", Allow=METHODS)
        return response

    def _no_connection(self, address: str) -> Response | None:
        server = self.server
        code = "server_shutdown" if server.draining else "connections" if server.full else None
        if code is None:
            return None
        server.sessions.refused(code, address)
        text = "the server is going away\n" if server.draining else "no connection is free\n"
        return respond(HTTPStatus.SERVICE_UNAVAILABLE, text, Retry_After=str(math.ceil(server.config.retry_seconds)))

    async def _found(self, request: Request) -> Response | None:
        server = self.server
        if request.path == "/healthz":
            status = HTTPStatus.OK if server.failure is None else HTTPStatus.INTERNAL_SERVER_ERROR
            return respond(status, f"{server.failure or 'ok'}\n")
        if request.path == "/readyz":
            status = HTTPStatus.OK if server.state == "ready" else HTTPStatus.SERVICE_UNAVAILABLE
            return respond(status, f"{server.state}\n")
        if request.path == "/v1/codecs":
            values = {"default": next(iter(server.offers), None), "codecs": [write(f) for f in server.offers.values()]}
            return respond(HTTPStatus.OK, json.dumps(values), "application/json")
        if request.path == "/metrics":
            return await self._metrics(request)
        if request.path == SOCKET_PATH:
            text = "a WebSocket is spoken here; a proxy in front has to pass Upgrade and Connection on\n"
            return respond(HTTPStatus.UPGRADE_REQUIRED, text, Upgrade="websocket")
        return None

    async def _metrics(self, request: Request) -> Response:
        server = self.server
        if not server.access.admits(bearer(request.get("authorization"))):
            return respond(HTTPStatus.UNAUTHORIZED, "a bearer token is needed\n", WWW_Authenticate="Bearer")
        return respond(HTTPStatus.OK, server.exposition(), CONTENT_TYPE)
