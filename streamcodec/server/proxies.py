"""Where a request comes from when reverse proxies stand in front: the address that they tell.

A proxy adds the address from which it got a request at the right end of X-Forwarded-For, or of Forwarded (RFC 7239).
What stands left of that came from outside, and may be invented. So the client is the rightmost address that is no
trusted proxy's.
"""

import ipaddress
import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from ..errors import InputError

if TYPE_CHECKING:
    from .http import Request

__all__ = ["Proxies"]

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# An element of Forwarded ends at a comma, and its parts at semicolons, but for those within quotes.
PART = re.compile(r'\s*([^\s=;,"]+)=("(?:[^"\\]|\\.)*"|[^\s=;,"]*)\s*(;|,|$)|\s*(,|$)')
PORT = re.compile(r"(?:\[([^\]]*)\]|([\d.]+))(?::\w+)?")


class Proxies:
    """trusted: addresses and networks (CIDR) of proxies. Raises InputError."""

    def __init__(self, trusted: Iterable[str]) -> None:
        self._trusted = [_network(text) for text in trusted]

    def client(self, peer: str, request: "Request") -> str:
        """The address of the client. peer: that from which the connection comes."""
        if not self._trusts(peer):
            return _plain(peer)
        told = {
            self._farthest(peer, hops)
            for hops in (_x_forwarded_for(request.get("x-forwarded-for")), _forwarded(request.get("forwarded")))
            if hops
        }
        # A proxy writes one of the fields and may pass on the other as the client sent it: then neither is believed.
        return told.pop() if len(told) == 1 else _plain(peer)

    def _trusts(self, text: str) -> bool:
        address = _address(text)
        return address is not None and any(address in network for network in self._trusted)

    def _farthest(self, peer: str, hops: list[str]) -> str:
        """Back from the peer as far as what is told can be trusted."""
        known = peer
        for hop in reversed(hops):
            if _address(hop) is None:  # "unknown", or a name of the proxy's own
                break
            known = hop
            if not self._trusts(hop):
                break
        return _plain(known)


def _network(text: str) -> Network:
    try:
        network = ipaddress.ip_network(text)
    except ValueError as error:
        raise InputError(
            f"--trusted-proxy {text}: {error}; give an IP address such as 127.0.0.1, or a network such as 10.0.0.0/8"
        ) from None
    if network.prefixlen == 0:
        raise InputError(f"--trusted-proxy {text} trusts everybody, and so any address that a client invents")
    return network


def _address(text: str) -> Address | None:
    """Without its port. An IPv4 address in IPv6's form is one of IPv4."""
    found = PORT.fullmatch(text)
    try:
        address = ipaddress.ip_address((found[1] or found[2]) if found else text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def _plain(text: str) -> str:
    address = _address(text)
    return text if address is None else str(address)


def _x_forwarded_for(value: str | None) -> list[str]:
    return [] if value is None else [part.strip() for part in value.split(",")]


def _forwarded(value: str | None) -> list[str]:
    """The `for` of each element, "" where there is none; what is no Forwarded field ends in one."""
    return [] if value is None else list(_elements(value))


def _elements(value: str) -> Iterator[str]:
    hop, place = "", 0
    while place < len(value):
        part = PART.match(value, place)
        if part is None:
            yield ""
            return
        place = part.end()
        if (part[1] or "").lower() == "for":
            hop = re.sub(r"\\(.)", r"\1", part[2].strip('"'))
        if part[3] == "," or part[4] is not None or place == len(value):
            yield hop
            hop = ""
