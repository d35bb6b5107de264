"""Whose pages may connect, and read what the port answers."""

import asyncio

import pytest

pytest.importorskip("websockets", reason="the extra `server` is not installed")
pytest.importorskip("prometheus_client", reason="the extra `server` is not installed")

from raw import ask
from talk import Talk, served, small_codec

from streamcodec.errors import InputError
from streamcodec.server.auth import AccessPolicy, origin_of
from streamcodec.server.config import Config

CODEC = small_codec()
KEY = "a-key-of-the-operator"


@pytest.mark.parametrize("origin", ["http://evil.example", "null"])
def test_pages_of_others_may_not_connect(origin):
    async def main():
        async with served({"small": CODEC}) as server, Talk(server, origin=origin) as talk:
            await talk.until(lambda: talk.closed)
            assert talk.closed[0] == 4403

    asyncio.run(main())


def test_origins():
    keeper = AccessPolicy(None, ("https://app.example",))
    assert keeper.allows_origin(None, "127.0.0.1:8765")
    assert keeper.allows_origin("http://127.0.0.1:8765", "127.0.0.1:8765")
    assert keeper.allows_origin("http://localhost:8765", "localhost:8765")
    assert keeper.allows_origin("http://[::1]:8765", "[::1]:8765")
    assert keeper.allows_origin("https://app.example", "127.0.0.1:8765")
    assert not keeper.allows_origin("http://localhost:3000", "localhost:8765")
    assert not keeper.allows_origin("https://app.example.evil", "127.0.0.1:8765")
    assert not keeper.allows_origin("http://rebound.example:8765", "rebound.example:8765")
    assert AccessPolicy(KEY, ()).allows_origin("https://codec.example", "codec.example")
    assert AccessPolicy(None, ("any",)).allows_origin("http://evil.example", "127.0.0.1")


@pytest.mark.parametrize("origin", ["http://[::1", "http://127.0.0.1:x", "http://[", "//", "", "127.0.0.1:8765"])
def test_an_origin_that_no_browser_sends_is_refused(origin):
    assert not AccessPolicy(KEY, ()).allows_origin(origin, "127.0.0.1:8765")


@pytest.mark.parametrize(
    ("written", "sent"),
    [
        ("https://codec.example.org", "https://codec.example.org"),
        ("https://Codec.Example.ORG/", "https://codec.example.org"),
        ("https://codec.example.org:443", "https://codec.example.org"),
        ("http://codec.example.org:80/", "http://codec.example.org"),
        ("http://localhost:3000", "http://localhost:3000"),
        ("https://codec.example.org:80", "https://codec.example.org:80"),
        ("https://[::1]:8765", "https://[::1]:8765"),
        ("https://xn--mnchen-3ya.example", "https://xn--mnchen-3ya.example"),
        ("chrome-extension://abcdefghijklmnop", "chrome-extension://abcdefghijklmnop"),
        ("null", "null"),
    ],
)
def test_an_origin_matches_as_people_write_it(written, sent):
    assert AccessPolicy(None, Config(origin=(written,)).origin).allows_origin(sent, "other.example")


@pytest.mark.parametrize(
    ("written", "why"),
    [
        ("https://codec.example.org/live/", "no path"),
        ("https://codec.example.org?x", "no path"),
        ("https://codec.example.org#x", "no path"),
        ("codec.example.org", "scheme"),
        ("codec.example.org:443", "scheme"),
        ("localhost:3000", "scheme"),
        ("//codec.example.org", "scheme"),
        ("wss://codec.example.org", "scheme"),
        ("file:///home", "scheme"),
        ("*", "any"),
        ("https://*.example.org", "patterns"),
        ("https://a.example,https://b.example", "name or address"),
        ("https://a.example https://b.example", "name or address"),
        ("https://me@codec.example.org", "name or address"),
        ("https://", "name or address"),
        ("https://codec.example.org:", "name or address"),
        ("https://codec.example.org:99999", "ort"),
        ("https://[::1", "IPv6"),
        ("https://münchen.example", "xn--"),
        ("", "scheme"),
    ],
)
def test_an_origin_that_can_never_match_is_refused_with_what_to_write(written, why):
    with pytest.raises(InputError, match="or `any` for all pages") as error:
        Config(origin=(written,))
    assert why in str(error.value)
    with pytest.raises(InputError):
        origin_of(written)


def test_a_page_that_may_connect_may_read_and_no_other():
    async def main():
        async with served({"small": CODEC}, origin=("https://app.example",)) as server:
            for path in ("/v1/codecs", "/healthz", "/nothing"):
                for origin, allowed in (("https://app.example", True), ("https://evil.example", False), (None, False)):
                    sent = {"Origin": origin} if origin else {}
                    answer = await ask(server, "GET", path, **sent)
                    assert answer.fields.get("access-control-allow-origin") == (origin if allowed else None)
                    assert "origin" in answer.fields["vary"].lower()

    asyncio.run(main())


def test_whatever_is_sent_as_an_origin_is_answered():
    async def main():
        async with served({"small": CODEC}, origin=("any",)) as server:
            for origin in ("http://caf\xe9.example", "null", "http://[::1", ""):
                assert (await ask(server, "GET", "/healthz", Origin=origin)).status == 200

    asyncio.run(main())


def test_a_browser_may_ask_before_it_sends_a_key():
    async def main():
        async with served({"small": CODEC}, origin=("https://app.example",)) as server:
            before = {"Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "authorization"}
            answer = await ask(server, "OPTIONS", "/metrics", Origin="https://app.example", **before)
            assert answer.status == 204
            assert "GET" in answer.fields["access-control-allow-methods"]
            assert answer.fields["access-control-allow-headers"] == "Authorization"
            assert answer.fields["access-control-allow-origin"] == "https://app.example"

    asyncio.run(main())
