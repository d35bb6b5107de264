"""The resident memory of a real server: what a session may cost, and that it goes back."""

import asyncio
import contextlib
import os
import threading
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from deadlines import timeout

pytest.importorskip("websockets", reason="the extra `server` is not installed")
pytest.importorskip("prometheus_client", reason="the extra `server` is not installed")

from raw import frame
from talk import Talk, hello, pieces, served, small_codec, wave
from test_ends import Process

import streamcodec
from streamcodec.packet import PcmMessage, pack
from streamcodec.protocol import PcmFormat

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="resident memory is read from /proc"),
]
WIDE = PcmFormat(format="f32le", sample_rate=48000, channels=2)
MIB = 2**20
# As docs/server.md states them, in bytes. The first has what allocators keep and what Python loads late; the second is
# for the same again, and is what would show a leak: 500 visits that left 25 kB each would be above it.
MARGIN, AGAIN = 32 * MIB, 12 * MIB
SESSION = 26 * MIB


def resident(server):
    """Bytes of the server, and of its engine."""
    engine = max(server.children(), key=memory)  # the other child is multiprocessing's own, and small
    return np.array([memory(server.process.pid), memory(engine)])


def memory(pid):
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@contextlib.contextmanager
def small_server(tmp_path):
    streamcodec.save(small_codec().float(), tmp_path / "small")
    limits = (
        "--sessions",
        "256",
        "--limit",
        "sessions-per-address=256",
        "--limit",
        "slots=128",
        "--limit",
        "resume-seconds=0.2",
    )
    with Process("--codec", f"small={tmp_path / 'small'}", *limits) as server:
        asyncio.run(server.ready())
        log = threading.Thread(target=lambda: list(server.process.stderr), daemon=True)  # lest the pipe fills
        log.start()
        yield server
        server.process.kill()
        log.join()


async def emptied(server):
    """Until no session and no connection is left, and a second for what is freed then."""
    async with timeout(60):
        while any(await asyncio.to_thread(here, server)):
            await asyncio.sleep(0.1)
    await asyncio.sleep(1)


def here(server):
    """How many connections and sessions, by codec and mode."""
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics") as answer:
        lines = answer.read().decode().splitlines()
    counts = [line for line in lines if line.startswith(("streamcodec_connections ", "streamcodec_sessions{"))]
    assert len(counts) > 1
    return [float(line.rpartition(" ")[2]) for line in counts]


async def visits(server, count):
    """Connections that come and go, at every phase of a session."""
    for number in range(count):
        async with Talk(server) as talk:
            mode = ["encode", "decode", "roundtrip"][number % 3]
            if number % 4:
                talk.session.hello(hello(mode, resume=bool(number % 2)))
                await talk.send()
            if number % 4 > 1:
                await talk.until(lambda talk=talk: talk.session.welcome or talk.over)
                if talk.session.welcome and mode != "decode":
                    await talk.say(wave(0.2))


async def load(server, sessions=8):
    """As fast as it goes."""

    async def one(number):
        async with Talk(server, hello("roundtrip", pcm=WIDE)) as talk:
            for piece in pieces(wave(4.0, 2, 48000), number, 20_000):
                await talk.say(piece)
            await talk.flush()

    await asyncio.gather(*(one(number) for number in range(sessions)))


def test_memory_goes_back_after_500_connections_and_after_load(tmp_path):
    with small_server(tmp_path) as server:

        async def main():
            measured = [resident(server)]
            for _ in range(2):
                await visits(server, 500)
                await emptied(server)
                await load(server)
                await emptied(server)
                measured.append(resident(server))
            first, once, twice = measured
            assert (once - first < MARGIN).all(), measured
            assert (twice - once < AGAIN).all(), measured

        asyncio.run(main())


class Stuffed:
    """A client that reads nothing and sends all that is taken, first input, then messages just below what is too much
    for the library to read."""

    def __init__(self, talk):
        self.talk = talk
        talk.ws.transport.pause_reading()

    def messages(self):
        silence = np.zeros((30_000, 2), np.float32)
        for number in range(20):
            yield pack(PcmMessage(number, number * len(silence), silence))
        while True:
            yield bytes(4 * 262_144)

    async def stuff(self):
        """Until the socket takes no more for a second."""
        transport, quiet = self.talk.ws.transport, 0
        for message in self.messages():
            transport.write(frame(message))
            quiet = 0
            while transport.get_write_buffer_size() and quiet < 20:
                before = transport.get_write_buffer_size()
                await asyncio.sleep(0.05)
                quiet = quiet + 1 if transport.get_write_buffer_size() == before else 0
            if quiet:
                return


def test_what_a_session_of_a_client_that_tries_takes_is_bounded(tmp_path):
    count = 6
    with small_server(tmp_path) as server:

        async def main():
            await load(server, 1)
            await emptied(server)
            before = resident(server)[0]
            async with contextlib.AsyncExitStack() as stack:
                talks = [
                    await stack.enter_async_context(Talk(server, hello("roundtrip", pcm=WIDE))) for _ in range(count)
                ]
                await asyncio.gather(*(Stuffed(talk).stuff() for talk in talks))
                most = (resident(server)[0] - before) / count
                for talk in talks:
                    assert not talk.closed
                    talk.ws.transport.abort()
            assert 2 * MIB < most < SESSION, most  # below the least they were not stuffed
            await emptied(server)
            assert resident(server)[0] - before < MARGIN

        asyncio.run(main())


def test_the_bound_of_the_text_is_that_of_the_parts():
    """docs/server.md adds it up for the default options."""

    async def main():
        async with served({"small": small_codec()}) as server:
            limits = server.limits
            unacknowledged, message = limits.unacknowledged_bytes, limits.message_bytes
            parts = [
                2 * unacknowledged + message,
                2 * (unacknowledged + message),
                unacknowledged + message + 4 * message,
                6 * 4 * message + 262_144,
                2 * (32_768 + 262_144),
                2 * (unacknowledged + message) + 262_144,
                (16_384 + 32_768) * 100 + 16_384 * 200,
            ]
            assert sum(parts) < SESSION

    asyncio.run(main())
