"""The addresses that `connect` takes, and the proxies that it does not."""

import asyncio
import socket

import pytest
from talk import RATE, served

from streamcodec.client import SessionError, connect
from streamcodec.client.transport import TAKES_PROXY
from streamcodec.errors import InputError

WIRE = {"sample_rate": RATE, "pcm_format": "f32le"}
PROXIES = ("http_proxy", "https_proxy", "all_proxy", "ws_proxy", "socks_proxy")


@pytest.fixture
def nobody():
    """The address of a port at which nobody listens."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{held.getsockname()[1]}"


@pytest.fixture
def proxied(monkeypatch):
    """Sets every proxy variable."""

    def proxied(value):
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        for name in PROXIES:
            monkeypatch.setenv(name, value)
            monkeypatch.setenv(name.upper(), value)

    return proxied


async def welcomed(url, mode="encode", **options):
    async with connect(url, mode, **WIRE, **options) as session:
        return session.welcome


def test_the_page_and_its_links_lead_to_the_server():
    async def run():
        async with served() as server:
            page = f"http://127.0.0.1:{server.port}/"
            assert (await welcomed(page)).mode == "encode"
            for room in (None, "hall"):
                assert (await welcomed(f"{page}#room=hall", "room", room=room)).room.name == "hall"

    asyncio.run(run())


@pytest.mark.parametrize(("mode", "room"), [("roundtrip", None), ("room", "kitchen")])
def test_a_link_to_a_room_and_another_wish_are_refused(mode, room):
    with pytest.raises(InputError, match="the address is a link to the room 'hall'"):
        connect("http://127.0.0.1:1/#room=hall", mode, room=room)


@pytest.mark.parametrize("scheme", ["http", "socks5", "nonsense"])
def test_no_proxy_catches_a_loopback_address(proxied, nobody, scheme):
    proxied(f"{scheme}://{nobody}")

    async def run():
        async with served() as server:
            for host in ("127.0.0.1", "localhost"):
                assert (await welcomed(f"ws://{host}:{server.port}")).mode == "encode"

    asyncio.run(run())


@pytest.mark.skipif(not TAKES_PROXY, reason="websockets before version 15 takes no proxy")
@pytest.mark.parametrize("scheme", ["http", "socks5", "nonsense"])
def test_a_proxy_that_does_not_work_is_told_with_the_way_past_it(proxied, nobody, scheme):
    proxied(f"{scheme}://{nobody}")
    with pytest.raises(SessionError, match=r"cannot be reached: .*proxy.*NO_PROXY=server\.invalid goes past it"):
        asyncio.run(welcomed("ws://server.invalid:8765"))
