"""What a server refuses, as an error that says what to do."""

import asyncio

import numpy as np
import pytest
from talk import RATE, served

from streamcodec.client import Flushed, SessionError, connect

WIRE = {"sample_rate": RATE, "pcm_format": "f32le"}
KEY = "a key of sixteen".replace(" ", "_")


async def refused(url, mode="encode", **options):
    with pytest.raises(SessionError) as caught:
        async with connect(url, mode, **{**WIRE, **options}):
            pass
    return caught.value


@pytest.mark.parametrize(
    ("options", "code", "allowed"),
    [
        ({"codec": "other"}, "unknown_codec", ["small"]),
        ({"bandwidth": 5.0}, "bad_bandwidth", [0.8, 1.6, 6.4]),
        ({"sample_rate": 96_000}, "bad_rate", [8000, 48000]),
        ({"channels": 6}, "bad_channels", [1, 2]),
        ({"frames_per_packet": 0}, "bad_frames", [1, 150]),
        ({"pcm_format": "mp3"}, "bad_message", ["s16le", "f32le"]),
        ({"mode": "sing"}, "bad_message", ["encode", "decode", "roundtrip", "room"]),
        ({"mode": "room", "room": "no such name!"}, "room_name", None),
    ],
)
def test_what_the_server_does_not_offer_is_said_with_what_it_does(options, code, allowed):
    async def run():
        async with served() as server:
            return await refused(f"127.0.0.1:{server.port}", **options)

    error = asyncio.run(run())
    assert error.code == code
    assert allowed is None or error.allowed == allowed


def test_a_server_with_a_key_takes_no_other(tmp_path):
    path = tmp_path / "key"
    path.write_text(KEY)

    async def run():
        async with served(key_file=str(path)) as server:
            url = f"127.0.0.1:{server.port}"
            errors = [await refused(url), await refused(url, key="another")]
            async with connect(url, "encode", key=KEY, **WIRE) as session:
                assert session.welcome.mode == "encode"
            return errors

    for error in asyncio.run(run()):
        assert error.code == "unauthorised"
        assert KEY not in str(error)


def test_a_busy_server_is_tried_again_no_sooner_than_it_asks():
    async def run():
        loop = asyncio.get_running_loop()
        async with served(sessions=1, retry_seconds=0.7) as server:
            url = f"127.0.0.1:{server.port}"
            async with connect(url, "encode", **WIRE):
                error = await refused(url)
                assert (error.code, error.retry_after) == ("busy", 0.7)
                assert "try again in 0.7 s" in str(error)
                began = loop.time()
                assert (await refused(url, open_seconds=0.5)).code == "busy"  # would be too late: at once
                assert loop.time() - began < 0.5

                async def patient():
                    async with connect(url, "encode", open_seconds=10.0, **WIRE) as session:
                        return loop.time(), session

                waiting = asyncio.ensure_future(patient())
                await asyncio.sleep(0.3)
            opened, _ = await waiting
            assert opened - began >= 0.7

    asyncio.run(run())


def test_a_port_that_speaks_something_else_is_unreachable():
    async def answer(reader, writer):
        await reader.readline()
        writer.write(b"HTTP/1.1 503 Busy\r\nRetry-After: 7\r\nContent-Length: 4\r\n\r\nfull")
        await writer.drain()
        writer.close()

    async def run():
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        error = await refused(f"127.0.0.1:{port}")
        server.close()
        return error

    error = asyncio.run(run())
    assert error.code == "unreachable"
    assert "HTTP 503 full" in str(error)
    assert error.retry_after == 7


def test_a_session_is_entered_once_and_closed_twice():
    async def run():
        async with served() as server:
            session = connect(f"127.0.0.1:{server.port}", "encode", **WIRE)
            async with session:
                await session.send(np.zeros(0, np.float32))
                await session.flush()
                assert isinstance([event async for event in take(session, 2)][-1], Flushed)
                await session.close()
            await session.close()
            with pytest.raises(ValueError, match="once"):
                await session.__aenter__()
            assert [event async for event in session] == []

    asyncio.run(run())


async def take(session, count):
    for _ in range(count):
        yield await session.__anext__()
