"""Who may connect: keys, origins of pages, tokens of sessions."""

import hashlib
import hmac
import ipaddress
import secrets
from pathlib import Path
from urllib.parse import urlsplit

from ..errors import InputError

__all__ = ["AccessPolicy", "digest", "new_token"]

TOKEN_BYTES = 24  # 192 bits: guessing is out of the question


def new_token(worker: int) -> str:
    """A session's token. The worker that holds the session can be read from it; the rest is secret."""
    return f"{worker}-{secrets.token_urlsafe(TOKEN_BYTES)}"


def digest(token: str) -> bytes:
    """What tokens are looked up by: the time of a look-up then says nothing about the tokens that exist."""
    return hashlib.sha256(token.encode()).digest()


class AccessPolicy:
    """key: what clients must show, or None where anyone may come. origins: of pages; "any" for all."""

    def __init__(self, key: str | None, origins: tuple[str, ...]) -> None:
        self._key = None if key is None else key.encode()
        self._origins = {origin.rstrip("/").lower() for origin in origins}

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
        if origin is None or "any" in self._origins:
            return True
        origin = origin.rstrip("/").lower()
        if origin in self._origins:
            return True
        parts = urlsplit(origin)
        return bool(host) and parts.netloc == (host or "").lower() and (self.wants_key or _is_own(parts.hostname or ""))


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
