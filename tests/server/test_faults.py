"""Connections that break at every phase, and clients that break every rule: the sessions beside them lose nothing, what
was cut goes on to the bit, and all that was taken is given back."""

import asyncio
import contextlib

import numpy as np
import pytest
from deadlines import timeout

pytest.importorskip("websockets", reason="the extra `server` is not installed")
pytest.importorskip("prometheus_client", reason="the extra `server` is not installed")

from neighbour import neighbours, nothing_left
from raw import closed, drip, frame, tcp, text, write
from talk import Talk, encoded, hello, pieces, served, small_codec, wave
from websockets.frames import Opcode

from streamcodec.protocol import CodesReceived, Ended, PcmFormat, RoomRequest
from streamcodec.protocol.messages import Flushed, Left
from streamcodec.server import sockets

CODEC = small_codec()
SAMPLES = wave(1.0, seed=9)
CODES = encoded(CODEC, SAMPLES, 6.4)[0]
OPENING = hello("encode", bandwidth=6.4)
HELLO = '{"type":"hello","version":1,"mode":"encode","pcm":{"format":"f32le","sample_rate":8000}}'


async def finish(talk, samples):
    """The rest of SAMPLES; all of them must have come out, to the bit."""
    for piece in pieces(samples, 1):
        await talk.say(piece)
    assert await talk.flush() == CODES.shape[1]
    np.testing.assert_array_equal(talk.codes(), CODES)


def member(role, name="hall", receive="codes", **fields):
    return hello("room", room=RoomRequest(name=name, role=role, receive=receive), **fields)


# -- connections that are cut ------------------------------------------------------------------------------------------


async def cut_in_the_handshake(server):
    for data in (b"", b"GET", b"GET /v1/stream HTTP/1.1\r\nUpgrade: websocket\r\n"):
        async with tcp(server, data):
            await asyncio.sleep(0.02)


async def cut_before_hello(server):
    async with Talk(server):
        pass


async def cut_during_hello(server):
    async with Talk(server) as talk:
        await write(talk, text(HELLO)[:40])


async def cut_before_welcome(server):
    async with Talk(server) as talk:
        await write(talk, text(HELLO))


async def cut_while_encoding(server):
    async with Talk(server, OPENING) as talk:
        await talk.say(SAMPLES[:, :3000])
        await talk.cut()
        await talk.again()
        await finish(talk, SAMPLES[:, 3000:])


async def cut_in_a_packet(server):
    async with Talk(server, OPENING) as talk:
        await talk.say(SAMPLES[:, :1000])
        talk.session.send_pcm(SAMPLES[:, 1000:2000])
        (packet,) = talk.session.messages_to_send()
        await write(talk, frame(packet)[:2000])
        await talk.cut()
        await talk.again()
        await finish(talk, SAMPLES[:, 2000:])


async def cut_with_output_unacknowledged(server):
    async with Talk(server, OPENING) as talk:
        acknowledge, talk.session._acknowledge = talk.session._acknowledge, lambda: None
        await talk.say(SAMPLES[:, :4000])
        await talk.until(lambda: talk.of(CodesReceived))
        await talk.cut()
        talk.session._acknowledge = acknowledge
        await talk.again()
        await finish(talk, SAMPLES[:, 4000:])


async def cut_during_flush(server):
    async with Talk(server, OPENING) as talk:
        await talk.say(SAMPLES)
        talk.session.flush()
        await talk.send()
        await talk.cut()
        await talk.again()
        await talk.until(lambda: talk.of(Flushed))
        np.testing.assert_array_equal(talk.codes(), CODES)


async def cut_during_goodbye(server):
    async with Talk(server, OPENING) as talk:
        await talk.say(SAMPLES)
        talk.session.goodbye()
        await talk.send()


async def cut_during_resume(server):
    async with Talk(server, OPENING) as talk:
        await talk.say(SAMPLES[:, :3000])
        await talk.cut()
        request = '{"type":"resume","version":1,"token":"%s"}' % talk.session.welcome.token  # noqa: UP031
        for part in (text(request)[:20], text(request), text(request) * 2):
            async with Talk(server) as other:
                await write(other, part)
        await talk.again()
        await finish(talk, SAMPLES[:, 3000:])


async def cut_as_a_speaker(server):
    async with Talk(server, member("listener")) as listener, Talk(server, member("both")) as other:
        async with Talk(server, member("speaker", bandwidth=6.4)) as speaker:
            await speaker.say(SAMPLES[:, :3000])
            await speaker.cut()
            await speaker.again()
            await speaker.say(SAMPLES[:, 3000:])
            await speaker.flush()
            await listener.until(lambda: any(event.last for event in listener.of(CodesReceived)))
            stream = speaker.session.welcome.room.members[-1].stream
            np.testing.assert_array_equal(listener.codes(stream), CODES)
            await speaker.say(SAMPLES)
        await listener.until(lambda: listener.of(Left))
        await other.until(lambda: other.of(Left))
        assert listener.of(Left)[0].reason == "lost"


async def cut_as_a_listener(server):
    async with (
        Talk(server, member("speaker", "den", bandwidth=6.4)) as speaker,
        Talk(server, member("listener", "den")) as quick,
        Talk(server, member("listener", "den")) as gone,
        Talk(server, member("listener", "den")) as back,
    ):
        await speaker.say(SAMPLES[:, :3000])
        await gone.cut()
        await back.cut()
        await speaker.say(SAMPLES[:, 3000:])
        await back.again()
        await speaker.flush()
        for talk in (quick, back):
            await talk.until(lambda talk=talk: any(event.last for event in talk.of(CodesReceived)))
            np.testing.assert_array_equal(talk.codes(1), CODES)


CUTS = [value for name, value in globals().items() if name.startswith("cut_")]


def test_a_connection_may_break_at_any_phase():
    async def main():
        async with served({"small": CODEC}, engines=1, sessions=64, sessions_per_address=64, slots=32,
                          resume_seconds=1.5) as server:  # fmt: skip
            async with neighbours(server, CODEC):
                for cut in CUTS:
                    await asyncio.wait_for(cut(server), 60)
            await nothing_left(server)

    asyncio.run(main())


# -- what is no WebSocket, and no message ------------------------------------------------------------------------------

BAD_FRAMES = {
    "unmasked": frame(b"x", masked=False),
    "reserved opcode": b"\x83\x80" + bytes(4),
    "reserved bits": b"\xf2\x80" + bytes(4),
    "continuation of nothing": frame(b"x", Opcode.CONT),
    "new message inside another": frame(b"x", fin=False) + frame(b"x"),
    "control frame in parts": b"\x09\x80" + bytes(4),
    "control frame too long": b"\x89\xfe\x00\x7e" + bytes(4 + 126),
    "length beyond all bounds": b"\x82\xff" + b"\x7f" * 8,
    "bad UTF-8": frame(b"\xff\xfe", Opcode.TEXT),
    "bad UTF-8 in two parts": frame(b'{"a":"\xc3', Opcode.TEXT, fin=False) + frame(b'"}', Opcode.CONT),
    "bad close code": b"\x88\x82" + bytes(4) + b"\x00\x01",
    "close frame of one byte": b"\x88\x81" + bytes(4) + b"\x03",
    "a thousand and more fragments": frame(b"", fin=False) + frame(b"", Opcode.CONT, fin=False) * 1100,
    "fragments ended twice": frame(b"", fin=False) + frame(b"", Opcode.CONT, fin=False) * 50 + frame(b"", 0) * 2,
}
CLOSES = {1002, 1007, 1008, 1009}


def test_bad_frames_cost_the_connection_and_not_the_session():
    async def main():
        async with served({"small": CODEC}, resume_seconds=5.0) as server, neighbours(server, CODEC):
            for data in BAD_FRAMES.values():
                async with Talk(server, OPENING) as talk:
                    await talk.say(SAMPLES[:, :1500])
                    await write(talk, data)
                    await talk.until(lambda talk=talk: talk.closed)
                    assert talk.closed[0] in CLOSES
                    await talk.again()
                    await finish(talk, SAMPLES[:, 1500:])
                    talk.session.goodbye()
                    await talk.send()
                    await talk.until(lambda talk=talk: talk.over)

    asyncio.run(main())


def test_who_breaks_the_protocol_and_stays_is_cut_off():
    async def main():
        async with served({"small": CODEC}) as server, Talk(server, OPENING) as talk:
            request = talk.ws.request.serialize()
            async with tcp(server, request) as (reader, writer):
                await reader.readuntil(b"\r\n\r\n")
                writer.write(text(HELLO))
                await reader.readuntil(b"}}")
                writer.write(BAD_FRAMES["reserved bits"])
                async with timeout(40):  # it is told, and does not close its side; the idle time is longer
                    while len(server.connections) > 1:
                        await asyncio.sleep(0.05)

    asyncio.run(main())


def test_what_is_no_websocket_is_turned_away():
    rng = np.random.default_rng(0)
    requests = [
        rng.bytes(500),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + rng.bytes(300),  # TLS on a plain port
        b"GET /v1/stream HTTP/1.1\r\n" + b"X: " + b"y" * 20_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 2_000 + b"\r\n",
        b"GET " + b"/x" * 10_000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: 100000000000\r\n\r\n",
        b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc",
        b"OPTIONS * HTTP/1.1\r\n\r\n",
        b"GET /v1/stream HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        b"GET /../../../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET file:///etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /%00 HTTP/1.1\r\nHost: \xff\xfe\r\nOrigin: \xff\r\n\r\n",
        b"\r\n" * 10_000,
    ]

    async def main():
        async with served({"small": CODEC}, handshake_seconds=1.0) as server, neighbours(server, CODEC):
            for request in requests:
                async with tcp(server, request) as (reader, _):
                    answer = await closed(reader)
                    assert b" 200 " not in answer.split(b"\r\n")[0]
                    assert b" 101 " not in answer.split(b"\r\n")[0]
                    assert b"root:" not in answer
            async with timeout(30):
                while len(server.handshakes):
                    await asyncio.sleep(0.02)

    asyncio.run(main())


# -- a byte at a time ----------------------------------------------------------------------------------------------


def test_a_byte_at_a_time_inside_a_message():
    """Before hello it is the handshake's time that ends it, after it the idle time: bytes are no messages."""

    async def main():
        limits = {"handshake_seconds": 0.5, "idle_seconds": 1.0, "resume_seconds": 0.5}
        async with served({"small": CODEC}, **limits) as server, neighbours(server, CODEC):
            async with Talk(server) as talk:
                await drip(talk, text(HELLO), 0.1)
                await talk.until(lambda: talk.closed)
                assert talk.closed[0] == 4408
            fragments = text("x", fin=False) + frame(b"x", Opcode.CONT, fin=False) * 100
            for data in (frame(bytes(3000)), fragments):
                async with Talk(server, OPENING) as talk:
                    await drip(talk, data, 0.05)
                    await talk.until(lambda talk=talk: talk.closed)
                    assert talk.of(Ended)[0].code == "idle_timeout"
                    assert talk.closed[0] == 4410

    asyncio.run(main())


def test_slow_handshakes_do_not_keep_others_out():
    async def main():
        async with (
            served({"small": CODEC}, connections=8, handshake_seconds=30.0) as server,
            neighbours(server, CODEC),
            contextlib.AsyncExitStack() as stack,
        ):
            slow = [await stack.enter_async_context(tcp(server, b"GET /v1")) for _ in range(30)]
            async with timeout(30):
                while not all(reader.at_eof() or reader.exception() for reader, _ in slow[:22]):
                    await asyncio.sleep(0.02)
            assert len(server.handshakes) <= 8
            async with Talk(server, OPENING) as talk:  # and those who are quick come in
                await finish(talk, SAMPLES)

    asyncio.run(main())


# -- floods --------------------------------------------------------------------------------------------------------


def test_a_flood_of_pings_is_cut_off_and_can_be_resumed():
    async def main():
        async with served({"small": CODEC}) as server, neighbours(server, CODEC):
            for opcode in (Opcode.PING, Opcode.PONG):
                async with Talk(server, OPENING) as talk:
                    await talk.say(SAMPLES[:, :1500])
                    await write(talk, frame(b"x" * 100, opcode) * 2000)
                    await talk.until(lambda talk=talk: talk.closed)
                    assert talk.closed[0] == 1008
                    await talk.again()
                    await finish(talk, SAMPLES[:, 1500:])

    asyncio.run(main())


def test_a_flood_of_tiny_messages():
    async def main():
        async with served({"small": CODEC}) as server, neighbours(server, CODEC), Talk(server, OPENING) as talk:
            await write(talk, frame(b"") * 200_000)
            await talk.until(lambda: talk.closed)
            assert talk.closed[0] in (1006, 1008, 4429, 4453)

    asyncio.run(main())


class Deaf:
    """A client that asks and does not read: its socket's buffer is small, and its library never runs."""

    def __init__(self, talk):
        self.talk = talk
        talk.ws.transport.pause_reading()

    async def write(self, data, gone):
        """Until the server has cut the connection; False where it takes all of it."""
        transport = self.talk.ws.transport
        for _ in range(2_000):
            if gone():
                return True
            if transport.get_write_buffer_size() < 1_000_000:
                transport.write(data)
            await asyncio.sleep(0.005)
        return False


ENDLESS = {"messages_per_second": 1e9, "burst": 10**9, "unacknowledged_bytes": 100_000, "message_bytes": 65_536}


@pytest.mark.parametrize("kind", ["pings", "messages"])
def test_answers_that_nobody_reads_are_bounded(kind):
    """Answers have no number, and a session waits for nothing: it is the bound of what waits for the socket that ends
    this. The rates are off, so that nothing else does."""

    async def main():
        async with served({"small": CODEC}, **ENDLESS) as server, neighbours(server, CODEC) as others:
            async with Talk(server, OPENING) as talk:
                (live,) = [live for live in server.sessions if live.name == talk.session.welcome.session]
                link, most = live.link, 0
                transport = link.ws.transport

                def gone():
                    nonlocal most
                    most = max(most, transport.get_write_buffer_size() + link.waiting_bytes)
                    return live.link is None

                data = frame(b"x" * 125, Opcode.PING) if kind == "pings" else text('{"type":"statistics"}')
                assert await Deaf(talk).write(data * 500, gone)
                assert most < 2 * (100_000 + 65_536) + 2 * (32_768 + 262_144) + 500 * 700
                talk.ws.transport.abort()
            assert len(others) == 2

    asyncio.run(main())


def test_a_listener_that_acknowledges_what_it_does_not_read_is_cut_off():
    async def main():
        options = {"unacknowledged_bytes": 100_000, "message_bytes": 65_536, "resume_seconds": 0.2}
        wide = PcmFormat(format="f32le", sample_rate=48000, channels=2)
        async with (
            served({"small": CODEC}, **options) as server,
            neighbours(server, CODEC),
            Talk(server, member("speaker")) as speaker,
            Talk(server, member("listener", receive="pcm", pcm=wide)) as talk,
        ):
            (live,) = [live for live in server.sessions if live.name == talk.session.welcome.session]
            link = live.link
            talk.ws.transport.pause_reading()
            link.ws.transport.pause_reading()  # what it acknowledges is put in below, in time
            gate = asyncio.Event()  # the socket's buffers are megabytes: as if they were full
            link.ws.send = lambda message: gate.wait()
            async with timeout(60):
                while live.link is not None:
                    await speaker.say(wave(0.5))
                    await asyncio.sleep(0.05)
                    number = live.protocol._held.next - 1
                    if live.link is not None and number >= 0:
                        link._receive('{"type":"ack","sequence":%d}' % number, server.clock())  # noqa: UP031
                        assert live.lag == 0
                        assert link.waiting <= 2 * 16_384
                        assert link.waiting_bytes <= 2 * (100_000 + 65_536)
            talk.ws.transport.abort()

    asyncio.run(main())


@pytest.mark.parametrize("resume", [True, False])
def test_who_goes_while_the_server_does_not_read_is_missed(resume, monkeypatch):
    """Nothing that it sent is read, so its end is not either; and there is nothing to write."""
    monkeypatch.setattr(sockets, "PING_SECONDS", 0.5)

    async def main():
        async with served({"small": CODEC}, resume_seconds=0.2) as server:
            async with Talk(server, hello("encode", resume=resume)) as talk:
                (live,) = server.sessions
                live._credit = 0  # an engine without time
                for _ in range(300):
                    talk.session._held.keep = False  # it ignores its window
                    talk.session.send_pcm(np.zeros((1, 30_000), np.float32))
                    for message in talk.session.messages_to_send():
                        talk.ws.transport.write(frame(message))
                async with timeout(30):
                    while not live.link.ws.recv_messages.paused:
                        await asyncio.sleep(0.02)
                await asyncio.sleep(2.0)  # pings that it answers behind all that
                assert live.link is not None
                talk.ws.transport.abort()
            await nothing_left(server)

    asyncio.run(main())


# -- mistakes of the server's own --------------------------------------------------------------------------------------


def test_a_session_on_which_the_server_itself_fails_is_the_only_one_to_end():
    async def main():
        async with served({"small": CODEC}) as server, neighbours(server, CODEC):
            for fault in ("tick", "_give", "feed"):
                async with Talk(server, OPENING) as talk:
                    (live,) = [live for live in server.sessions if live.name == talk.session.welcome.session]
                    setattr(live, fault, lambda *_: 1 / 0)
                    await talk.say(SAMPLES)
                    await talk.until(lambda talk=talk: talk.over)
                    assert talk.of(Ended)[0].code == "internal"
            assert server.stream.getvalue().count("ZeroDivisionError") == 3

    asyncio.run(main())


@pytest.mark.parametrize("fault", ["log", "_close", "voice", "tick", "disconnected"])
def test_a_session_that_fails_at_its_beginning_or_at_its_end_takes_nothing_with_it(fault, monkeypatch):
    async def main():
        async with served({"small": CODEC}, resume_seconds=0.3) as server, neighbours(server, CODEC):
            before = len(server.sessions), list(server.sessions.taken["small"])
            if fault == "log":
                monkeypatch.setattr(server, "log", lambda level, event, **_: event == "opened" and 1 / 0)
            async with Talk(server, OPENING) as talk:
                if fault == "log":
                    await talk.until(lambda: talk.over)
                    assert talk.of(Ended)[0].code == "internal"
                else:
                    (live,) = [live for live in server.sessions if live.name == talk.session.welcome.session]
                    thing = {"voice": live.voice, "disconnected": live.protocol}.get(fault, live)
                    name = {"voice": "close"}.get(fault, fault)
                    monkeypatch.setattr(thing, name, lambda *_: 1 / 0)
            async with timeout(10):
                while len(server.sessions) != before[0]:
                    await asyncio.sleep(0.05)
            assert server.sessions.taken["small"] == before[1]

    asyncio.run(main())
