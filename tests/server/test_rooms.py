"""Rooms: everybody hears everything, but for those who are slow, and they are told."""

import asyncio

import numpy as np
import pytest

pytest.importorskip("websockets", reason="the extra `server` is not installed")
pytest.importorskip("prometheus_client", reason="the extra `server` is not installed")

from talk import HOP, RATE, Talk, decoded, encoded, hello, pieces, served, small_codec, wave

from streamcodec.protocol import CodesReceived, Pcm, PcmReceived, Room
from streamcodec.protocol.messages import CodebooksChanged, Dropped, ErrorMessage, Joined, Left

CODEC = small_codec()


def member(role, receive="codes", name="hall", **fields):
    room = Room(name=name, role=role, receive=receive, send=fields.pop("send", "pcm"), member=fields.pop("called", ""))
    return hello("room", room=room, **fields)


def test_a_speaker_is_heard_as_codes_and_as_pcm():
    async def main():
        async with (
            served({"small": CODEC}) as server,
            Talk(server, member("listener", frames_per_packet=3)) as codes,
            Talk(server, member("listener", "pcm")) as pcm,
            Talk(server, member("listener", "pcm", pcm=Pcm(format="f32le", sample_rate=16000, channels=2))) as wide,
            Talk(server, member("speaker", called="Ann")) as speaker,
        ):
            assert [event.member.member for event in codes.of(Joined)][-1] == "Ann"
            stream = speaker.session.welcome.room.members[-1].stream
            samples = wave(0.6)
            for piece in pieces(samples):
                await speaker.say(piece)
            expected, total = encoded(CODEC, samples)
            assert await speaker.flush() == expected.shape[1]
            for talk, kind in ((codes, CodesReceived), (pcm, PcmReceived), (wide, PcmReceived)):
                await talk.until(lambda talk=talk, kind=kind: any(event.last for event in talk.of(kind)))
            np.testing.assert_array_equal(codes.codes(stream), expected)
            assert codes.of(CodesReceived)[-1].length == total
            audio = decoded(CODEC, expected, total)
            np.testing.assert_allclose(pcm.audio(stream), audio, atol=1e-6)
            assert wide.audio(stream).shape == (2, 2 * total)
            assert not speaker.of(CodesReceived, PcmReceived)

    asyncio.run(main())


def test_two_who_speak_and_hear_do_not_hear_themselves():
    async def main():
        async with (
            served({"small": CODEC}) as server,
            Talk(server, member("both")) as one,
            Talk(server, member("both")) as other,
        ):
            for talk, seed in ((one, 1), (other, 2)):
                await talk.say(wave(0.2, seed=seed))
                await talk.flush()
            for talk in (one, other):
                await talk.until(lambda talk=talk: any(event.last for event in talk.of(CodesReceived)))
            streams = [talk.session.welcome.room.members[-1].stream for talk in (one, other)]
            for talk, stream, seed in ((one, streams[1], 2), (other, streams[0], 1)):
                assert {event.stream for event in talk.of(CodesReceived)} == {stream}
                np.testing.assert_array_equal(talk.codes(stream), encoded(CODEC, wave(0.2, seed=seed))[0])

    asyncio.run(main())


@pytest.mark.parametrize("receive", ["codes", "pcm"])
def test_who_comes_in_mid_course_hears_the_rest(receive):
    async def main():
        async with served({"small": CODEC}) as server, Talk(server, member("speaker")) as speaker:
            samples = wave(0.5)
            await speaker.say(samples[:, :2000])
            await speaker.mark("half")
            async with Talk(server, member("listener", receive)) as late:
                await speaker.say(samples[:, 2000:])
                await speaker.flush()
                await late.until(lambda: any(event.last for event in late.of(CodesReceived, PcmReceived)))
                first = late.of(CodesReceived, PcmReceived)[0]
                codes, _ = encoded(CODEC, samples)
                assert first.index == 2000 // (HOP if receive == "codes" else 1)
                if receive == "codes":
                    np.testing.assert_array_equal(late.codes(1), codes[:, 50:])
                else:
                    np.testing.assert_allclose(late.audio(1), decoded(CODEC, codes[:, 50:]), atol=1e-6)
            await speaker.until(lambda: speaker.of(Left) or True)

    asyncio.run(main())


def test_a_speaker_may_send_codes_and_leave_some_out():
    async def main():
        async with (
            served({"small": CODEC}) as server,
            Talk(server, member("listener")) as codes,
            Talk(server, member("listener", "pcm")) as pcm,
            Talk(server, member("speaker", send="codes", pcm=None)) as speaker,
        ):
            said, _ = encoded(CODEC, wave(0.3))
            speaker.session.send_codes(said[:, :30].astype(np.uint16))
            speaker.session.send_codes(said[:, 40:].astype(np.uint16), index=40)
            await speaker.send()
            assert await speaker.flush(2390) == 60
            await codes.until(lambda: any(event.last for event in codes.of(CodesReceived)))
            await pcm.until(lambda: any(event.last for event in pcm.of(PcmReceived)))
            heard = codes.codes(1)
            assert heard.shape[1] == 60
            np.testing.assert_array_equal(heard[:, :30], said[:, :30])
            np.testing.assert_array_equal(heard[:, 40:], said[:, 40:])
            np.testing.assert_allclose(pcm.audio(1)[:, :2390], decoded(CODEC, heard, 2390), atol=1e-6)

    asyncio.run(main())


def check_story(talk, expected):
    """Frames that came and frames that were told as dropped are the whole stream, in order; returns both counts."""
    place, came, lost, fewer = 0, 0, 0, None
    for event in talk.of(CodesReceived, Dropped, CodebooksChanged):
        if isinstance(event, CodebooksChanged):
            fewer = event.codebooks if event.codebooks < event.agreed else None
        elif isinstance(event, Dropped):
            assert (event.unit, event.index) == ("frames", place)
            place, lost = event.index + event.count, lost + event.count
        else:
            depth, count = event.codes.shape
            if count:
                assert event.reduced == (depth < len(expected))
                assert depth == (fewer or len(expected))
                np.testing.assert_array_equal(event.codes, expected[:depth, place : place + count])
            assert event.index == place
            place, came = place + count, came + count
    assert place == expected.shape[1]
    return came, lost


def test_a_slow_listener_loses_codebooks_then_frames_and_nobody_else_loses_anything():
    async def main():
        async with (
            served({"small": CODEC}, listener_lag=0.1) as server,
            Talk(server, member("listener")) as quick,
            Talk(server, member("listener")) as slow,
            Talk(server, member("speaker", bandwidth=6.4)) as speaker,
        ):
            samples = wave(4.0)
            waiting = []
            receive, slow.session.receive = slow.session.receive, lambda message: waiting.append(message) or []
            for number in range(40):
                await speaker.say(samples[:, 800 * number : 800 * number + 800])
                await speaker.mark(str(number))
                await quick.until(lambda n=number: quick.of(CodesReceived) and quick.codes(1).shape[1] == 20 * n + 20)
                if number == 20:  # it wakes up
                    slow.session.receive = receive
                    for message in waiting:
                        slow.events += receive(message)
                    await slow.send()
                    await asyncio.sleep(0.2)
            await speaker.flush()
            for talk in (quick, slow):
                await talk.until(lambda talk=talk: any(event.last for event in talk.of(CodesReceived)))
            expected, _ = encoded(CODEC, samples, 6.4)
            np.testing.assert_array_equal(quick.codes(1), expected)
            assert not quick.of(Dropped, CodebooksChanged)
            came, lost = check_story(slow, expected)
            assert lost > 100
            assert came + lost == 800
            first = slow.of(Dropped, CodebooksChanged)[0]
            assert isinstance(first, CodebooksChanged)
            assert slow.of(CodesReceived)[-2].codes.shape[0] == len(expected)

    asyncio.run(main())


def test_a_listener_that_comes_back_has_missed_nothing():
    async def main():
        async with (
            served({"small": CODEC}, listener_lag=0.1) as server,
            Talk(server, member("listener")) as listener,
            Talk(server, member("speaker")) as speaker,
        ):
            samples = wave(2.0)
            await speaker.say(samples[:, :4000])
            await speaker.mark("a")
            await listener.cut()
            await speaker.say(samples[:, 4000:12000])
            await speaker.mark("b")
            await listener.again()
            await speaker.say(samples[:, 12000:])
            await speaker.flush()
            await listener.until(lambda: any(event.last for event in listener.of(CodesReceived)))
            np.testing.assert_array_equal(listener.codes(1), encoded(CODEC, samples)[0])
            assert not listener.of(Dropped)

    asyncio.run(main())


def test_a_room_is_bounded_and_has_one_codec():
    async def main():
        codecs = {"small": CODEC, "other": small_codec(1)}
        async with (
            served(codecs, room_members=2, room_speakers=1) as server,
            Talk(server, member("speaker")),
            Talk(server, member("speaker")) as second,
            Talk(server, member("listener", codec="other")) as other,
            Talk(server, member("listener")) as third,
            Talk(server, member("listener")) as fourth,
        ):
            codes = [talk.of(ErrorMessage)[0].code if talk.over else "" for talk in (second, other, third, fourth)]
            assert codes == ["room_full", "unknown_codec", "", "room_full"]

    asyncio.run(main())


def test_the_rate_of_the_codec_is_the_rate_of_the_tests():
    assert (CODEC.spec.sample_rate, CODEC.spec.hop_length) == (RATE, HOP)
