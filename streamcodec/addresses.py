"""Where a server is: the addresses that people have, as those of its WebSocket and of its pages."""

import ipaddress
from dataclasses import dataclass
from urllib.parse import SplitResult, parse_qsl, urlsplit, urlunsplit

from .errors import InputError

__all__ = ["SOCKET_PATH", "ServerAddress", "is_loopback", "server_address"]

SOCKET_PATH = "/v1/stream"
SCHEMES = {"ws": "ws", "wss": "wss", "http": "ws", "https": "wss"}


@dataclass(frozen=True)
class ServerAddress:
    """What an address says.

    Attributes:
        socket: the WebSocket, ws:// or wss://.
        pages: the folder that it is in, http:// or https://, with a / at its end.
        room, key: those in a link of the page, behind its #; None where it has none. The rest there is the page's own.
    """

    socket: str
    pages: str
    room: str | None = None
    key: str | None = None

    @property
    def secure(self) -> bool:
        """Whether the server is reached by TLS."""
        return self.socket.startswith("wss:")


def server_address(url: str) -> ServerAddress:
    """Where ``ws://HOST:PORT``, ``wss://HOST``, an http address or a link of the page leads.

    The scheme may be missing (ws). A path that ends in / is that of the page; another one is the WebSocket's own.
    Raises InputError.
    """
    shown, _, fragment = url.strip().partition("#")  # what is behind the # may be a secret: no message has it
    parts = _parts(shown)
    linked = dict(parse_qsl(fragment))
    if fragment and not linked:
        raise InputError(f"{shown} has behind its # what says nothing; a link of the page has room=NAME there")
    scheme, path = SCHEMES[parts.scheme], parts.path or "/"
    if path.endswith("/"):
        path += SOCKET_PATH[1:]
    folder = path.removesuffix(SOCKET_PATH[1:]) if path.endswith(SOCKET_PATH) else path[: path.rindex("/") + 1]
    return ServerAddress(
        socket=urlunsplit((scheme, parts.netloc, path, parts.query, "")),
        pages=urlunsplit((scheme.replace("ws", "http"), parts.netloc, folder, "", "")),
        room=linked.get("room") or None,
        key=linked.get("key") or None,
    )


def _parts(url: str) -> SplitResult:
    try:
        parts = urlsplit(url if "://" in url else f"ws://{url}")
        known = bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is none, a bracket that is not closed
        known = False
    if not known:
        raise InputError(f"{url!r} is no address of a server; give one such as ws://127.0.0.1:8765")
    if parts.scheme not in SCHEMES:
        raise InputError(f"{url!r} begins with {parts.scheme}://; a server is at ws://, wss://, http:// or https://")
    return parts


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches the address."""
    name = host.lower().removesuffix(".")
    if name == "localhost" or name.endswith(".localhost"):  # RFC 6761, section 6.3
        return True
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    return (mapped or ip).is_loopback
