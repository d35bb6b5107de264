"""Rooms: everybody hears everything, but for those who are slow, and they are told."""

import asyncio
import json
import threading

import numpy as np
import pytest
import torch

pytest.importorskip("websockets", reason="the extra `server` is not installed")
pytest.importorskip("prometheus_client", reason="the extra `server` is not installed")

from talk import HOP, RATE, Talk, decoded, encoded, hello, pieces, served, small_codec, wave

from streamcodec.codes import Codes
from streamcodec.protocol import CodesReceived, Ended, PcmFormat, PcmReceived, RoomRequest
from streamcodec.protocol.messages import CodebooksChanged, Dropped, ErrorMessage, Joined, Left

CODEC = small_codec()


def member(role, receive="codes", name="hall", **fields):
    room = RoomRequest(
        name=name, role=role, receive=receive, send=fields.pop("send", "pcm"), member=fields.pop("called", "")
    )
    return hello("room", room=room, **fields)


def test_a_speaker_is_heard_as_codes_and_as_pcm():
    async def main():
        async with (
            served({"small": CODEC}) as server,
            Talk(server, member("listener", frames_per_packet=3)) as codes,
            Talk(server, member("listener", "pcm")) as pcm,
            Talk(
                server, member("listener", "pcm", pcm=PcmFormat(format="f32le", sample_rate=16000, channels=2))
            ) as wide,
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
                    np.testing.assert_allclose(late.audio(1), decoded(CODEC, codes)[:, 2000:], atol=1e-6)

    asyncio.run(main())


def test_who_comes_long_after_the_speaker_began_hears_what_was_said():
    """The stretch is longer than the history, of several bandwidths, and the speaker goes on while that is heard."""

    async def main():
        async with (
            served({"small": CODEC}) as server,
            Talk(server, member("speaker", send="codes", pcm=None)) as speaker,
        ):
            said = encoded(CODEC, wave(16.0), 6.4)[0].astype(np.uint16)
            packets = [said[: (8, 2)[at // 50 % 2], at : at + 50] for at in range(0, 3200, 50)]
            for packet in packets[:50]:
                speaker.session.send_codes(packet)
                await speaker.send()
            await speaker.mark("here")
            late = [await Talk(server, member("listener", "pcm")).__aenter__() for _ in range(2)]
            for packet in packets[50:]:
                speaker.session.send_codes(packet)
                await speaker.send()
            assert await speaker.flush() == 3200
            for talk in late:
                await talk.until(lambda talk=talk: any(event.last for event in talk.of(PcmReceived)))
            stream = CODEC.open_decoder(1, start="primed", bandwidth=CODEC.spec.default_bandwidth)
            parts = [stream.push(torch.from_numpy(packet.astype(np.int64))[None]) for packet in packets]
            whole = torch.cat([*parts, stream.flush()], 2)[0].float().numpy()
            for talk in late:
                place = talk.of(PcmReceived)[0].index
                assert place == 2500 * HOP
                np.testing.assert_allclose(talk.audio(1), whole[:, place:], atol=1e-5)
                await talk.cut()

    asyncio.run(main())


def test_a_codec_of_segments_is_heard_from_the_middle_of_one():
    async def main():
        codec = small_codec(use_causal_conv=False, norm_type="time_group_norm", normalize=True, chunk_length_s=0.05,
                            overlap=0.1)  # fmt: skip
        assert (codec.spec.segment_frames, codec.spec.segment_stride) == (10, 360)
        async with (
            served({"small": codec}) as server,
            Talk(server, member("speaker", send="codes", pcm=None)) as speaker,
        ):
            stream = codec.open_encoder(6.4, 1, start="primed")
            said = [stream.push(torch.from_numpy(wave(0.5))[None]), stream.flush()]
            codes = np.concatenate([piece.data[0].numpy() for piece in said], 1).astype(np.uint16)
            scale = np.concatenate([piece.scale[0].numpy() for piece in said]).astype(np.float32)
            length = sum(piece.length for piece in said)
            speaker.session.send_codes(codes[:, :34], scale=scale[:34])
            await speaker.send()
            await speaker.mark("here")
            async with Talk(server, member("listener", "pcm")) as late:
                speaker.session.send_codes(codes[:, 34:], scale=scale[34:])
                await speaker.send()
                await speaker.flush(length)
                await late.until(lambda: any(event.last for event in late.of(PcmReceived)))
                whole = codec.open_decoder(1, start="primed")
                frames = Codes(torch.from_numpy(codes.astype(np.int64))[None], torch.from_numpy(scale)[None], None)
                audio = torch.cat([whole.push(frames), whole.flush()], 2)[0, :, :length].float().numpy()
                place = late.of(PcmReceived)[0].index
                assert place == 3 * 360 + 4 * HOP
                np.testing.assert_allclose(late.audio(1)[:, : length - place], audio[:, place:], atol=1e-5)

    asyncio.run(main())


@pytest.mark.parametrize(
    ("send", "where", "hasty"), [("pcm", {"engines": 1}, False), ("codes", {}, False), ("pcm", {}, True)]
)
def test_what_was_said_before_a_goodbye_is_heard_and_then_the_speaker_has_left(send, where, hasty):
    async def main():
        options = {"pcm": None} if send == "codes" else {}
        async with (
            served({"small": CODEC}, queue_seconds=0.1, **where) as server,
            Talk(server, member("listener")) as codes,
            Talk(server, member("listener", "pcm")) as pcm,
        ):
            async with Talk(server, member("speaker", send=send, **options)) as speaker:
                samples = wave(3.0)
                expected, total = encoded(CODEC, samples)
                assert total == 24000
                for place in range(30):  # much faster than real time, and more than the engine's queue holds
                    if send == "pcm":
                        speaker.session.send_pcm(samples[:, 800 * place : 800 * place + 800])
                    else:
                        speaker.session.send_codes(expected[:, 20 * place : 20 * place + 20].astype(np.uint16))
                speaker.session.goodbye()
                await speaker.send()
                if hasty:  # as a page that is closed
                    await speaker.ws.close(1001)
                else:
                    await speaker.until(lambda: speaker.over)
                    assert [event.code for event in speaker.of(Ended)] == ["goodbye"]
                    await speaker.until(lambda: speaker.closed)
                    assert speaker.closed[0] == 1000
            for talk in (codes, pcm):
                await talk.until(lambda talk=talk: talk.of(Left))
                assert [event.reason for event in talk.of(Left)] == ["goodbye"]
                media = talk.of(CodesReceived, PcmReceived)
                assert [event.last for event in media] == [False] * (len(media) - 1) + [True]
                order = [isinstance(event, Left) for event in talk.of(CodesReceived, PcmReceived, Left)]
                assert order == [False] * len(media) + [True]
            np.testing.assert_array_equal(codes.codes(1), expected)
            np.testing.assert_allclose(pcm.audio(1), decoded(CODEC, expected), atol=1e-6)
            assert server.sessions.taken == {"small": [0, 0]}
            assert all(live.ended is None for live in server.sessions)

    asyncio.run(main())


def test_a_goodbye_after_a_flush_says_nothing_more():
    async def main():
        async with served({"small": CODEC}) as server, Talk(server, member("listener")) as listener:
            async with Talk(server, member("speaker")) as speaker:
                await speaker.say(wave(0.2))
                speaker.session.flush()
                speaker.session.goodbye()
                await speaker.send()
                await listener.until(lambda: listener.of(Left))
            assert [event.last for event in listener.of(CodesReceived)].count(True) == 1
            assert listener.codes(1).shape[1] == 40

    asyncio.run(main())


def test_a_session_that_said_goodbye_cannot_be_resumed_while_it_is_still_heard():
    async def main():
        async with served({"small": CODEC}) as server:
            step, held = server.engine.engines["small"].step, threading.Event()
            server.engine.engines["small"].step = lambda: (held.wait(), step())[1]
            async with Talk(server, member("speaker")) as speaker:
                await speaker.say(wave(0.2))
                speaker.session.goodbye()
                await speaker.send()
                await speaker.until(lambda: speaker.closed)
                token = speaker.session.welcome.token
            assert len(server.sessions) == 1
            async with Talk(server) as thief:
                await thief.ws.send(json.dumps({"type": "resume", "version": 1, "token": token}))
                await thief.until(lambda: thief.closed)
                assert thief.closed[0] == 4451
            held.set()
            while server.sessions:
                await asyncio.sleep(0.01)

    asyncio.run(asyncio.wait_for(main(), 60))


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
