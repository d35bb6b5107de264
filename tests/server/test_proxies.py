"""Behind reverse proxies: whose address counts, and the configurations of docs/proxies.md."""

import asyncio
import ipaddress
import json
import ssl
from types import SimpleNamespace

import numpy as np
import pytest
import reverse_proxies
from hypothesis import example, given
from hypothesis import strategies as st

pytest.importorskip("websockets", reason="the extra `server` is not installed")
pytest.importorskip("prometheus_client", reason="the extra `server` is not installed")

from talk import Talk, encoded, hello, served, small_codec, wave
from test_http import get

from streamcodec.errors import InputError
from streamcodec.protocol.messages import ErrorMessage
from streamcodec.server.config import Config
from streamcodec.server.http import Request
from streamcodec.server.proxies import Proxies

CODEC = small_codec()
ADDRESSES = st.sampled_from(["10.0.0.1", "10.9.9.9", "192.0.2.1", "192.0.2.77", "2001:db8::1", "fd00::5"])
TRUSTED = ("10.0.0.0/8", "192.0.2.77", "fd00::/8")
ANYTHING = st.one_of(st.text(st.characters(min_codepoint=32, max_codepoint=255)), st.text('for=";, 1.:[]\\'))


def request(**fields):
    """fields: with underscores for dashes; a list gives one several times."""
    values = {name: [value] if isinstance(value, str) else value for name, value in fields.items()}
    found = [(name.replace("_", "-"), one) for name, several in values.items() for one in several]
    return Request("GET", "/", "1.1", tuple(found))


def is_trusted(address):
    return any(ipaddress.ip_address(address) in ipaddress.ip_network(network) for network in TRUSTED)


def quoted(address):
    return f'"[{address}]:4711"' if ":" in address else address


@given(st.lists(ADDRESSES, min_size=1, max_size=5), st.booleans())
def test_the_client_is_the_rightmost_that_no_trusted_proxy_has(hops, apart):
    *told, peer = hops
    outside = [address for address in hops if not is_trusted(address)]
    expected = outside[-1] if outside else hops[0]
    fields = told if apart else ", ".join(told)
    elements = [f"proto=https;for={quoted(address)}" for address in told]
    assert Proxies(TRUSTED).client(peer, request(x_forwarded_for=fields)) == expected
    assert Proxies(TRUSTED).client(peer, request(forwarded=elements if apart else ",".join(elements))) == expected


@given(ANYTHING)
@example('for="')
@example("for=10.0.0.1")
@example("10.0.0.1, 10.0.0.1")
def test_nothing_that_a_client_invents_gives_it_the_address_of_another(invented):
    trusted, true = Proxies(TRUSTED), "192.0.2.1"
    assert trusted.client("10.0.0.1", request(x_forwarded_for=[invented, true])) == true
    assert trusted.client("10.0.0.1", request(forwarded=[invented, f"for={true}"])) in (true, "10.0.0.1")
    assert trusted.client("10.0.0.1", request(x_forwarded_for=true, forwarded=invented)) in (true, "10.0.0.1")
    assert trusted.client("10.0.0.1", request(x_forwarded_for=invented, forwarded=f"for={true}")) in (true, "10.0.0.1")
    assert trusted.client(true, request(x_forwarded_for=invented, forwarded=invented)) == true


@pytest.mark.parametrize(
    ("fields", "client"),
    [
        ({}, "10.0.0.1"),
        ({"x_forwarded_for": "192.0.2.1:4711"}, "192.0.2.1"),
        ({"x_forwarded_for": "[2001:db8::1]:4711"}, "2001:db8::1"),
        ({"x_forwarded_for": "2001:DB8:0::1"}, "2001:db8::1"),
        ({"x_forwarded_for": "::ffff:192.0.2.1"}, "192.0.2.1"),
        ({"x_forwarded_for": "unknown"}, "10.0.0.1"),
        ({"x_forwarded_for": "192.0.2.1, unknown"}, "10.0.0.1"),
        ({"x_forwarded_for": "192.0.2.1, unknown, 10.0.0.2"}, "10.0.0.2"),
        ({"x_forwarded_for": ""}, "10.0.0.1"),
        ({"forwarded": 'For="[2001:db8:cafe::17]:4711"'}, "2001:db8:cafe::17"),
        ({"forwarded": "for=192.0.2.1;proto=http;by=203.0.113.43"}, "192.0.2.1"),
        ({"forwarded": 'for=192.0.2.2, for=192.0.2.1;host="a,b;for=192.0.2.3"'}, "192.0.2.1"),
        ({"forwarded": "for=_hidden"}, "10.0.0.1"),
        ({"forwarded": "by=203.0.113.43"}, "10.0.0.1"),
        ({"forwarded": "192.0.2.1"}, "10.0.0.1"),
        ({"x_forwarded_for": "192.0.2.1", "forwarded": "for=192.0.2.1"}, "192.0.2.1"),
        ({"x_forwarded_for": "192.0.2.1", "forwarded": "for=192.0.2.2"}, "10.0.0.1"),
    ],
)
def test_fields_of_proxies(fields, client):
    assert Proxies(TRUSTED).client("10.0.0.1", request(**fields)) == client
    assert Proxies(TRUSTED).client("::ffff:10.0.0.1", request(**fields)) == client


@pytest.mark.parametrize("text", ["localhost", "10.0.0.1/8", "0.0.0.0/0", "::/0", "10.0.0.0/33", "", "127.0.0.1:80"])
def test_what_is_no_address_of_a_proxy_is_refused(text):
    with pytest.raises(InputError, match=f"--trusted-proxy {text}"):
        Config(trusted_proxy=(text,))


@pytest.mark.parametrize("trusted", [("127.0.0.1",), ()])
def test_clients_behind_a_proxy_count_each_for_itself_where_it_is_trusted(trusted):
    async def main():
        async with served({"small": CODEC}, sessions_per_address=1, trusted_proxy=trusted) as server:
            first, second = ({"additional_headers": {"X-Forwarded-For": f"192.0.2.{n}"}} for n in (1, 2))
            async with Talk(server, hello("encode"), **first), Talk(server, hello("encode"), **second) as other:
                assert bool(other.session.welcome) == bool(trusted)
            async with Talk(server, hello("encode"), **first) as again:
                assert again.session.welcome or again.of(ErrorMessage)[0].code == "busy"
            assert {line["address"] for line in lines(server) if "address" in line} == (
                {"192.0.2.1", "192.0.2.2"} if trusted else {"127.0.0.1"}
            )

    asyncio.run(main())


def lines(server):
    """Of the log."""
    return list(map(json.loads, server.stream.getvalue().splitlines()))


UNDER_A_PATH = {
    "location /": "location /codec/",
    "proxy_pass http://127.0.0.1:8765": "proxy_pass http://127.0.0.1:8765/",
}


@pytest.mark.parametrize(
    ("proxy", "changes", "path"),
    [
        (reverse_proxies.nginx, {}, "/"),
        (reverse_proxies.nginx, UNDER_A_PATH, "/codec/"),
        (reverse_proxies.caddy, {}, "/"),
        (reverse_proxies.haproxy, {}, "/"),
    ],
)
def test_a_proxy_with_the_configuration_of_the_page(tmp_path, proxy, changes, path):
    trust = ssl.create_default_context()
    trust.check_hostname, trust.verify_mode = False, ssl.CERT_NONE
    origin = f"https://{reverse_proxies.PUBLIC}"
    lies = {"X-Forwarded-For": "198.51.100.9", "Forwarded": "for=198.51.100.9"}

    def session(port, address):
        """As a page's on another machine."""
        return Talk(
            SimpleNamespace(port=port), hello("encode"), scheme="wss", path=f"{path}v1/stream", ssl=trust,
            local_addr=(address, 0), origin=origin, additional_headers=lies,
        )  # fmt: skip

    async def main():
        options = {"sessions_per_address": 1, "trusted_proxy": ("127.0.0.1",), "origin": (origin,)}
        async with served({"small": CODEC}, **options) as server:
            with reverse_proxies.behind(proxy, tmp_path, server.port, changes) as port:
                place = SimpleNamespace(port=port)
                status, _, body = await get(place, path, scheme="https", context=trust)
                assert (status, body) == (200, (await get(server, "/"))[2])
                async with session(port, "127.0.0.2") as one, session(port, "127.0.0.3") as two:
                    samples = wave(0.3)
                    for talk in (one, two):
                        await talk.say(samples)
                        await talk.flush()
                        np.testing.assert_array_equal(talk.codes(), encoded(CODEC, samples)[0])
                    async with session(port, "127.0.0.2") as third:
                        assert [error.code for error in third.of(ErrorMessage)] == ["busy"]
            opened = [line["address"] for line in lines(server) if line["event"] == "opened"]
            assert opened == ["127.0.0.2", "127.0.0.3"]

    asyncio.run(main())
