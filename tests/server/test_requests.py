"""HTTP as RFC 9110 and RFC 9112 have it, whatever the WebSocket library's version makes of it."""

import asyncio
import base64
import json
from http import HTTPStatus

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

pytest.importorskip("websockets", reason="the extra `server` is not installed")
pytest.importorskip("prometheus_client", reason="the extra `server` is not installed")

from raw import ask, closed, parsed, request, tcp, text
from talk import Talk, served, small_codec
from websockets.exceptions import InvalidStatus

from streamcodec.server.http import Exchange, RequestError
from streamcodec.server.pages import respond

CODEC = small_codec()
PATHS = ["/", "/app.js", "/healthz", "/readyz", "/v1/codecs", "/metrics", "/v1/stream"]
UPGRADE = {
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": base64.b64encode(bytes(16)).decode(),
    "Sec-WebSocket-Protocol": "streamcodec.v1",
}
STREAM = {"method": "GET", "path": "/v1/stream"}


def events(server, name):
    return [line for line in map(json.loads, server.stream.getvalue().splitlines()) if line["event"] == name]


def refusals(server):
    """Counts by code."""
    lines = server.exposition().decode().splitlines()
    found = (line.split() for line in lines if line.startswith("streamcodec_refusals_total{"))
    return {series.split('"')[1]: float(count) for series, count in found}


def test_head_is_get_without_the_body():
    async def main():
        async with served({"small": CODEC}) as server:
            for path in [*PATHS, "/nothing"]:
                get, head = await ask(server, "GET", path), await ask(server, "HEAD", path)
                assert (head.status, head.body) == (get.status, b"")
                assert get.body
                changing = {"date", *(["content-length"] if path == "/metrics" else [])}
                assert {k: v for k, v in head.fields.items() if k not in changing} == {
                    k: v for k, v in get.fields.items() if k not in changing
                }
                assert "date" in get.fields

    asyncio.run(main())


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "TRACE", "BREW"])
def test_another_method_is_told_which_are_allowed(method):
    async def main():
        async with served({"small": CODEC}) as server:
            for path in PATHS:
                answer = await ask(server, method, path)
                assert (answer.status, answer.fields["allow"]) == (405, "GET, HEAD, OPTIONS")
            assert (await ask(server, method, "/nothing")).status == 404

    asyncio.run(main())


def test_options_tells_the_methods():
    async def main():
        async with served({"small": CODEC}) as server:
            for path in [*PATHS, "*"]:
                for version in ("1.1", "1.0"):
                    answer = await ask(server, "OPTIONS", path, version)
                    assert (answer.status, answer.body) == (204, b"")
                    assert answer.fields["allow"] == "GET, HEAD, OPTIONS"
                    assert "content-length" not in answer.fields

    asyncio.run(main())


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (request(path="/healthz", version="1.0", Host=None), 200),
        (request(path="/healthz?x=1"), 200),
        (request(path="http://codec.example/healthz"), 200),
        (request(path="http://codec.example"), 200),
        (request(path="ftp://codec.example/"), 400),
        (request(path="http://me@codec.example/"), 400),
        (request(path="http://[::1/"), 400),
        (request(path="healthz"), 400),
        (request(path="/healthz", Host=None), 400),
        (request(path="/healthz", Host=["a", "b"]), 400),
        (request(path="/healthz", Host=["a", "a"]), 400),
        (request(path="/healthz", Host="a b"), 400),
        (request(path="/healthz", Host="a/b"), 400),
        (request(path="/healthz", Host="a:b"), 400),
        (request(path="/healthz", Host="[::1]:8765"), 200),
        (request(path="/healthz", Host=""), 200),
        (request(path="/healthz", Origin=["http://a.example", "http://b.example"]), 400),
        (request(path="/metrics", Authorization=["Bearer a", "Bearer b"]), 400),
        (request(path="/healthz", Content_Length="5") + b"hello", 200),
        (request(path="/healthz", Content_Length=["5", "6"]) + b"hello", 400),
        (request(path="/healthz", Transfer_Encoding="chunked") + b"5\r\nhello\r\n0\r\n\r\n", 200),
        (request(path="/healthz", Transfer_Encoding="gzip"), 501),
        (request(path="/healthz", version="2.0"), 505),
        (request(path="/healthz", Upgrade="h2c", Connection="Upgrade, HTTP2-Settings"), 200),
        (request(path="/healthz", Cookie="a=" + 30_000 * "b"), 200),
        (request(path="/healthz", Cookie="a=" + 40_000 * "b"), 431),
        (request("POST", "/healthz", Content_Length=str(2**20)) + bytes(2**20), 405),
        (b"GET /healthz HTTP/1.1\nHost: a\n\n", 200),
        (b"GET  /healthz HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (bytes.fromhex("16030100a5010000a10303") + bytes(160), 400),
    ],
)
def test_every_request_gets_its_answer(sent, status):
    async def main():
        async with served({"small": CODEC}) as server, tcp(server, sent) as (reader, _):
            assert parsed(await closed(reader)).status == status

    asyncio.run(main())


@pytest.mark.parametrize(
    ("fields", "version", "status"),
    [
        ({}, "1.1", 101),
        ({"Upgrade": "WebSocket", "Connection": "keep-alive, upgrade"}, "1.1", 101),
        ({"Connection": ["keep-alive", "Upgrade"]}, "1.1", 101),
        ({"Sec-WebSocket-Protocol": "chat, streamcodec.v1"}, "1.1", 101),
        ({"Sec-WebSocket-Protocol": ["chat", "streamcodec.v1"]}, "1.1", 101),
        ({"Cookie": 3 * ["a=" + 8_000 * "b"]}, "1.1", 101),
        ({"X-A": [str(i) for i in range(300)]}, "1.1", 101),
        ({}, "1.0", 426),
        ({"Connection": "close"}, "1.1", 426),
        ({"Upgrade": "h2c"}, "1.1", 426),
        ({"Sec-WebSocket-Version": "8"}, "1.1", 426),
        ({"Sec-WebSocket-Version": None}, "1.1", 426),
        ({"Sec-WebSocket-Version": ["13", "13"]}, "1.1", 400),
        ({"Sec-WebSocket-Key": None}, "1.1", 400),
        ({"Sec-WebSocket-Key": "c2hvcnQ="}, "1.1", 400),
        ({"Sec-WebSocket-Protocol": None}, "1.1", 400),
        ({"Sec-WebSocket-Protocol": "chat"}, "1.1", 400),
        ({"Sec-WebSocket-Protocol": 9_000 * "a"}, "1.1", 431),
        ({"Content-Length": "5"}, "1.1", 400),
        ({"Transfer-Encoding": "chunked"}, "1.1", 400),
        ({"Origin": 2 * ["http://127.0.0.1"]}, "1.1", 400),
        ({"Authorization": ["Bearer a", "Bearer b"]}, "1.1", 400),
        ({"Host": ["127.0.0.1", "evil.example"]}, "1.1", 400),
    ],
)
def test_a_websocket_is_given_to_what_asks_for_it_rightly(fields, version, status):
    async def main():
        sent = request(**STREAM, version=version, **{**UPGRADE, **fields})
        async with served({"small": CODEC}) as server, tcp(server, sent) as (reader, _):
            head = await reader.readuntil(b"\r\n\r\n")
            assert int(head.split()[1]) == status
            assert (b"\r\nSec-WebSocket-Protocol: streamcodec.v1\r\n" in head) == (status == 101)
            if status == 426:
                assert b"\r\nUpgrade: websocket\r\n" in head or b"\r\nSec-WebSocket-Version: 13\r\n" in head

    asyncio.run(main())


@pytest.mark.parametrize("cut", [1, 7, 10_000])
def test_a_session_opens_however_its_bytes_arrive(cut):
    async def main():
        sent = request(**STREAM, **UPGRADE) + text('{"type":"hello","version":1,"mode":"wrong"}')
        async with served({"small": CODEC}) as server, tcp(server) as (reader, writer):
            for place in range(0, len(sent), cut):
                writer.write(sent[place : place + cut])
                await asyncio.sleep(0)
            await asyncio.wait_for(reader.readuntil(b'"type":"error"'), 30)

    asyncio.run(main())


@given(st.one_of(st.binary(max_size=200), st.text("GETHOS: /*HTTP/1.10\r\n\t\x00", max_size=80).map(str.encode)))
@example(b"\r\n\r\n")
@example(b"GET http:// HTTP/1.1\r\nHost: x\r\n\r\n")
def test_bytes_of_any_kind_are_a_request_or_get_an_answer(data):
    exchange, status = Exchange(), HTTPStatus.OK
    try:
        exchange.read(data + b"\r\n\r\n")
    except RequestError as error:
        status = error.status
    assert parsed(exchange.write(respond(status, "text\n"))).status == status


@given(st.data())
def test_a_request_is_the_same_however_it_is_cut(data):
    whole = request(path="/a?b=c", X=["1", "2"], Cookie="a=b") + b"rest"
    cuts = sorted(data.draw(st.sets(st.integers(1, len(whole) - 1), max_size=5)))
    exchange, once = Exchange(), Exchange()
    found = None
    for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True):
        found = found or exchange.read(whole[start:end])
    assert found == once.read(whole)
    assert found.path == "/a"
    assert found.get("x") == "1, 2"
    assert once.rest() == b"rest"


def test_what_fails_inside_is_a_500_with_a_line_in_the_log(monkeypatch):
    async def main():
        async with served({"small": CODEC}) as server:
            monkeypatch.setattr(server, "exposition", lambda: 1 / 0)
            answer = await ask(server, "GET", "/metrics?key=secret")
            assert answer.status == 500
            assert b"Zero" not in answer.body
            (line,) = events(server, "request")
            assert (line["level"], line["path"], line["address"]) == ("error", "/metrics", "127.0.0.1")
            assert "ZeroDivisionError" in line["error"]
            assert "secret" not in server.stream.getvalue()
            assert (await ask(server, "GET", "/healthz")).status == 200

    asyncio.run(main())


def test_what_is_no_request_has_a_line_for_those_who_look():
    async def main():
        async with served({"small": CODEC}) as server:
            await ask(server, "GET", "/healthz", Host=["a", "b"])
            (line,) = events(server, "answered")
            assert (line["level"], line["status"]) == ("debug", 400)
            assert "Host" in line["error"]

    asyncio.run(main())


@pytest.mark.parametrize("code", ["connections", "server_shutdown"])
def test_a_connection_that_is_refused_is_counted_and_logged(code):
    async def main():
        async with served({"small": CODEC}, connections=1) as server, Talk(server):
            server.draining = code == "server_shutdown"
            with pytest.raises(InvalidStatus) as refusal:
                await Talk(server).open()
            server.draining = False
            assert refusal.value.response.status_code == 503
            assert refusal.value.response.headers["Retry-After"] == "5"
            assert refusals(server) == {code: 1}
            assert [line["code"] for line in events(server, "refused")] == [code]

    asyncio.run(main())


def test_a_handshake_that_is_cut_for_others_is_counted_and_logged():
    async def main():
        async with served({"small": CODEC}, connections=1) as server:
            async with tcp(server, b"GET") as (reader, _):
                await asyncio.sleep(0.05)
                assert (await ask(server, "GET", "/healthz")).status == 200
                assert await closed(reader) == b""
            assert refusals(server) == {"handshakes": 1}
            assert [line["code"] for line in events(server, "refused")] == ["handshakes"]

    asyncio.run(main())
