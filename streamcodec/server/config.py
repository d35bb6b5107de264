"""Every option of the server, with its default."""

import dataclasses
import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

from ..addresses import is_loopback
from ..errors import InputError
from ..protocol.limits import Limits
from .auth import origin_of
from .logs import FORMATS
from .proxies import Proxies

__all__ = ["LIMIT", "Config", "limits_of"]


def _option(group: str, default: Any, help: str, metavar: str | None = None, **more: Any) -> Any:
    return dataclasses.field(default=default, metadata={"group": group, "help": help, "metavar": metavar, **more})


# The limits are set by --limit NAME=VALUE; of the others each is an option, under the heading of its group.
LIMIT = "limits"
limit = partial(_option, LIMIT)
address, offer, access, log = (
    partial(_option, group) for group in ("where it listens", "what it offers", "who may come in", "its log")
)


_LIMITS = Limits()


@dataclass(frozen=True)
class Config:
    """The options and limits of `streamcodec serve`, with dashes for underscores. Raises InputError.

    Bytes, seconds and counts as the help of each says; docs/server.md derives the bound of memory from them.
    """

    host: str = address("127.0.0.1", "address to listen at", "ADDRESS")
    port: int = address(8765, "port; 0 takes a free one, which the log tells", "N")
    codec: tuple[str, ...] = offer(
        (),
        "codec to offer, repeatable, the first is the default of clients; NAME=SOURCE gives it a name; "
        "streamcodec_24khz is the one in this package, which is offered where this option is not given",
        "SOURCE",
    )
    device: str = offer("cpu", "where to compute, such as cpu or cuda", "DEVICE")
    backend: str = offer("auto", "what computes: auto, torch, native (in C++), or triton (kernels for a GPU)", "NAME")
    precision: str = offer(
        "float32", "of steps: float32, or with --backend native or triton what `decode --help` names", "NAME"
    )
    engines: int = offer(1, "processes that compute, beside the one that serves", "N")

    redundancy: str = offer(
        "auto",
        "what packets carry again of what was left out, for clients that ask: off, nothing; fixed, what they ask for; "
        "auto, also by measured loss",
        "HOW",
        choices=("off", "fixed", "auto"),
    )
    sessions: int = offer(64, "sessions at once, those that wait for a resume included", "N")
    slots: int = limit(
        32, "sessions at once per codec and direction that compute; memory for them is taken at start", "N"
    )
    sessions_per_address: int = limit(16, "sessions at once from one address", "N")
    connections: int = limit(256, "connections at once, those without a session included", "N")
    retry_seconds: float = limit(5.0, "when a client that was answered `busy` may try again", "S")

    message_bytes: int = limit(_LIMITS.message_bytes, "bytes of a media packet at most", "N")
    messages_per_second: float = limit(_LIMITS.messages_per_second, "messages of one client a second at most", "N")
    burst: int = limit(_LIMITS.burst, "messages of one client at once at most", "N")
    unacknowledged_bytes: int = limit(
        _LIMITS.unacknowledged_bytes, "bytes sent to one client that it has not acknowledged yet, at most", "N"
    )
    acknowledge_every: int = limit(_LIMITS.acknowledge_every, "messages after which each end acknowledges", "N")
    handshake_seconds: float = limit(_LIMITS.handshake_seconds, "time until a connection must have said hello", "S")
    idle_seconds: float = limit(_LIMITS.idle_seconds, "time after which a silent or stuck session is ended", "S")
    resume_seconds: float = limit(_LIMITS.resume_seconds, "time that a session waits for its client to come back", "S")
    drain_seconds: float = limit(10.0, "after SIGTERM: time to finish audio on the way", "S")
    queue_seconds: float = limit(1.0, "audio of one session that waits for the engine, at most", "S")

    listener_lag: float = limit(
        0.5, "delay of a room's listener from which it loses codebooks; at 3 times it, frames", "S"
    )
    room_members: int = limit(64, "members of a room at most", "N")
    room_speakers: int = limit(8, "speakers of a room at most", "N")

    key_file: str | None = access(
        None, "file with the key that clients must have (hello.key or a bearer token)", "PATH"
    )
    no_key: bool = access(False, "let anyone in, though the address is not a loopback one")
    origin: tuple[str, ...] = access((), "origin of pages that may connect, repeatable; `any` allows all", "URL")
    trusted_proxy: tuple[str, ...] = access(
        (),
        "address, or network (CIDR), of reverse proxies, repeatable; they tell the clients' addresses in "
        "X-Forwarded-For or Forwarded",
        "ADDRESS",
    )
    tls_certificate: str | None = address(None, "PEM file with the certificate and its chain", "PATH")
    tls_key: str | None = address(None, "PEM file with the private key (default: in the certificate's file)", "PATH")
    tls_self_signed: bool = address(False, "TLS with a certificate that the server makes and signs itself")
    tls_directory: str | None = address(
        None, "keep the self-signed certificate here, and use it again (default: a new one at each start)", "PATH"
    )
    log_level: str = log(
        "info", "debug, info, warning or error", "LEVEL", choices=("debug", "info", "warning", "error")
    )
    log_format: str = log(
        "auto", "text for people, json for programs; auto: text on a terminal, else json", "FORMAT", choices=FORMATS
    )

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            number = type(field.default) in (int, float) and field.name != "port"
            if number and not 0 < value < math.inf:
                raise InputError(f"{said(field)} is {value}; it must be above 0, and finite")
        if not 0 <= self.port <= 65535:
            raise InputError(f"--port is {self.port}; it must be 0 to 65535")
        if not (is_loopback(self.host) or self.key_file or self.no_key):
            raise InputError(
                f"--host {self.host} lets other machines in: give a key with --key-file, or say --no-key to let all in"
            )
        for origin in self.origin:
            origin_of(origin)
        Proxies(self.trusted_proxy)
        if self.tls_key and not self.tls_certificate:
            raise InputError("--tls-key without --tls-certificate; give both")
        if self.tls_self_signed and self.tls_certificate:
            raise InputError("--tls-self-signed and --tls-certificate: give one of them")
        if self.tls_directory is not None and not self.tls_self_signed:
            raise InputError("--tls-directory keeps a self-signed certificate; give --tls-self-signed too")

    @property
    def limits(self) -> Limits:
        """Those of one session."""
        names = {field.name for field in dataclasses.fields(Limits)} & {
            field.name for field in dataclasses.fields(self)
        }
        return Limits(**{name: getattr(self, name) for name in names})


def said(field: "dataclasses.Field[Any]") -> str:
    """How a person sets a field."""
    name = field.name.replace("_", "-")
    return f"--limit {name}" if field.metadata["group"] == LIMIT else f"--{name}"


def limits_of(settings: Iterable[str]) -> dict[str, float]:
    """`NAME=VALUE` settings as values of fields. Raises InputError for a name that no limit has, and for no number."""
    known = {field.name: field for field in dataclasses.fields(Config) if field.metadata["group"] == LIMIT}
    values: dict[str, float] = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        field = known.get(name.strip().replace("-", "_"))
        if field is None or not equals:
            names = ", ".join(sorted(known)).replace("_", "-")
            raise InputError(f"--limit {setting}: it must be NAME=VALUE, with one of these names: {names}")
        kind = int if isinstance(field.default, int) else float
        try:
            values[field.name] = kind(text)
        except ValueError:
            what = "whole number" if kind is int else "number"
            raise InputError(f"--limit {setting}: {text!r} is not a {what}") from None
    return values
