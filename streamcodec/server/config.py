"""Every option of the server, with its default."""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from ..addresses import is_loopback
from ..errors import InputError
from ..protocol.limits import Limits
from .auth import origin_of
from .logs import FORMATS
from .proxies import Proxies

__all__ = ["Config"]


def option(default: Any, help: str, metavar: str | None = None, **more: Any) -> Any:
    return dataclasses.field(default=default, metadata={"help": help, "metavar": metavar, **more})


_LIMITS = Limits()


@dataclass(frozen=True)
class Config:
    """The options of `streamcodec serve`: each field is one, with dashes for underscores. Raises InputError.

    Bytes, seconds and counts as the help of each says; docs/server.md derives the bound of memory from them.
    """

    host: str = option("127.0.0.1", "address to listen at", "ADDRESS")
    port: int = option(8765, "port; 0 takes a free one, which the log tells", "N")
    codec: tuple[str, ...] = option(
        (),
        "codec to offer, repeatable, the first is the default of clients; NAME=SOURCE gives it a name; "
        "streamcodec_24khz is the one in this package, which is offered where this option is not given",
        "SOURCE",
    )
    device: str = option("cpu", "where to compute, such as cpu or cuda", "DEVICE")
    backend: str = option("auto", "what computes: auto, torch, or triton (its kernels for the quantizer)", "NAME")
    engines: int = option(1, "processes that compute, beside the one that serves", "N")

    sessions: int = option(64, "sessions at once, those that wait for a resume included", "N")
    slots: int = option(
        32, "sessions at once per codec and direction that compute; memory for them is taken at start", "N"
    )
    sessions_per_address: int = option(16, "sessions at once from one address", "N")
    connections: int = option(256, "connections at once, those without a session included", "N")
    retry_seconds: float = option(5.0, "when a client that was answered `busy` may try again", "S")

    message_bytes: int = option(_LIMITS.message_bytes, "bytes of a media packet at most", "N")
    messages_per_second: float = option(_LIMITS.messages_per_second, "messages of one client a second at most", "N")
    burst: int = option(_LIMITS.burst, "messages of one client at once at most", "N")
    unacknowledged_bytes: int = option(
        _LIMITS.unacknowledged_bytes, "bytes sent to one client that it has not acknowledged yet, at most", "N"
    )
    acknowledge_every: int = option(_LIMITS.acknowledge_every, "messages after which each end acknowledges", "N")
    handshake_seconds: float = option(_LIMITS.handshake_seconds, "time until a connection must have said hello", "S")
    idle_seconds: float = option(_LIMITS.idle_seconds, "time after which a silent or stuck session is ended", "S")
    resume_seconds: float = option(_LIMITS.resume_seconds, "time that a session waits for its client to come back", "S")
    drain_seconds: float = option(10.0, "after SIGTERM: time to finish audio on the way", "S")
    queue_seconds: float = option(1.0, "audio of one session that waits for the engine, at most", "S")

    listener_lag: float = option(
        0.5, "delay of a room's listener from which it loses codebooks; at 3 times it, frames", "S"
    )
    room_members: int = option(64, "members of a room at most", "N")
    room_speakers: int = option(8, "speakers of a room at most", "N")

    key_file: str | None = option(
        None, "file with the key that clients must have (hello.key or a bearer token)", "PATH"
    )
    no_key: bool = option(False, "let anyone in, though the address is not a loopback one")
    origin: tuple[str, ...] = option((), "origin of pages that may connect, repeatable; `any` allows all", "URL")
    trusted_proxy: tuple[str, ...] = option(
        (),
        "address, or network (CIDR), of reverse proxies, repeatable; they tell the clients' addresses in "
        "X-Forwarded-For or Forwarded",
        "ADDRESS",
    )
    tls_certificate: str | None = option(None, "PEM file with the certificate and its chain", "PATH")
    tls_key: str | None = option(None, "PEM file with the private key (default: in the certificate's file)", "PATH")
    tls_self_signed: bool = option(False, "TLS with a certificate that the server makes and signs itself")
    tls_directory: str | None = option(
        None, "keep the self-signed certificate here, and use it again (default: a new one at each start)", "PATH"
    )
    log_level: str = option(
        "info", "debug, info, warning or error", "LEVEL", choices=("debug", "info", "warning", "error")
    )
    log_format: str = option(
        "auto", "text for people, json for programs; auto: text on a terminal, else json", "FORMAT", choices=FORMATS
    )

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            number = type(field.default) in (int, float) and field.name != "port"
            if number and not 0 < value < math.inf:
                raise InputError(f"--{field.name.replace('_', '-')} is {value}; it must be above 0, and finite")
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
