"""Who may connect: keys, origins of pages, tokens of sessions."""

import hashlib
import hmac
import ipaddress
import re
import secrets
from pathlib import Path
from urllib.parse import urlsplit

from ..errors import InputError

__all__ = ["AccessPolicy", "bearer", "digest", "new_token", "origin_of"]

TOKEN_BYTES = 24  # 192 bits: guessing is out of the question
ANY = "any"
DEFAULT_PORTS = {"http": 80, "https": 443}
NAME = re.compile(r"[a-z0-9._-]+|\[[0-9a-f:.]+\]")  # of a host, in lower case


def new_token() -> str:
    """A session's token: a secret."""
    return secrets.token_urlsafe(TOKEN_BYTES)


def digest(token: str) -> bytes:
    """What tokens are looked up by: the time of a look-up then says nothing about the tokens that exist."""
    return hashlib.sha256(token.encode()).digest()


class AccessPolicy:
    """key: what clients must show, or None where anyone may come. origins: of pages; "any" for all."""

    def __init__(self, key: str | None, origins: tuple[str, ...]) -> None:
        self._key = None if key is None else key.encode()
        self._origins = {origin_of(origin) for origin in origins}

    @staticmethod
    def from_file(path: str | None, origins: tuple[str, ...]) -> "AccessPolicy":
        """The key is the file's text without white space around it. Raises InputError."""
        if path is None:
            return AccessPolicy(None, origins)
        try:
            key = Path(path).read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"--key-file {path} cannot be read as ASCII: {error}") from error
        if not 16 <= len(key) <= 512 or not key.isprintable() or " " in key:
            raise InputError(f"--key-file {path} must hold 16 to 512 characters of ASCII without spaces")
        return AccessPolicy(key, origins)

    @property
    def wants_key(self) -> bool:
        return self._key is not None

    def admits(self, *shown: str | None) -> bool:
        """Whether any of these is the key; all are compared, each in constant time."""
        if self._key is None:
            return True
        found = [hmac.compare_digest(self._key, (text or "").encode("utf-8", "replace")) for text in shown]
        return any(found)

    def allows_origin(self, origin: str | None, host: str | None) -> bool:
        """Whether a page of this origin may connect; host: of the request.

        No origin: no browser. The server's own pages may, but without a key only under a name that nobody else can make
        point here (DNS rebinding): an IP address or localhost.
        """
        if origin is None or ANY in self._origins or origin.lower() in self._origins:
            return True
        try:
            parts = urlsplit(origin.lower())
        except ValueError:
            return False
        return bool(host) and parts.netloc == (host or "").lower() and (self.wants_key or _is_own(parts.hostname or ""))


def origin_of(text: str) -> str:
    """What browsers send as the Origin of pages from there. Raises InputError where they never send it."""
    try:
        return _origin(text)
    except ValueError as error:
        raise InputError(
            f"--origin {text}: {error}; give what a browser shows before the path, such as https://codec.example.org, "
            f"or `{ANY}` for all pages"
        ) from None


def _origin(text: str) -> str:
    text = text.strip().lower()
    if text in (ANY, "null"):  # null: pages without an origin, such as files
        return text
    parts = urlsplit(text)
    port, name = parts.port, parts.netloc.rpartition(":")[0] if parts.port is not None else parts.netloc
    if not text.isascii():
        raise ValueError("browsers send the name in its ASCII form, which begins with xn--")
    if "*" in text:
        raise ValueError("there are no patterns; name each origin")
    if "://" not in text or parts.scheme in ("ws", "wss", "file"):
        raise ValueError("an origin begins with the scheme of the page, such as https://")
    if not NAME.fullmatch(name):
        raise ValueError("it must have one name or address of a host, and no more than a port with it")
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ValueError("an origin has no path")
    return (
        f"{parts.scheme}://{name}"
        if port in (None, DEFAULT_PORTS.get(parts.scheme))
        else f"{parts.scheme}://{name}:{port}"
    )


def _is_own(name: str) -> bool:
    if name == "localhost":
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def bearer(header: str | None) -> str | None:
    """The token of an Authorization header."""
    scheme, _, token = (header or "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None
