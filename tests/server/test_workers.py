"""Several processes on one port: sessions, resumes and rooms find the one that holds them."""

import asyncio
import contextlib
import sys
import urllib.request
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("websockets", reason="the extra `server` is not installed")
pytest.importorskip("prometheus_client", reason="the extra `server` is not installed")

from talk import Talk, encoded, hello, pieces, wave
from test_ends import Process

import streamcodec
from streamcodec.protocol import CodesReceived, PcmFormat, RoomRequest
from streamcodec.protocol.messages import Farewell
from streamcodec.server.peers import Peers, summed

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux shares a port's connections")
PCM = PcmFormat(format="f32le", sample_rate=24000)


def test_a_first_message_says_where_it_belongs(tmp_path):
    peers = Peers(2, 4, tmp_path)
    assert peers.place('{"type":"resume","version":1,"token":"3-abc"}', 8192) == 3
    for token in ("9-abc", "-abc", "abc", "²-abc", "00003-abc"):
        assert peers.place('{"type":"resume","version":1,"token":"%s"}' % token, 8192) == 2  # noqa: UP031
    rooms = {peers.place('{"type":"hello","room":{"name":"room%d"}}' % i, 8192) for i in range(40)}  # noqa: UP031
    assert rooms == {0, 1, 2, 3}
    for other in (b"\x01", "garbage", '{"type":"hello"}', '{"type":"hello","room":{"name":7}}', "[" * 100):
        assert peers.place(other, 8192) == 2


def test_metrics_add_up():
    one = b'# HELP a A\n# TYPE a counter\na_total{x="1"} 2.0\n# HELP b B\n# TYPE b gauge\nb 1.0\n'
    two = b'# HELP a A\n# TYPE a counter\na_total{x="1"} 3.0\na_total{x="2 3"} 1.0\n# HELP b B\n# TYPE b gauge\nb 4.0\n'
    assert summed([one, two, b""]) == (
        b'# HELP a A\n# TYPE a counter\na_total{x="1"} 5.0\na_total{x="2 3"} 1.0\n# HELP b B\n# TYPE b gauge\nb 5.0\n'
    )


@pytest.mark.slow
def test_two_processes():
    codec = streamcodec.load()

    async def main():
        with Process("--workers", "2", "--drain-seconds", "5", "--sessions-per-address", "64") as server:
            await server.ready()
            await server.ready()
            maps = [Path(f"/proc/{pid}/maps").read_text() for pid in (server.process.pid, *server.children())]
            assert not any("/dev/shm" in text for text in maps), "which may have no room, or be closed to this user"
            samples = wave(0.5, rate=24000)
            async with contextlib.AsyncExitStack() as stack:
                talks, workers = [], set()
                while len(talks) < 6 or len(workers) < 2:  # the kernel chooses
                    talks.append(await stack.enter_async_context(Talk(server, hello("encode", pcm=PCM))))
                    workers.add(talks[-1].session.welcome.token[:2])
                assert workers == {"0-", "1-"}
                results = []
                for talk in talks:
                    for number, piece in enumerate(pieces(samples, 1, 4000)):
                        await talk.say(piece)
                        if number in (1, 3):
                            await talk.cut()
                            await talk.again()
                    await talk.flush()
                    results.append(talk.codes())
                expected, _ = encoded(codec, samples)
                for result in results:
                    assert (result == expected).mean() > 0.99  # float32: near ties may differ
                members = []
                for role in ("listener",) * 4 + ("speaker",):
                    opening = hello("room", pcm=PCM, room=RoomRequest(name="hall", role=role))
                    members.append(await stack.enter_async_context(Talk(server, opening)))
                assert len(members[-1].session.welcome.room.members) == 5
                await members[-1].say(samples)
                await members[-1].flush()
                for talk in members[:4]:
                    await talk.until(lambda talk=talk: any(event.last for event in talk.of(CodesReceived)))
                    np.testing.assert_array_equal(talk.codes(1), members[0].codes(1))
                url = f"http://127.0.0.1:{server.port}/metrics"
                text = await asyncio.to_thread(lambda: urllib.request.urlopen(url).read().decode())
                assert f'streamcodec_sessions_opened_total{{mode="encode"}} {len(talks)}.0' in text
                assert 'streamcodec_sessions_opened_total{mode="room"} 5.0' in text
                assert await asyncio.to_thread(server.end, 30) == 0
                for talk in talks + members:
                    await talk.until(lambda talk=talk: talk.closed)
                    assert talk.of(Farewell)[0].reason == "server_shutdown"

    asyncio.run(main())
