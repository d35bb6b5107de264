"""Faults of the engine, and the end of the server."""

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("websockets", reason="the extra `server` is not installed")
pytest.importorskip("prometheus_client", reason="the extra `server` is not installed")

from raw import frame, tcp, write
from talk import Talk, decoded, encoded, hello, pieces, served, small_codec, wave
from test_http import get
from websockets.exceptions import InvalidStatus

from streamcodec.protocol import CodesReceived, Ended, PcmFormat, PcmReceived
from streamcodec.protocol.messages import Farewell

CODEC = small_codec()


class Process:
    """`streamcodec serve` in a process of its own, with the codec of the package."""

    def __init__(self, *options):
        command = [sys.executable, "-m", "streamcodec", "serve", "--port", "0", *options]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        self.lines = []

    async def ready(self):
        return await self.event("ready")

    async def event(self, name):
        """Read the log up to an event."""
        while True:
            line = await asyncio.to_thread(self.process.stderr.readline)
            assert line, self.process.wait()
            self.lines.append(json.loads(line))
            if self.lines[-1]["event"] == "listening":
                self.port = self.lines[-1]["port"]
            if self.lines[-1]["event"] == name:
                return self

    def children(self):
        """The processes that it has started (Linux)."""
        folder = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(number) for number in folder.read_text().split()]

    def end(self, seconds):
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(seconds)
        self.lines += [json.loads(line) for line in self.process.stderr]
        return code

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.process.kill()
        self.process.wait()
        self.process.stderr.close()


def test_a_session_that_fails_in_a_step_is_told_and_nobody_else_loses_anything():
    async def main():
        codec = small_codec()
        async with (
            served({"small": codec}) as server,
            Talk(server, hello("roundtrip")) as good,
            Talk(server, hello("encode")) as bad,
            Talk(server, hello("encode")) as other,
        ):
            samples = wave(0.5)
            lane = server.engine.engines["small"]._encoders
            fill = lane._fill

            def filled(plans, x):
                given = fill(plans, x)
                for row, plan in zip(given, plans, strict=False):
                    if row.abs().max() > 7:
                        raise RuntimeError(f"a step failed in slot {plan.side.slot}")
                return given

            lane._fill = filled
            for place in range(0, 4000, 500):
                piece = samples[:, place : place + 500]
                await asyncio.gather(good.say(piece), other.say(piece))
                if place == 1000:
                    await bad.say(np.full((1, 500), 7.5, np.float32))
            await bad.until(lambda: bad.over)
            assert bad.of(Ended)[0].code == "internal"
            await bad.until(lambda: bad.closed)
            assert bad.closed[0] == 4500
            await good.flush()
            await other.flush()
            codes, _ = encoded(CODEC, samples)
            np.testing.assert_array_equal(other.codes(), codes)
            np.testing.assert_allclose(good.audio(), decoded(CODEC, codes, 4000), atol=1e-6)
            assert server.sessions.taken == {"small": [2, 1]}

    asyncio.run(main())


def test_an_engine_that_fails_altogether_ends_its_sessions_and_serves_the_next():
    async def main():
        codec = small_codec()
        async with served({"small": codec}) as server:
            engine = server.engine.engines["small"]
            step, engine.step = engine.step, lambda: 1 / 0
            async with Talk(server, hello("encode")) as talk:
                await talk.say(wave(0.1))
                await talk.until(lambda: talk.over)
                assert talk.of(Ended)[0].code == "internal"
            engine.step = step
            async with Talk(server, hello("encode")) as talk:
                await talk.say(wave(0.1))
                await talk.flush()
                np.testing.assert_array_equal(talk.codes(), encoded(CODEC, wave(0.1))[0])
            assert '"error": "ZeroDivisionError' in server.stream.getvalue()

    asyncio.run(main())


def test_stopping_finishes_what_is_on_the_way_and_tells_everyone():
    async def main():
        samples = wave(1.0)
        async with served({"small": CODEC}) as server:
            talks = [Talk(server, hello(mode)) for mode in ("encode", "roundtrip", "encode")]
            async with contextlib.AsyncExitStack() as stack:
                for talk in talks:
                    await stack.enter_async_context(talk)
                for talk in talks[:2]:
                    for piece in pieces(samples):
                        await talk.say(piece)
                    await talk.mark("in")
                    await talk.say(samples)  # on its way when the end comes
                while not all(live.protocol.received_messages > 10 for live in list(server.sessions)[:2]):
                    await asyncio.sleep(0.01)
                await asyncio.sleep(0.2)
                await server.stop()
                for talk in talks:
                    await talk.until(lambda talk=talk: talk.closed)
                    assert talk.of(Farewell)[0].reason == "server_shutdown"
                    assert talk.closed[0] == 1001
                codes, _ = encoded(CODEC, np.concatenate([samples, samples], 1))
                np.testing.assert_array_equal(talks[0].codes(), codes)
                np.testing.assert_allclose(talks[1].audio(), decoded(CODEC, codes), atol=1e-6)
                assert talks[0].of(CodesReceived)[-1].last
                assert talks[1].of(PcmReceived)[-1].last

    asyncio.run(main())


def test_while_it_drains_a_server_is_not_ready_and_takes_nobody():
    async def main():
        async with (
            served({"small": CODEC}, drain_seconds=1.5) as server,
            Talk(server) as early,
            Talk(server, hello("encode")) as talk,
            Talk(server, hello("encode")) as gone,
        ):
            await gone.cut()
            await talk.say(wave(0.2))
            await talk.mark("in")
            (live,) = [live for live in server.sessions if live.link is None]
            live.drain = lambda: None  # one that does not come to its end
            stopping = asyncio.create_task(server.stop())
            await asyncio.sleep(0.1)
            status, _, body = await get(server, "/readyz")
            assert (status, body) == (503, b"draining\n")
            assert (await get(server, "/healthz"))[0] == 200
            with pytest.raises(InvalidStatus) as refusal:
                await Talk(server).open()
            assert refusal.value.response.status_code == 503
            assert refusal.value.response.headers["Retry-After"] == "5"
            early.session.hello(hello("encode"))
            await early.send()
            await early.until(lambda: early.over)
            assert early.of(Ended)[0].code == "server_shutdown"
            await stopping
            await talk.until(lambda: talk.closed)
            np.testing.assert_array_equal(talk.codes(), encoded(CODEC, wave(0.2))[0])
            assert json.loads(server.stream.getvalue().splitlines()[-1])["unfinished"] == 1

    asyncio.run(main())


def test_sigterm_under_load():
    async def main():
        with Process("--limit", "drain-seconds=5") as server:
            await server.ready()
            talks = [Talk(server, hello("roundtrip")) for _ in range(6)]
            async with contextlib.AsyncExitStack() as stack:
                for talk in talks:
                    await stack.enter_async_context(talk)

                async def pace(talk):
                    while not talk.closed:
                        await talk.say(wave(0.1))
                        await asyncio.sleep(0.1)

                loads = [asyncio.create_task(pace(talk)) for talk in talks]
                await asyncio.sleep(2)
                began = time.monotonic()
                code = await asyncio.to_thread(server.end, 30)
                seconds = time.monotonic() - began
                for talk in talks:
                    await talk.until(lambda talk=talk: talk.closed)
                    assert talk.of(Farewell)[0].reason == "server_shutdown"
                    assert talk.of(PcmReceived)[-1].last
                await asyncio.gather(*loads, return_exceptions=True)
                assert code == 0
                assert seconds < 5 + 3 + 3  # drain_seconds, the connections, the interpreter
                assert server.lines[-1]["event"] == "stopped"
                assert server.lines[-1]["unfinished"] == 0

    asyncio.run(main())


def test_no_client_holds_up_the_end():
    """Half a handshake, half a message, a session without a connection, one that takes nothing: exit 0, in time."""

    async def main():
        with Process("--limit", "drain-seconds=2", "--limit", "handshake-seconds=60") as server:
            await server.ready()
            deaf = hello("roundtrip", pcm=PcmFormat(format="f32le", sample_rate=48000, channels=2))
            async with (
                tcp(server),
                tcp(server, b"GET /v1/stream HTTP/1.1\r\n"),
                Talk(server) as half,
                Talk(server, hello("encode")) as gone,
                Talk(server, deaf) as stuck,
                Talk(server, hello("roundtrip", resume=False)) as good,
            ):
                await write(half, frame(bytes(1000))[:500])
                await gone.say(wave(0.5))
                await gone.cut()
                stuck.ws.transport.pause_reading()
                for _ in range(8):  # more output than the socket takes
                    stuck.session.send_pcm(np.zeros((2, 30_000), np.float32))
                for message in stuck.session.messages_to_send():
                    stuck.ws.transport.write(frame(message))
                await good.say(wave(1.0))
                await good.mark("in")
                began = time.monotonic()
                code = await asyncio.to_thread(server.end, 60)
                seconds = time.monotonic() - began
                await good.until(lambda: good.closed)
                assert good.of(Farewell)[0].reason == "server_shutdown"
                assert good.of(PcmReceived)[-1].last
                assert sum(event.samples.shape[1] for event in good.of(PcmReceived)) == 8000
                stuck.ws.transport.abort()
            assert code == 0
            assert seconds < 2 + 11 + 4  # drain_seconds, what docs/server.md says, and a machine that is busy

    asyncio.run(main())


def test_a_server_that_is_told_to_stop_before_it_is_ready():
    with Process() as server:
        asyncio.run(asyncio.wait_for(server.event("listening"), 120))
        assert server.end(60) == 0
        # Programs read these lines; what is for people on a terminal is not among them.
        assert [(line["event"], set(line) - {"time", "level", "event"}) for line in server.lines] == [
            ("listening", {"host", "port", "codecs"}),
            ("draining", {"sessions"}),
            ("stopped", {"unfinished"}),
        ]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="fills the pipe through /proc")
def test_a_log_that_nobody_reads_or_that_is_gone_costs_nobody_a_session():
    async def sessions(server):
        for _ in range(3):
            async with Talk(server, hello("encode", pcm=PcmFormat(format="f32le", sample_rate=24000))) as talk:
                assert talk.session.welcome
        assert (await get(server, "/readyz"))[0] == 200

    async def main():
        with Process() as server:
            await server.ready()
            pipe = os.open(f"/proc/{server.process.pid}/fd/2", os.O_WRONLY | os.O_NONBLOCK)
            with contextlib.suppress(BlockingIOError):
                while os.write(pipe, b"\n"):  # by one, lest a rest of the pipe stays free
                    pass
            os.close(pipe)
            await sessions(server)  # the first line waits, and the others behind it
            server.process.stderr.close()
            await sessions(server)
            dropped = re.search(
                rb"^streamcodec_log_dropped_lines_total (\S+)$", (await get(server, "/metrics"))[2], re.M
            )
            assert float(dropped[1]) >= 6
            server.process.terminate()
            assert await asyncio.to_thread(server.process.wait, 30) == 0

    asyncio.run(main())


@pytest.mark.parametrize("how", ["cancelled", "failed"])
def test_a_task_that_ends_though_it_must_not_ends_the_servers_readiness(how):
    async def main():
        async with served({"small": CODEC}) as server:
            async with Talk(server, hello("encode")) as talk:
                if how == "cancelled":
                    server._ticker.cancel()
                else:
                    server.clock = lambda: 1 / 0
                while server.failure is None:
                    await asyncio.sleep(0.01)
                server.clock = time.monotonic
                for path, status in (("/readyz", 503), ("/healthz", 500)):
                    code, _, body = await get(server, path)
                    assert code == status
                    assert body.startswith(b"the task that ends what has waited too long has ended: ")
                assert how == "cancelled" or b"ZeroDivisionError" in body
                async with Talk(server, hello("encode")) as late:
                    assert late.of(Ended)[0].code == "busy"
                await talk.say(wave(0.2))  # those who are there go on
                await talk.flush()
                np.testing.assert_array_equal(talk.codes(), encoded(CODEC, wave(0.2))[0])
            await server.stop()
            assert server.failure

    asyncio.run(main())


@pytest.mark.skipif(sys.platform == "win32", reason="no children in /proc")
def test_a_server_whose_engine_ended_says_so_with_its_exit_code():
    async def main():
        with Process() as server:
            await server.ready()
            (engine,) = [n for n in server.children() if b"spawn_main" in Path(f"/proc/{n}/cmdline").read_bytes()]
            os.kill(engine, signal.SIGKILL)
            while (answer := await get(server, "/readyz"))[0] == 200:
                await asyncio.sleep(0.05)
            assert (answer[0], answer[2]) == (503, b"the process engine-0 has ended: without a word\n")
            assert await asyncio.to_thread(server.end, 30) == 2

    asyncio.run(main())


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGHUP")
def test_a_terminal_that_is_closed_ends_the_server_as_sigterm_does():
    with Process() as server:
        asyncio.run(asyncio.wait_for(server.ready(), 120))
        server.process.send_signal(signal.SIGHUP)
        assert server.process.wait(30) == 0
        assert json.loads(server.process.stderr.readlines()[-1])["event"] == "stopped"


@pytest.mark.skipif(sys.platform == "win32", reason="a process cannot be sent these signals")
@pytest.mark.parametrize(("first", "second"), [("SIGTERM", "SIGINT"), ("SIGINT", "SIGTERM")])
def test_a_second_signal_breaks_the_drain_off(first, second):
    async def main():
        with Process("--limit", "drain-seconds=60") as server:
            await server.ready()
            async with Talk(server, hello("encode", pcm=PcmFormat(format="f32le", sample_rate=24000))) as talk:
                await talk.say(wave(0.2, rate=24000))
                talk.ws.transport.pause_reading()  # what it does not take keeps the server waiting
                await talk.cut()
                async with Talk(server, hello("encode", pcm=PcmFormat(format="f32le", sample_rate=24000))):
                    os.kill(server.process.pid, signal.SIGSTOP)  # so that both come before it has drained
                    server.process.send_signal(getattr(signal, first))
                    server.process.send_signal(getattr(signal, second))
                    os.kill(server.process.pid, signal.SIGCONT)
                    code = await asyncio.to_thread(server.process.wait, 30)
            lines = server.process.stderr.read().splitlines()
            assert code in (130, 143)
            assert [json.loads(line)["event"] for line in lines][-1] == "stopped"  # and no traceback

    asyncio.run(main())


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="namespaces of processes are Linux's")
def test_as_process_1_it_ends_at_sigterm():
    """In a container signals without a handler do nothing."""
    if subprocess.run(["unshare", "--pid", "--fork", "true"], capture_output=True, check=False).returncode:
        pytest.skip("this user may not make a namespace of processes")
    command = ["unshare", "--pid", "--fork", sys.executable, "-m", "streamcodec", "serve", "--port", "0"]
    outer = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        while '"ready"' not in (line := outer.stderr.readline()):
            assert line
        (server,) = Path(f"/proc/{outer.pid}/task/{outer.pid}/children").read_text().split()
        os.kill(int(server), signal.SIGTERM)
        assert outer.wait(30) == 0
        assert json.loads(outer.stderr.readlines()[-1])["event"] == "stopped"
    finally:
        outer.kill()
        outer.wait()
        outer.stderr.close()


def test_a_port_that_is_taken_is_explained():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        command = [sys.executable, "-m", "streamcodec", "serve", "--port", port]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2
    assert "error:" in done.stderr
    assert port in done.stderr
    assert "Traceback" not in done.stderr
