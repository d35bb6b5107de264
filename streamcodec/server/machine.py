"""Under which names and addresses others reach this machine."""

import contextlib
import ipaddress
import socket

__all__ = ["addresses", "is_address", "names"]

# Reserved for documentation (RFC 5737, RFC 3849): no packet is sent when a UDP socket connects, only a route is chosen.
FAR = ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1"))


def names() -> list[str]:
    """Its host name, and with .local where a network without a name server would ask for it (mDNS)."""
    name = socket.gethostname()
    with contextlib.suppress(UnicodeError):
        name = name.encode("idna").decode()
        return [name, f"{name}.local"] if name and "." not in name else [name] if name else []
    return []


def addresses() -> list[str]:
    """Those that its name stands for, and those from which it speaks to others; no loopback and none of one link."""
    found = set()
    with contextlib.suppress(OSError, UnicodeError):
        found = {str(info[4][0]) for info in socket.getaddrinfo(socket.gethostname(), None)}
    for family, far in FAR:
        with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((far, 9))
            found.add(str(probe.getsockname()[0]))
    known = [ipaddress.ip_address(text) for text in found if is_address(text)]
    usable = [ip for ip in known if not (ip.is_loopback or ip.is_link_local or ip.is_unspecified or ip.is_multicast)]
    return [str(ip) for ip in sorted(usable, key=lambda ip: (ip.version, int(ip)))]


def is_address(host: str) -> bool:
    """Whether it is an IP address rather than a name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
