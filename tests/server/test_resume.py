"""A session whose connection breaks goes on to the bit."""

import asyncio

import numpy as np
import pytest

pytest.importorskip("websockets", reason="the extra `server` is not installed")
pytest.importorskip("prometheus_client", reason="the extra `server` is not installed")

from talk import Talk, hello, pieces, served, small_codec, wave

from streamcodec.protocol import CodesReceived, Ended, PcmReceived
from streamcodec.protocol.messages import ErrorMessage

CODEC = small_codec()


async def run(server, opening, samples, cuts):
    """The whole stream through one session, cut after those packets; all packets that came."""
    async with Talk(server, opening) as talk:
        for number, piece in enumerate(pieces(samples, 5)):
            talk.session.send_pcm(piece)
            if number % 4 != 3:  # a cut then loses some that were numbered and never left
                await talk.send()
            if number in cuts:
                await talk.cut()
                await asyncio.sleep(0.02 * (number % 3))
                await talk.again()
        talk.session.flush()
        if "flush" in cuts:
            await talk.send()
            await talk.cut()
            await talk.again()
        await talk.send()
        await talk.until(lambda: any(event.last for event in talk.of(CodesReceived, PcmReceived)))
        return talk.of(CodesReceived, PcmReceived)


def joined(packets):
    """The stream that packets are, each of which must follow the one before."""
    parts = [packet.codes if isinstance(packet, CodesReceived) else packet.samples for packet in packets]
    starts = np.cumsum([0, *(part.shape[1] for part in parts)])
    assert [packet.index for packet in packets] == list(starts[:-1])
    assert [packet.last for packet in packets] == [False] * (len(packets) - 1) + [True]
    return np.concatenate([part for part in parts if part.size], axis=1)


@pytest.mark.parametrize("mode", ["encode", "roundtrip"])
def test_a_resumed_session_gives_the_same_stream(mode):
    async def main():
        samples = wave(1.0)
        async with served({"small": CODEC}) as server:
            whole = await run(server, hello(mode, frames_per_packet=2), samples, ())
            for cuts in ((0,), (1, 2, 3), (6, 20), tuple(range(0, 23, 2)), ("flush",)):
                broken = await run(server, hello(mode, frames_per_packet=2), samples, cuts)
                if mode == "encode":
                    np.testing.assert_array_equal(joined(broken), joined(whole))
                else:  # a step's length changes the last bits
                    np.testing.assert_allclose(joined(broken), joined(whole), atol=1e-6)

    asyncio.run(main())


def test_what_came_while_nobody_listened_is_sent_after_the_resume():
    async def main():
        async with served({"small": CODEC}) as server, Talk(server, hello("encode")) as talk:
            await talk.say(wave(0.5))
            await talk.cut()
            await asyncio.sleep(0.3)
            (live,) = server.sessions
            assert live.protocol.unacknowledged[0] >= 100 - len(talk.of(CodesReceived))
            await talk.again()
            await talk.until(lambda: talk.of(CodesReceived) and talk.codes().shape[1] == 100)
            assert [event.index for event in talk.of(CodesReceived)] == list(range(100))

    asyncio.run(main())


def test_a_session_is_forgotten_when_nobody_resumes_it():
    async def main():
        async with served({"small": CODEC}, resume_seconds=0.2) as server, Talk(server, hello("encode")) as talk:
            await talk.say(wave(0.1))
            await talk.cut()
            while server.sessions:
                await asyncio.sleep(0.02)
            assert server.sessions.taken == {"small": [0, 0]}
            await talk.again()
            await talk.until(lambda: talk.over)
            assert talk.of(Ended)[0].code == "resume_unknown"
            await talk.until(lambda: talk.closed)
            assert talk.closed[0] == 4451

    asyncio.run(main())


def test_a_session_without_resume_ends_with_its_connection():
    async def main():
        async with served({"small": CODEC}) as server, Talk(server, hello("encode", resume=False)) as talk:
            assert talk.session.welcome.token is None
            await talk.cut()
            while server.sessions:
                await asyncio.sleep(0.02)

    asyncio.run(main())


def test_a_second_connection_replaces_the_first():
    async def main():
        async with served({"small": CODEC}) as server, Talk(server, hello("encode")) as first:
            second = Talk(server)
            second.session.hello(hello("encode"))
            second.session.messages_to_send()
            second.session.welcome, second.session._held = first.session.welcome, first.session._held
            second.session.disconnected()
            second.session.state = type(second.session.state).DETACHED
            await second.again()
            await first.until(lambda: first.closed)
            assert first.closed[0] == 4432
            second.session.ping("still here")
            await second.send()
            await second.until(lambda: any(event.type == "pong" for event in second.events if hasattr(event, "type")))
            await second.cut()

    asyncio.run(main())


def test_an_unknown_token_is_refused():
    async def main():
        async with served({"small": CODEC}) as server, Talk(server) as talk:
            await talk.ws.send('{"type":"resume","version":1,"token":"0-nobody"}')
            await talk.reader
            assert talk.closed[0] == 4451
            assert not talk.of(ErrorMessage)  # the client asked for nothing yet; what counts is the close code

    asyncio.run(main())
