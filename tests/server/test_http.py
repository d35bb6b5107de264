"""What comes over plain HTTP on the same port, and who may connect."""

import asyncio
import json
import urllib.error
import urllib.request

import pytest

pytest.importorskip("websockets", reason="the extra `server` is not installed")
pytest.importorskip("prometheus_client", reason="the extra `server` is not installed")

from prometheus_client.parser import text_string_to_metric_families
from talk import Talk, hello, served, small_codec, wave

from streamcodec.protocol import RoomRequest
from streamcodec.protocol.messages import ErrorMessage

CODEC = small_codec()
KEY = "a-key-of-the-operator"


async def get(server, path, scheme="http", context=None, **headers):
    """Status, headers and body."""

    def fetch():
        request = urllib.request.Request(f"{scheme}://127.0.0.1:{server.port}{path}", headers=headers)
        try:
            with urllib.request.urlopen(request, context=context) as answer:
                return answer.status, answer.headers, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.headers, error.read()

    return await asyncio.to_thread(fetch)


def test_the_page_and_nothing_but_the_page():
    async def main():
        async with served({"small": CODEC}) as server:
            for path, kind in (("/", "text/html"), ("/wire.js", "text/javascript")):
                status, headers, body = await get(server, path)
                assert (status, headers.get_content_type()) == (200, kind)
                assert "default-src 'none'" in headers["Content-Security-Policy"]
                assert headers["X-Content-Type-Options"] == "nosniff"
                assert len(body) == int(headers["Content-Length"])
            for path in ("/../app.py", "/%2e%2e/app.py", "/page/wire.js", "//etc/passwd", "/app.py", "/wire.js/", "/x"):
                assert (await get(server, path))[0] == 404

    asyncio.run(main())


def test_names_from_a_client_are_keys_of_tables_too():
    async def main():
        async with served({"small": CODEC}) as server:
            for fields, code in (
                ({"mode": "encode", "codec": "/etc/passwd"}, "unknown_codec"),
                ({"mode": "encode", "codec": "facebook/encodec_24khz"}, "unknown_codec"),
                ({"mode": "room", "room": RoomRequest(name="../../x", role="both")}, "room_name"),
            ):
                async with Talk(server, hello(**fields)) as talk:
                    assert talk.of(ErrorMessage)[0].code == code

    asyncio.run(main())


def test_it_listens_where_only_this_machine_reaches_it():
    async def main():
        async with served({"small": CODEC}) as server:
            assert {socket.getsockname()[0] for socket in server._listening.sockets} == {"127.0.0.1"}

    asyncio.run(main())


def test_health_readiness_and_codecs():
    async def main():
        async with served({"small": CODEC, "other": CODEC}) as server:
            assert (await get(server, "/healthz"))[0] == 200
            assert (await get(server, "/readyz"))[0] == 200
            status, _, body = await get(server, "/v1/codecs")
            values = json.loads(body)
            assert status == 200
            assert values["default"] == "small"
            assert [codec["name"] for codec in values["codecs"]] == ["small", "other"]
            assert values["codecs"][0]["bandwidth_codebooks"] == [1, 2, 8]
            server.draining = True
            assert (await get(server, "/readyz"))[0] == 503
            server.draining = False
            assert (await get(server, "/v1/stream"))[0] == 426

    asyncio.run(main())


def test_metrics_count_connections_sessions_and_messages():
    async def main():
        async with served({"small": CODEC}) as server, Talk(server, hello("encode")) as talk:
            await talk.say(wave(0.2))
            await talk.flush()
            _, headers, body = await get(server, "/metrics")
            assert headers.get_content_type() == "text/plain"
            values = {
                sample.name: sample.value
                for family in text_string_to_metric_families(body.decode())
                for sample in family.samples
            }
            assert values["streamcodec_connections"] == 1
            assert values["streamcodec_sessions"] == 1
            assert values["streamcodec_sessions_opened_total"] == 1
            assert values["streamcodec_engine_step_seconds_count"] > 0
            assert values["streamcodec_engine_step_sessions_count"] == values["streamcodec_engine_step_seconds_count"]
            assert values["streamcodec_messages_total"] > 0
            assert values["streamcodec_engine_cpu_seconds"] > 0
            assert values["streamcodec_resident_bytes"] > 1e6

    asyncio.run(main())


def test_metrics_leave_out_when_series_were_made_whatever_a_codec_is_called():
    async def main():
        async with served({"my_created ": CODEC}) as server, Talk(server, hello("encode")):
            text = (await get(server, "/metrics"))[2].decode()
            assert 'streamcodec_sessions{codec="my_created ",mode="encode"} 1.0' in text
            assert "streamcodec_resumes_total" in text
            assert "streamcodec_resumes_created" not in text

    asyncio.run(main())


def test_a_key_is_wanted_where_there_is_one(tmp_path):
    file = tmp_path / "key"
    file.write_text(KEY + "\n")

    async def main():
        async with served({"small": CODEC}, key_file=str(file)) as server:
            for opening, headers, allowed in (
                (hello("encode"), {}, False),
                (hello("encode", key=KEY[:-1]), {}, False),
                (hello("encode", key=KEY), {}, True),
                (hello("encode"), {"Authorization": f"Bearer {KEY}"}, True),
                (hello("encode"), {"Authorization": f"Basic {KEY}"}, False),
            ):
                async with Talk(server, opening, additional_headers=headers) as talk:
                    assert bool(talk.session.welcome) == allowed
                    if not allowed:
                        assert talk.of(ErrorMessage)[0].code == "unauthorised"
            assert (await get(server, "/metrics"))[0] == 401
            assert (await get(server, "/metrics", Authorization=f"Bearer {KEY}"))[0] == 200
            assert (await get(server, "/healthz"))[0] == 200

    asyncio.run(main())
