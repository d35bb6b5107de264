"""The client against the real server: what comes equals the codec's own streams."""

import asyncio
import subprocess
import sys
import time

import numpy as np
import pytest
from talk import RATE, decoded, encoded, pieces, served, small_codec, wave
from wires import collect, sent_while_read

from streamcodec.client import (
    CodesPacket,
    Flushed,
    Joined,
    Left,
    Marker,
    NewBandwidth,
    Pcm,
    SessionError,
    connect,
)
from streamcodec.errors import CodesError, DtypeError, InputError, NonFiniteError, ShapeError

FAST = {"messages_per_second": 5000.0, "burst": 5000}
WIRE = {"sample_rate": RATE, "pcm_format": "f32le"}


def sender(samples, seed=0, most=700):
    """Sends a recording [C, N] in random pieces, then flushes."""

    async def send(session):
        for piece in pieces(samples, seed, most):
            await session.send(np.ascontiguousarray(piece.T))
        await session.flush()

    return send


@pytest.mark.parametrize("start", ["primed", "exact"])
@pytest.mark.parametrize("mode", ["encode", "roundtrip"])
def test_what_comes_equals_the_codecs_streams(mode, start):
    async def run():
        samples = wave(0.8)
        async with served(**FAST) as server, connect(f"127.0.0.1:{server.port}", mode, start=start, **WIRE) as session:
            events = await sent_while_read(session, sender(samples))
        return samples, events

    samples, events = asyncio.run(run())
    codec = small_codec()
    codes, length = encoded(codec, samples, start=start)
    sizes = [event.codes.shape[1] if mode == "encode" else len(event.samples) for event in events]
    assert [event.index for event in events] == [sum(sizes[:place]) for place in range(len(sizes))]
    if mode == "encode":
        np.testing.assert_array_equal(collect(events), codes)
        assert events[-1].length == length == samples.shape[1]
    else:
        np.testing.assert_allclose(collect(events).T, decoded(codec, codes, length, start=start), atol=1e-6)


def test_numbers_may_be_numpys_and_bandwidths_have_two_names():
    names = [
        {"num_codebooks": np.int64(2)},
        {"bandwidth": np.float32(1.6)},
        {"num_codebooks": 2},
        {"bandwidth": 1.6001},
    ]
    bad = [{}, {"bandwidth": 1.6, "num_codebooks": 4}, {"num_codebooks": 3}, {"num_codebooks": 0}, {"bandwidth": 1.61}]

    async def run():
        numbers = {"sample_rate": np.int64(RATE), "frames_per_packet": np.int16(2), "channels": np.uint8(1)}
        async with (
            served(**FAST) as server,
            connect(f"127.0.0.1:{server.port}", "encode", bandwidth=np.float32(6.4), **numbers) as session,
        ):
            facts = session.codec
            assert session.welcome.bandwidth == pytest.approx(6.4)
            for wrong in bad:
                with pytest.raises(InputError, match=r"not both|has |must be"):
                    await session.set_bandwidth(**wrong)
            for name in names:
                await session.set_bandwidth(**name)
            await session.flush()
            changes = [event async for event in until_flushed(session) if isinstance(event, NewBandwidth)]
        return facts, [change.bandwidth for change in changes]

    facts, found = asyncio.run(run())
    two = facts.bandwidths[facts.bandwidth_codebooks.index(2)]
    assert found == [two, 1.6, two, 1.6]


async def until_flushed(session):
    async for event in session:
        yield event
        if isinstance(event, Flushed):
            return


@pytest.mark.parametrize("frames", [1, 7])
def test_codes_become_the_decoders_audio(frames):
    codes = np.random.default_rng(1).integers(0, 16, (4, 150)).astype(np.int64)

    async def send(session):
        for start in range(0, 150, 13):
            await session.send_codes(codes[:, start : start + 13])
        await session.flush(150 * 40 - 5)

    async def run():
        async with (
            served(**FAST) as server,
            connect(f"ws://127.0.0.1:{server.port}", "decode", frames_per_packet=frames, **WIRE) as session,
        ):
            return await sent_while_read(session, send)

    audio = collect(asyncio.run(run())).T
    assert 150 * 40 - 5 <= audio.shape[1] <= 150 * 40  # what was sent before the flush came is not cut
    np.testing.assert_allclose(audio[:, :5_995], decoded(small_codec(), codes, 5_995), atol=1e-6)


def test_pcm_of_16_bits_keeps_its_bits_and_markers_keep_their_place():
    samples = (wave(1.0)[0] * 32767).astype(np.int16)

    async def send(session):
        await session.send(samples[:4000])
        assert await session.marker() == "m1"
        await session.set_bandwidth(0.8)
        await session.send(samples[4000:])
        await session.marker("end")
        assert (await session.statistics()).received_bytes > 0
        await session.flush()

    async def run():
        options = {"bandwidth": 6.4, "sample_rate": RATE}
        async with served(**FAST) as server, connect(f"127.0.0.1:{server.port}", "encode", **options) as session:
            events = await sent_while_read(session, send)
            events.append(await session.__anext__())
            return events

    events = asyncio.run(run())
    assert isinstance(events[-1], Flushed)
    assert events[-1].length == 200
    kinds = [(type(e), getattr(e, "id", None)) for e in events if not isinstance(e, CodesPacket)]
    assert kinds[:3] == [(Marker, "m1"), (NewBandwidth, None), (Marker, "end")]
    place = next(place for place, e in enumerate(events) if isinstance(e, Marker))
    assert sum(e.codes.shape[1] for e in events[:place]) == 100
    wide = np.concatenate([e.codes for e in events[:place]], axis=1)
    codes, _ = encoded(small_codec(), (samples / np.float32(32768))[None], 6.4)
    np.testing.assert_array_equal(wide, codes[:, :100])


def test_streams_follow_each_other_in_one_session():
    first, second = wave(0.7), wave(0.9, seed=5)

    async def run():
        async with served(**FAST) as server, connect(f"127.0.0.1:{server.port}", "encode", **WIRE) as session:
            await sender(first)(session)
            await sender(second, seed=9)(session)
            got = []
            for _ in range(2):
                packets = [packet async for packet in session.packets()]
                got.append(collect(packets))
                assert packets[0].index == 0
            return got

    got = asyncio.run(run())
    for samples, codes in zip((first, second), got, strict=True):
        np.testing.assert_array_equal(codes, encoded(small_codec(), samples)[0])


def test_pcm_gives_samples_until_the_end_of_the_stream():
    samples = wave(0.6, 2)

    async def run():
        async with (
            served(**FAST) as server,
            connect(f"127.0.0.1:{server.port}", "roundtrip", channels=2, **WIRE) as session,
        ):
            sending = asyncio.ensure_future(sender(samples)(session))
            blocks = [block async for block in session.pcm()]
            await sending
            return np.concatenate(blocks)

    audio = asyncio.run(run())
    assert audio.shape == (0.6 * RATE, 2)
    np.testing.assert_array_equal(audio[:, 0], audio[:, 1])  # the codec is mono


def test_a_room_passes_on_what_a_member_says():
    samples = wave(1.0)

    async def run():
        async with served(**FAST) as server:
            url, room = f"127.0.0.1:{server.port}", {"room": "tea", **WIRE}
            async with connect(url, "room", role="listener", receive="codes", member="ear", **room) as ear:
                async with connect(url, "room", role="speaker", member="mouth", **room) as mouth:
                    await sender(samples)(mouth)
                    events = []
                    while not (events and isinstance(events[-1], CodesPacket) and events[-1].last):
                        events.append(await ear.__anext__())
                while not isinstance(events[-1], Left):
                    events.append(await ear.__anext__())
                assert ear.welcome.room.name == "tea"
                return events

    events = asyncio.run(run())
    assert isinstance(events[0], Joined)
    assert events[0].member.member == "mouth"
    np.testing.assert_array_equal(collect(events), encoded(small_codec(), samples)[0])


def test_what_cannot_be_sent_is_refused_here_and_the_session_goes_on():
    samples = wave(0.5)

    async def run():
        async with served(**FAST) as server:
            url = f"127.0.0.1:{server.port}"
            async with connect(url, "encode", **WIRE) as session:
                for error, bad in [
                    (DtypeError, samples[0].astype(np.int32)),
                    (DtypeError, [0.0]),
                    (ShapeError, np.zeros((10, 2), np.float32)),
                    (ShapeError, np.zeros((1, 1, 10), np.float32)),
                    (NonFiniteError, np.array([0, np.nan], np.float32)),
                    (NonFiniteError, np.array([9.0], np.float32)),
                ]:
                    with pytest.raises(error):
                        await session.send(bad)
                with pytest.raises(InputError, match=r"0\.8, 1\.6, 6\.4"):
                    await session.set_bandwidth(5.0)
                codes = collect(await sent_while_read(session, sender(samples)))
                assert (await session.statistics()).refused_messages == 0
            async with connect(url, "decode", **WIRE) as session:
                for error, bad in [
                    (DtypeError, np.zeros((2, 3))),
                    (ShapeError, np.zeros(3, np.int64)),
                    (ShapeError, np.zeros((9, 3), np.int64)),
                    (CodesError, np.full((2, 3), 16)),
                    (CodesError, np.full((2, 3), -1)),
                ]:
                    with pytest.raises(error):
                        await session.send_codes(bad)
                with pytest.raises(ShapeError, match="no scale"):
                    await session.send_codes(np.zeros((2, 3), np.int64), np.ones(3, np.float32))
            with pytest.raises(SessionError, match="closed"):
                await session.send_codes(np.zeros((2, 3), np.int64))
            return codes

    np.testing.assert_array_equal(asyncio.run(run()), encoded(small_codec(), samples)[0])


def test_a_sender_waits_for_a_server_whose_output_is_not_taken():
    samples = wave(60.0)

    async def run():
        options = {**FAST, "unacknowledged_bytes": 40_000, "message_bytes": 8192}
        async with (
            served(**options) as server,
            connect(f"127.0.0.1:{server.port}", "roundtrip", queue=4, **WIRE) as session,
        ):
            sending = asyncio.ensure_future(session.send(samples[0]))
            await asyncio.sleep(1.0)
            assert not sending.done()
            assert session.unacknowledged[1] < 60_000
            sending.cancel()

    asyncio.run(run())


def test_with_a_max_delay_a_sender_does_not_wait_and_what_would_be_late_is_left_out():
    async def run():
        options = {"max_delay": 0.4, **WIRE}
        async with served(**FAST) as server, connect(f"127.0.0.1:{server.port}", "roundtrip", **options) as session:
            began = time.monotonic()
            for _ in range(100):  # 20 s at once
                await session.send(np.ascontiguousarray(wave(0.2).T))
            seconds, left_out = time.monotonic() - began, session.left_out
            await session.flush()
            events = [event async for event in session.packets()]
        assert seconds < 10  # as long as the audio lasts it would take without
        assert 0.5 < left_out / (20 * RATE) < 1
        index = 0
        for event in events:
            assert event.index >= index
            index = event.index + len(event.samples)
        assert events[-1].last
        assert index <= 20 * RATE - left_out + 100 * RATE

    asyncio.run(run())


@pytest.mark.parametrize(("value", "more"), [(0.01, {}), (99, {}), (1.0, {"reconnect": False})])
def test_a_max_delay_out_of_range_is_refused(value, more):
    with pytest.raises(InputError, match="max_delay"):
        connect("127.0.0.1:1", max_delay=value, **more)


def test_it_never_sends_faster_than_the_server_allows():
    async def send(session):
        for _ in range(260):
            await session.send(np.zeros(16, np.float32))
        await session.flush()

    async def run():
        async with (
            served(messages_per_second=400.0, burst=20) as server,
            connect(f"127.0.0.1:{server.port}", "encode", **WIRE) as session,
        ):
            began = asyncio.get_running_loop().time()
            events = await sent_while_read(session, send)
            assert session.reconnects == 0
            assert all(isinstance(event, (CodesPacket, Flushed)) for event in events)
            return asyncio.get_running_loop().time() - began

    assert asyncio.run(run()) > 0.5  # (260 - 10) / 400


@pytest.mark.parametrize("url", ["", "ftp://host", "ws://h/#f"])
def test_what_is_no_address_is_refused_before_anything_is_opened(url):
    with pytest.raises(InputError):
        connect(url)


def test_the_client_needs_no_torch():
    script = "import sys, streamcodec.client; sys.exit(bool({'torch', 'streamcodec.codecs'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", script], check=False, timeout=60).returncode == 0
    assert isinstance(Pcm(0, np.zeros((1, 1), np.float32)).samples, np.ndarray)
