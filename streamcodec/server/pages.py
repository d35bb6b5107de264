"""The files of the page, and the fields that every response has. Nothing of a request reaches the file system."""

from http import HTTPStatus
from importlib import resources

from .http import Response

__all__ = ["Pages", "respond"]

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
    status: HTTPStatus, body: "bytes | str" = b"", kind: str = "text/plain; charset=utf-8", **fields: str
) -> Response:
    """fields: with underscores for dashes."""
    data = body.encode() if isinstance(body, str) else body
    cache = "no-cache" if kind.startswith("text/") else "no-store"
    typed = {"Content-Type": kind} if data else {}
    named = {name.replace("_", "-"): value for name, value in fields.items()}
    return Response(status, data, {**typed, "Cache-Control": cache, **SECURITY, **named})
