"""A request as h11 reads it, and the response to it as bytes: HTTP/1.1 as RFC 9110 and RFC 9112 have it.

The WebSocket library reads the requests of WebSockets alone; what it makes of others depends on its version. So each
request is read here first, and the library gets those for a WebSocket, with the fields that it needs.
"""

import email.utils
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from urllib.parse import urlsplit

import h11

__all__ = ["Exchange", "Request", "RequestError", "Response"]

HEAD_BYTES = 32_768  # of a request with all of its fields; browsers send cookies of other servers on this host along
LINE_BYTES = 8192  # the most that the WebSocket library takes as a line
# A Host field: a name or an address, and a port (RFC 3986, section 3.2.2).
HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[\w.~!$&'()*+,;=%-]*)(:\d*)?", re.ASCII)
# What may come once: with two values, this server and a proxy in front of it may each believe another one.
SINGLE = ("authorization", "origin", "sec-websocket-key", "sec-websocket-version")
HANDSHAKE = ("Sec-WebSocket-Key", "Sec-WebSocket-Version", "Sec-WebSocket-Protocol")
WEBSOCKET_VERSION = "13"  # RFC 6455


class RequestError(Exception):
    """What the client did wrong. status: to answer it with; fields: of the response."""

    def __init__(self, status: HTTPStatus, text: str, **fields: str) -> None:
        super().__init__(text)
        self.status, self.fields = status, {name.replace("_", "-"): value for name, value in fields.items()}


@dataclass(frozen=True)
class Request:
    """method: as it came. path: without the query. fields: names in lower case and values, in their order."""

    method: str
    path: str
    version: str
    fields: tuple[tuple[str, str], ...] = ()

    def get(self, name: str) -> str | None:
        """The value of a field; where it came several times, the values with commas between them."""
        values = [value for known, value in self.fields if known == name]
        return ", ".join(values) if values else None

    def names(self, name: str) -> set[str]:
        """The value of a field that is a list of names, in lower case."""
        return {part.strip().lower() for part in (self.get(name) or "").split(",")} - {""}

    @property
    def is_websocket(self) -> bool:
        """Whether it asks for a WebSocket. HTTP/1.0 cannot (RFC 9110, section 7.8)."""
        asks = "websocket" in self.names("upgrade") and "upgrade" in self.names("connection")
        return asks and self.method == "GET" and self.version == "1.1"

    def handshake(self) -> bytes:
        """The request with the fields that a WebSocket needs and no others. Raises RequestError."""
        if (self.get("content-length") or "0") != "0" or self.get("transfer-encoding"):
            raise RequestError(HTTPStatus.BAD_REQUEST, "the request for a WebSocket has no body")
        version = self.get("sec-websocket-version")
        if version != WEBSOCKET_VERSION:
            text = f"Sec-WebSocket-Version is {version or 'missing'}; this server has {WEBSOCKET_VERSION}"
            raise RequestError(HTTPStatus.UPGRADE_REQUIRED, text, Sec_WebSocket_Version=WEBSOCKET_VERSION)
        found = ((name, self.get(name.lower())) for name in HANDSHAKE)
        fields = [("Upgrade", "websocket"), ("Connection", "Upgrade"), *((n, v) for n, v in found if v is not None)]
        lines = [f"GET {self.path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields)]
        if max(map(len, lines)) > LINE_BYTES - 2:
            raise RequestError(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"a field has more than {LINE_BYTES} bytes")
        return "\r\n".join([*lines, "", ""]).encode("latin-1")


@dataclass(frozen=True)
class Response:
    """A whole response; the connection is closed after it."""

    status: HTTPStatus
    body: bytes = b""
    fields: Mapping[str, str] = field(default_factory=dict)


class Exchange:
    """One request and its response."""

    def __init__(self) -> None:
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_BYTES)
        self._method = ""

    def read(self, data: bytes) -> Request | None:
        """More bytes from the client; the request once all of its fields are here. Raises RequestError."""
        try:
            self._http.receive_data(data)
            event = self._http.next_event()
        except h11.RemoteProtocolError as error:
            text = str(error).partition(": bytearray")[0]  # what the client sent it knows
            raise RequestError(HTTPStatus(error.error_status_hint), text) from None
        if not isinstance(event, h11.Request):
            return None
        self._method = event.method.decode("ascii")
        return _request(event)

    def keep(self, data: bytes) -> None:
        """Bytes that came after the fields."""
        self._http.receive_data(data)

    def rest(self) -> bytes:
        """All that came after the fields."""
        return bytes(self._http.trailing_data[0])

    def write(self, response: Response) -> bytes:
        """As it goes to the client, without its body where the client asked with HEAD."""
        fields = {"Date": email.utils.formatdate(usegmt=True), **response.fields, "Connection": "close"}
        if "Upgrade" in fields:
            fields["Connection"] = "close, Upgrade"  # RFC 9110, section 7.8
        if response.status is not HTTPStatus.NO_CONTENT:
            fields["Content-Length"] = str(len(response.body))
        lines = [(name.encode("ascii"), value.encode("latin-1")) for name, value in fields.items()]
        head = h11.Response(status_code=response.status.value, reason=response.status.phrase, headers=lines)
        body = [] if self._method == "HEAD" else [h11.Data(response.body)]
        return b"".join(self._http.send(event) or b"" for event in (head, *body, h11.EndOfMessage()))


def _request(event: h11.Request) -> Request:
    fields = tuple((name.decode("ascii"), value.decode("latin-1")) for name, value in event.headers)
    if len(event.target) + sum(len(name) + len(value) + len(": \r\n") for name, value in fields) > HEAD_BYTES:
        text = f"the request has more than {HEAD_BYTES} bytes before its body"  # h11 counts what does not come at once
        raise RequestError(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, text)
    for name in SINGLE:
        if sum(known == name for known, _ in fields) > 1:
            raise RequestError(HTTPStatus.BAD_REQUEST, f"{name} came more than once")
    version = event.http_version.decode("ascii")
    if not version.startswith("1."):
        raise RequestError(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, f"HTTP/{version} is not spoken here; HTTP/1.1 is")
    path, host = _target(event.target.decode("ascii"))
    if host is not None:  # it counts in place of the field (RFC 9112, section 3.2.2)
        fields = (("host", host), *((name, value) for name, value in fields if name != "host"))
    request = Request(event.method.decode("ascii"), path, version, fields)
    if not HOST.fullmatch(request.get("host") or ""):
        raise RequestError(HTTPStatus.BAD_REQUEST, "Host is not the name or address of a host, with or without a port")
    return request


def _target(target: str) -> tuple[str, str | None]:
    """The path of a request's target, without its query, and the host that it names."""
    if target.startswith("/") or target == "*":
        return target.partition("?")[0], None
    try:
        parts = urlsplit(target)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise RequestError(HTTPStatus.BAD_REQUEST, "a request is for a path, or for an http(s) URL")
    return parts.path or "/", parts.netloc
