"""What a server says to the person who started it on a terminal."""

from collections.abc import Iterable

from . import machine
from .config import Config

__all__ = ["greeting"]


def greeting(config: Config, port: int, codecs: Iterable[str], secure: bool) -> list[str]:
    """Sentences: where the page is, what is on offer, and how it ends. port: where it listens; secure: with TLS."""
    places = [f"{'https' if secure else 'http'}://{host}:{port}/" for host in _hosts(config)]
    first, *others = codecs
    return [
        f"streamcodec is ready. Its page, for a browser: {places[0]}",
        *(f"  from other machines: {place}" for place in places[1:]),
        f"Codecs: {', '.join([f'{first} (clients get it unless they ask)' if others else first, *others])}.",
        *([f"Clients need the key in {config.key_file}."] if config.key_file else []),
        "Browsers give the microphone to this page, since it has https." if secure else
        "Browsers give the microphone only to pages at localhost or with https (--tls-self-signed).",
        "Ctrl-C ends the server.",
    ]  # fmt: skip


def _hosts(config: Config) -> list[str]:
    """As a URL has them, the one for this machine first.

    By a name that others could make point here a page gets in only with the key (`AccessPolicy.allows_origin`).
    """
    host = config.host
    if host not in ("", "0.0.0.0", "::"):
        return [_bracketed(host)]
    version = {"0.0.0.0": (4,), "::": (6,)}.get(host, (4, 6))
    found = [ip for ip in machine.addresses() if (6 if ":" in ip else 4) in version]
    named = machine.names() if config.key_file or "any" in config.origin else []
    return ["[::1]" if host == "::" else "127.0.0.1", *map(_bracketed, found), *named]


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
