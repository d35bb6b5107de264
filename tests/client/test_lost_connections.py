"""Connections that break: the session goes on to the bit, or says why it cannot."""

import asyncio
import contextlib
import socket

import numpy as np
import pytest
from talk import RATE, encoded, pieces, served, small_codec, wave
from wires import Proxy, collect, random_cuts, sent_while_read

from streamcodec.client import Lost, Marker, Renewed, Resumed, SessionError, connect

FAST = {"messages_per_second": 5000.0, "burst": 5000}
WIRE = {"sample_rate": RATE, "pcm_format": "f32le"}


async def rest(session, *kinds):
    """All that comes until the session's error, which passes; only events of these kinds may come."""
    async for event in session:
        assert isinstance(event, kinds)


def paced(samples, seed=0, pause=0.002):
    """Sends a recording in random pieces with pauses, markers between them, then flushes."""

    async def send(session):
        for number, piece in enumerate(pieces(samples, seed, 300)):
            await session.send(piece[0])
            if number % 8 == 0:
                await session.marker(f"at {number}")
            await asyncio.sleep(pause)
        await session.flush()

    return send


async def through(server, budget, samples, seed, mode="encode", **options):
    """The events of a session whose connections break as `budget` says, and how many did."""
    options = {"crc": True, "open_seconds": 10.0, **WIRE, **options}  # the welcome may be cut, too
    async with Proxy(server.port, budget) as proxy, connect(proxy.url, mode, **options) as session:
        events = await sent_while_read(session, paced(samples, seed))
        return events, proxy.cuts, session.reconnects


@pytest.mark.parametrize("seed", range(3))
def test_cut_at_random_places_it_gives_the_same_to_the_bit(seed):
    samples = wave(1.2, seed=seed)

    async def run():
        async with served(**FAST) as server:
            return await through(server, random_cuts(seed), samples, seed)

    events, cuts, reconnects = asyncio.run(run())
    assert cuts >= 2
    assert 1 <= reconnects <= cuts  # a connection may break before the answer to the resume
    np.testing.assert_array_equal(collect(events), encoded(small_codec(), samples)[0])
    # What comes out is numbered without a gap, and every marker came once, in order.
    markers = [event.id for event in events if isinstance(event, Marker)]
    sent = [f"at {n}" for n, _ in enumerate(pieces(samples, seed, 300)) if n % 8 == 0]
    assert markers == sent
    assert sum(isinstance(event, Resumed) for event in events) == reconnects


def test_audio_through_broken_connections_has_the_bits_of_an_unbroken_one():
    samples = wave(1.0, seed=9)

    async def run():
        async with served(**FAST) as server:
            whole, none, _ = await through(server, lambda: None, samples, 1, "roundtrip")
            broken, cuts, _ = await through(server, random_cuts(5, 2000, 12_000), samples, 1, "roundtrip")
            assert not none
            assert cuts >= 2
            return collect(whole), collect(broken)

    np.testing.assert_array_equal(*asyncio.run(run()))


def test_what_is_sent_without_a_connection_waits_and_then_goes():
    samples = wave(1.0)

    async def run():
        async with (
            served(**FAST) as server,
            Proxy(server.port) as proxy,
            connect(proxy.url, "encode", **WIRE) as session,
        ):
            await session.send(samples[0, :3000])
            proxy.open = False
            proxy.cut()
            event = await session.__anext__()
            while not isinstance(event, Lost):
                event = await session.__anext__()
            assert not session.connected
            await session.send(samples[0, 3000:])
            await session.flush()
            assert session.unacknowledged[0] > 1
            await asyncio.sleep(0.2)
            proxy.open = True
            packets = [packet async for packet in session.packets()]
            return packets, session.reconnects

    packets, reconnects = asyncio.run(run())
    assert reconnects == 1
    last = packets[-1]
    assert last.index + last.codes.shape[1] == 200
    whole = encoded(small_codec(), samples)[0]
    for packet in packets:
        place = slice(packet.index, packet.index + packet.codes.shape[1])
        np.testing.assert_array_equal(packet.codes, whole[:, place])


def test_a_server_that_is_gone_for_good_is_an_error_after_the_time_it_keeps_a_session():
    async def run():
        async with (
            served(resume_seconds=1.0) as server,
            Proxy(server.port) as proxy,
            connect(proxy.url, "encode", **WIRE) as session,
        ):
            loop = asyncio.get_running_loop()
            proxy.open = False
            proxy.cut()
            began = loop.time()
            with pytest.raises(SessionError, match=r"no connection for 1 s .*the session is lost") as caught:
                await rest(session, Lost)
            assert caught.value.code == "resume_timeout"
            assert 0.9 < loop.time() - began < 3
            with pytest.raises(SessionError, match="the session is lost"):
                await session.send(np.zeros(4, np.float32))
            with pytest.raises(SessionError, match="the session is lost"):
                await session.statistics()

    asyncio.run(run())


@pytest.mark.parametrize("renew", [False, True])
def test_a_server_that_forgot_the_session(renew):
    """Another server at the same address has no such token."""

    async def run():
        async with (
            served() as first,
            served() as second,
            Proxy(first.port) as proxy,
            connect(proxy.url, "encode", renew=renew, **WIRE) as session,
        ):
            name = session.welcome.session
            proxy.target = second.port
            proxy.cut()
            if not renew:
                with pytest.raises(SessionError, match="no session has this token") as caught:
                    await rest(session, Lost)
                assert caught.value.code == "resume_unknown"
                return
            events = [await session.__anext__(), await session.__anext__()]
            assert isinstance(events[0], Lost)
            assert isinstance(events[1], Renewed)
            assert events[1].code == "resume_unknown"
            assert session.welcome.session != name
            samples = wave(0.5)
            codes = collect(await sent_while_read(session, paced(samples)))
            np.testing.assert_array_equal(codes, encoded(small_codec(), samples)[0])

    asyncio.run(run())


def test_without_resume_a_lost_connection_ends_the_session():
    async def run():
        async with (
            served() as server,
            Proxy(server.port) as proxy,
            connect(proxy.url, "encode", reconnect=False, **WIRE) as session,
        ):
            assert session.welcome.token is None
            proxy.cut()
            with pytest.raises(SessionError, match="the connection was lost"):
                await session.__anext__()

    asyncio.run(run())


def test_who_takes_a_session_over_has_it():
    async def run():
        async with served() as server:
            url = f"127.0.0.1:{server.port}"
            async with connect(url, "encode", **WIRE) as session, connect(url, "encode", **WIRE) as thief:
                thief._protocol.welcome = session.welcome  # its token
                thief._connection._socket.transport.abort()
                with pytest.raises(SessionError, match="another connection"):
                    await rest(session, Lost)
                assert session.reconnects == 0

    asyncio.run(run())


def test_a_server_that_shuts_down_says_so():
    async def run():
        samples = wave(0.5)
        async with (
            served(retry_seconds=3.0) as server,
            connect(f"127.0.0.1:{server.port}", "encode", **WIRE) as session,
        ):
            await session.send(samples[0])
            await session.statistics()  # the answer: the server has the samples
            stopping = asyncio.ensure_future(server.stop())
            packets = [packet async for packet in session.packets()]
            with pytest.raises(SessionError) as caught:
                await rest(session)
            await stopping
            assert caught.value.code == "server_shutdown"
            assert caught.value.retry_after == 3.0
            return samples, packets

    samples, packets = asyncio.run(run())
    np.testing.assert_array_equal(collect(packets), encoded(small_codec(), samples)[0])  # nothing on its way was lost


def test_a_connection_that_only_just_opens_is_tried_again():
    """The port listens later: with open_seconds that is waited for."""
    with contextlib.closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    async def run():
        with pytest.raises(SessionError, match="cannot be reached") as caught:
            async with connect(f"127.0.0.1:{port}", "encode", **WIRE):
                pass
        assert caught.value.code == "unreachable"

        async def enter():
            async with connect(f"127.0.0.1:{port}", "encode", open_seconds=20.0, **WIRE) as session:
                return session.welcome.mode

        entering = asyncio.ensure_future(enter())
        await asyncio.sleep(0.3)
        async with served(port=port):
            assert await entering == "encode"

    asyncio.run(run())
