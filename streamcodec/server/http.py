"""What a GET request gets: the page, health, metrics, codecs. Nothing of a request reaches the file system."""

import json
from collections.abc import Callable
from http import HTTPStatus
from importlib import resources

from websockets.datastructures import Headers
from websockets.http11 import Response

__all__ = ["SOCKET_PATH", "Pages", "respond"]

SOCKET_PATH = "/v1/stream"

TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".ico": "image/x-icon",
    ".json": "application/json",
    ".webmanifest": "application/manifest+json",
}
# Scripts, styles and connections of this server alone; blob: for what a page lets its user save or hear.
POLICY = (
    "default-src 'none'; script-src 'self'; worker-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "media-src 'self' blob:; connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
SECURITY = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "microphone=(self), camera=(), geolocation=()",
}


class Pages:
    """The files of the page, read once: paths of requests are keys of a table."""

    def __init__(self) -> None:
        self.table: dict[str, tuple[str, bytes]] = {}
        folder = resources.files(__package__).joinpath("page")
        for entry in folder.iterdir() if folder.is_dir() else ():
            kind = TYPES.get(entry.name[entry.name.rfind(".") :])
            if entry.is_file() and kind is not None:
                self.table[f"/{entry.name}"] = (kind, entry.read_bytes())
        if "/index.html" in self.table:
            self.table["/"] = self.table["/index.html"]

    def get(self, path: str) -> Response | None:
        found = self.table.get(path)
        return None if found is None else respond(HTTPStatus.OK, found[1], found[0])


def respond(
    status: HTTPStatus, body: "bytes | str", kind: str = "text/plain; charset=utf-8", **headers: str
) -> Response:
    """A whole answer; the connection is closed after it. headers: with underscores for dashes."""
    data = body.encode() if isinstance(body, str) else body
    fields = Headers({"Content-Type": kind, "Content-Length": str(len(data)), "Connection": "close"})
    fields["Cache-Control"] = "no-cache" if kind.startswith("text/") else "no-store"
    for name, value in SECURITY.items():
        fields[name] = value
    for name, value in headers.items():
        fields[name.replace("_", "-")] = value
    return Response(status.value, status.phrase, fields, data)


def as_json(values: object) -> Callable[[HTTPStatus], Response]:
    return lambda status: respond(status, json.dumps(values), "application/json")
