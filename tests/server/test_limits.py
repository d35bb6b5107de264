"""What a stranger may cost: sessions, messages, time, memory."""

import asyncio
import contextlib
import json

import numpy as np
import pytest
from deadlines import timeout

pytest.importorskip("websockets", reason="the extra `server` is not installed")
pytest.importorskip("prometheus_client", reason="the extra `server` is not installed")

from talk import Talk, decoded, encoded, hello, pieces, served, small_codec, wave
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from streamcodec.continuing import Gaps
from streamcodec.errors import InputError
from streamcodec.packet import PcmMessage, pack
from streamcodec.protocol import CodesReceived, Ended, Lost, PcmFormat, PcmReceived
from streamcodec.protocol.messages import ErrorMessage
from streamcodec.server.config import Config

CODEC = small_codec()


def codes_of(talk):
    return [event.code for event in talk.of(ErrorMessage)]


@pytest.mark.parametrize("option", ["sessions", "sessions_per_address", "slots"])
def test_a_full_server_says_busy_and_when_to_try_again(option):
    async def main():
        async with served({"small": CODEC}, retry_seconds=7.5, **{option: 1}) as server:
            async with Talk(server, hello("roundtrip")), Talk(server, hello("encode")) as second:
                (error,) = second.of(ErrorMessage)
                assert (error.code, error.retry_after) == ("busy", 7.5)
                await second.until(lambda: second.closed)
                assert second.closed[0] == 4450
                first = next(iter(server.sessions))
                first.take(first.protocol.refuse("internal", "a test", server.clock()))
                first.link.pump()
            async with Talk(server, hello("encode")) as third:
                assert third.session.welcome

    asyncio.run(main())


def test_connections_are_bounded():
    async def main():
        async with served({"small": CODEC}, connections=2) as server, Talk(server), Talk(server):
            with pytest.raises(InvalidStatus) as refusal:
                await Talk(server).open()
            assert refusal.value.response.status_code == 503
            assert "Retry-After" in refusal.value.response.headers

    asyncio.run(main())


def test_a_connection_must_say_hello_in_time():
    async def main():
        async with served({"small": CODEC}, handshake_seconds=0.2) as server, Talk(server) as talk:
            await talk.until(lambda: talk.closed)
            assert talk.closed[0] == 4408

    asyncio.run(main())


def test_a_silent_session_ends_and_pings_keep_it():
    async def main():
        async with served({"small": CODEC}, idle_seconds=0.6) as server, Talk(server, hello("encode")) as talk:
            for number in range(5):
                await asyncio.sleep(0.2)
                talk.session.ping(str(number))
                await talk.send()
            assert not talk.over
            await talk.until(lambda: talk.over)
            assert talk.of(Ended)[0].code == "idle_timeout"

    asyncio.run(main())


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30, 9.0])
def test_bad_samples_are_refused_and_the_sound_before_them_goes_on(value):
    async def main():
        async with served({"small": CODEC}) as server, Talk(server, hello("encode", bandwidth=6.4)) as talk:
            samples = wave(0.3)
            bad = samples[:, 800:1600].copy()
            bad[0, 17] = value
            for piece in (samples[:, :800], bad, samples[:, 1600:]):
                await talk.say(piece)
            await talk.flush()
            assert codes_of(talk) == ["not_finite" if not np.isfinite(value) else "out_of_range"]
            gaps = Gaps(CODEC.spec.sample_rate, 1)
            heard = np.concatenate([gaps.push(samples[:, :800].T), gaps.gap(800), gaps.push(samples[:, 1600:].T)]).T
            np.testing.assert_array_equal(talk.codes(), encoded(CODEC, heard, 6.4)[0])

    asyncio.run(main())


def test_a_message_above_the_limit_is_refused_and_one_far_above_ends_the_connection():
    async def main():
        async with served({"small": CODEC}, message_bytes=4096) as server, Talk(server, hello("encode")) as talk:
            await talk.ws.send(pack(PcmMessage(0, 0, np.zeros((2000, 1), np.float32))))
            await talk.until(lambda: talk.of(ErrorMessage))
            assert codes_of(talk) == ["too_large"]
            assert not talk.closed
            await talk.ws.send(bytes(20_000))
            await talk.until(lambda: talk.closed)
            assert talk.closed[0] == 1009

    asyncio.run(main())


def test_a_flood_is_cut_off_and_can_be_resumed():
    async def main():
        async with (
            served({"small": CODEC}, messages_per_second=50.0, burst=60) as server,
            Talk(server, hello("encode")) as talk,
        ):
            for number in range(200):
                talk.session.ping(str(number))
            await talk.send()
            await talk.until(lambda: talk.closed)
            assert talk.closed[0] == 4429
            assert talk.of(Lost)[0].code == "too_fast"
            await asyncio.sleep(talk.of(ErrorMessage)[0].retry_after + 0.3)  # it learned to wait
            await talk.again()
            await talk.say(wave(0.1))
            await talk.flush()
            np.testing.assert_array_equal(talk.codes(), encoded(CODEC, wave(0.1))[0])

    asyncio.run(main())


def test_garbage_ends_a_session_after_so_much_of_it_and_hurts_nobody():
    async def main():
        async with (
            served({"small": CODEC}) as server,
            Talk(server, hello("encode")) as good,
            Talk(server, hello("encode")) as bad,
        ):
            rng = np.random.default_rng(0)
            with contextlib.suppress(ConnectionClosed):
                for number in range(150):
                    data = rng.bytes(int(rng.integers(0, 200)))
                    await bad.ws.send(data if number % 2 else data.decode("latin-1"))
            await bad.until(lambda: bad.closed)
            assert bad.of(Ended)[0].code == "too_many_errors"
            samples = wave(0.3)
            await good.say(samples)
            await good.flush()
            np.testing.assert_array_equal(good.codes(), encoded(CODEC, samples)[0])

    asyncio.run(main())


def test_a_byte_at_a_time_is_no_way_to_hold_a_connection():
    async def main():
        async with served({"small": CODEC}, handshake_seconds=0.5) as server:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            with contextlib.suppress(ConnectionError):
                for letter in b"GET /v1/stream HTTP/1.1\r\n":
                    writer.write(bytes([letter]))
                    await writer.drain()
                    await asyncio.sleep(0.05)
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""
            async with timeout(30):
                while not (reader.at_eof() or reader.exception()):
                    await asyncio.sleep(0.05)
            writer.close()

    asyncio.run(main())


async def stalled(server, opening, seconds):
    """A client that sends all the time and reads nothing; how many bytes it got rid of."""
    ws = await connect(
        f"ws://127.0.0.1:{server.port}/v1/stream", subprotocols=["streamcodec.v1"], compression=None, max_queue=1
    )
    talk = Talk(server)
    talk.session.hello(opening)
    await ws.send(talk.session.messages_to_send()[0])
    talk.session.receive(await ws.recv())
    samples, sent = np.zeros((1, 8000), np.float32), 0
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(ws.wait_closed)
        stack.callback(ws.transport.abort)
        with contextlib.suppress(TimeoutError, ConnectionClosed):
            async with timeout(seconds):
                while True:
                    talk.session._held.keep = False  # it ignores its window
                    talk.session.send_pcm(samples)
                    for message in talk.session.messages_to_send():
                        await ws.send(message)
                        sent += len(message)
        (live,) = server.sessions
        return sent, live


@pytest.mark.slow
@pytest.mark.parametrize("resume", [True, False])
def test_a_client_that_never_reads_is_read_no_more_and_its_memory_is_bounded(resume):
    async def main():
        async with served({"small": CODEC}, unacknowledged_bytes=200_000, message_bytes=65_536) as server:
            opening = hello("roundtrip", resume=resume, pcm=PcmFormat(format="f32le", sample_rate=8000))
            sent, live = await stalled(server, opening, 2.5)
            link, limits = live.link, server.limits
            parked = limits.unacknowledged_bytes + 2 * limits.message_bytes
            assert live.protocol.unacknowledged[1] <= 2 * limits.unacknowledged_bytes + limits.message_bytes
            if link is not None:
                assert link._parked_bytes <= parked
                assert link.waiting_bytes <= 2 * limits.unacknowledged_bytes + limits.message_bytes
            assert sum(item.nbytes for kind, item in live._inbox if kind == "pcm") <= 65_536
            assert live._sent - live._taken <= live._credit + 8000
            assert sent
            if resume:  # else what came out of the engine may be anywhere in the buffers of TCP
                most = 2 * limits.unacknowledged_bytes + limits.message_bytes
                assert live._taken * 4 <= most + 4 * live._credit

    asyncio.run(main())


def test_a_stuck_session_ends():
    async def main():
        options = {"unacknowledged_bytes": 60_000, "message_bytes": 65_536, "idle_seconds": 1.0}
        async with served({"small": CODEC}, **options) as server, Talk(server, hello("roundtrip")) as talk:
            talk.session._acknowledge = lambda: None  # it reads all and acknowledges nothing
            for _ in range(30):
                await talk.say(np.zeros((1, 2000), np.float32))
            await talk.until(lambda: talk.over)
            assert talk.of(Ended)[0].code == "too_slow"

    asyncio.run(main())


def test_a_sender_faster_than_real_time_loses_nothing():
    async def main():
        async with served({"small": CODEC}) as server, Talk(server, hello("roundtrip")) as talk:
            samples = wave(3.0)
            for piece in pieces(samples, 1, 8000):
                await talk.say(piece)
            assert await talk.flush() == samples.shape[1]
            codes, _ = encoded(CODEC, samples)
            np.testing.assert_allclose(talk.audio(), decoded(CODEC, codes, samples.shape[1]), atol=1e-6)

    asyncio.run(main())


def test_a_huge_packet_of_codes_is_decoded_as_it_is_taken():
    async def main():
        async with (
            served({"small": CODEC}, unacknowledged_bytes=60_000) as server,
            Talk(server, hello("decode")) as talk,
        ):
            codes = np.random.default_rng(0).integers(0, 16, (1, 1_500)).astype(np.uint16)
            talk.session.send_codes(codes)
            await talk.send()
            await talk.flush()
            assert talk.audio().shape[1] == 1_500 * 40

    asyncio.run(main())


def test_500_visits_leave_nothing_behind():
    async def main():
        async with served(
            {"small": CODEC}, resume_seconds=0.3, sessions=64, sessions_per_address=64, slots=64
        ) as server:
            for number in range(500):
                talk = Talk(server)
                await talk.open()
                if number % 3:
                    talk.session.hello(hello(["encode", "decode", "roundtrip"][number % 3], resume=bool(number % 2)))
                    await talk.send()
                    if number % 5 == 0:
                        await talk.until(lambda talk=talk: talk.session.welcome or talk.over)
                await talk.cut()
            async with timeout(30):
                while server.sessions or server.connections:
                    await asyncio.sleep(0.05)
            assert server.sessions.taken == {"small": [0, 0]}
            async with Talk(server, hello("encode")) as talk:  # after the engine has seen all that was posted before
                await talk.say(wave(0.1))
                await talk.flush()
                assert len(server.engine._by_session) == 0
                figures = server.engine.engines["small"].figures()
                assert figures.sessions == 0
                assert not server.engine._touched
            assert len(server.sessions) <= 1

    asyncio.run(main())


def test_the_resampling_path_stays_in_time_and_in_tune():
    async def main():
        async with (
            served({"small": CODEC}) as server,
            Talk(server, hello("roundtrip", pcm=PcmFormat(format="s16le", sample_rate=44100, channels=2))) as talk,
            Talk(server, hello("roundtrip", pcm=PcmFormat(format="s16le", sample_rate=44100, channels=2))) as other,
        ):
            delays = talk.session.welcome.delays
            assert delays.resampler_in.samples == 133  # ceil(24 * 44100 / 8000)
            assert abs(delays.resampler_in.ms - 3.0) < 0.1
            samples = wave(0.5, 2, 44100)
            for piece in pieces(samples, 1, 3000):
                await talk.say(piece)
            for piece in pieces(samples, 2, 900):
                await other.say(piece)
            length = await talk.flush()
            assert abs(length - samples.shape[1]) <= 3
            assert await other.flush() == length
            np.testing.assert_array_equal(talk.audio(), other.audio())  # however it was cut
            assert talk.audio().shape[0] == 2

    asyncio.run(main())


def test_options_that_make_no_sense_are_explained():
    for options, text in (
        ({"host": "0.0.0.0"}, "--key-file"),
        ({"sessions": 0}, "--sessions"),
        ({"port": 70000}, "--port"),
        ({"tls_key": "x"}, "--tls-certificate"),
    ):
        with pytest.raises(InputError, match=text):
            Config(**options)
    Config(host="0.0.0.0", no_key=True)


def test_the_log_tells_no_secrets_and_no_audio():
    async def main():
        async with served({"small": CODEC}) as server, Talk(server, hello("encode", key="k" * 20)) as talk:
            await talk.say(wave(0.1))
            await talk.cut()
            await talk.again()
            await talk.flush()
            token = talk.session.welcome.token
            lines = [json.loads(line) for line in server.stream.getvalue().splitlines()]
            assert {line["event"] for line in lines} >= {"listening", "ready", "opened", "lost", "resumed"}
            assert token not in server.stream.getvalue()
            assert "k" * 20 not in server.stream.getvalue()
            assert talk.of(CodesReceived)
            assert not talk.of(PcmReceived)

    asyncio.run(main())
