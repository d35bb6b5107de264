"""What stands for frames and samples that a client left out: the last goes on and fades; time stands where it was."""

import asyncio

import numpy as np
import pytest

pytest.importorskip("websockets", reason="the extra `server` is not installed")
pytest.importorskip("prometheus_client", reason="the extra `server` is not installed")

import torch
from talk import RATE, Talk, encoded, hello, served, small_codec, wave

from streamcodec.continuing import Gaps
from streamcodec.protocol import CodesReceived, RedundancyAgreed, RoomRequest
from streamcodec.protocol.messages import Marker, Statistics
from streamcodec.server.voice import Frames, Repeats

CODEC = small_codec()
CODES = encoded(CODEC, wave(0.5))[0].astype(np.uint16)
GAP = slice(40, 55)


async def counted(talk):
    before = len(talk.of(Statistics))
    talk.session.ask_statistics()
    await talk.send()
    await talk.until(lambda: len(talk.of(Statistics)) > before)
    return talk.of(Statistics)[-1]


async def said_with_a_gap(talk):
    talk.session.send_codes(CODES[:, : GAP.start])
    talk.session.send_codes(CODES[:, GAP.stop :], index=GAP.stop)
    await talk.send()
    return await talk.flush()


def test_what_is_decoded_is_what_a_stream_conceals():
    async def main():
        async with served({"small": CODEC}) as server, Talk(server, hello("decode")) as talk:
            length = await said_with_a_gap(talk)
            stream = CODEC.open_decoder(1, start="primed", bandwidth=CODEC.spec.default_bandwidth)
            codes = torch.from_numpy(CODES.astype(np.int64))[None]
            parts = [stream.push(codes[:, :, : GAP.start]), stream.conceal(GAP.stop - GAP.start)]
            parts += [stream.push(codes[:, :, GAP.stop :]), stream.flush()]
            expected = torch.cat(parts, 2)[0].float().numpy()
            assert length == expected.shape[1]
            np.testing.assert_allclose(talk.audio(), expected, atol=1e-6)
            statistics = await counted(talk)
            assert (statistics.missing, statistics.server["concealed"]) == (15, 15)

    asyncio.run(main())


def test_samples_that_a_client_left_out_are_the_sound_before_them_going_on_and_are_counted():
    async def main():
        sound, gap = wave(0.5), slice(1600, 2800)
        async with served({"small": CODEC}) as server, Talk(server, hello("encode")) as talk:
            for part in np.split(sound[:, : gap.start], 4, 1):
                talk.session.send_pcm(part)
            talk.session.send_pcm(sound[:, gap.stop :], index=gap.stop)
            await talk.send()
            await talk.flush()
            gaps = Gaps(RATE, 1)
            heard = [gaps.push(sound[:, : gap.start].T), gaps.gap(gap.stop - gap.start)]
            assert not heard[1][round(0.07 * RATE) :].any()
            assert np.abs(heard[1][: round(0.03 * RATE)]).max() > 0.2
            expected = np.concatenate([*heard, gaps.push(sound[:, gap.stop :].T)]).T
            np.testing.assert_array_equal(talk.codes(), encoded(CODEC, expected)[0])
            statistics = await counted(talk)
            assert (statistics.missing, statistics.server["concealed"]) == (1200, gaps.concealed)
            assert 0.06 * RATE < gaps.concealed <= 0.07 * RATE

    asyncio.run(main())


def test_by_measured_loss_a_client_sends_again_what_it_left_out_and_the_server_counts_it():
    async def main():
        asked = RedundancyAgreed(frames=6, codebooks=2, measured=True)
        async with served({"small": CODEC}) as server, Talk(server, hello("decode", redundancy=asked)) as talk:
            session, index, levels = talk.session, 0, []
            for _ in range(10):  # half a second each, a fifth of it left out
                for _ in range(10):
                    session.lose(CODES[:, :2])
                    session.send_codes(CODES[:, :8], index=index + 2)
                    index += 10
                session.mark("all of it is taken")
                await talk.send()
                await talk.until(lambda: len(talk.of(Marker)) > len(levels))
                levels.append(session.measured.level)
            statistics = await counted(talk)
            assert (levels[0], levels[-1]) == (0, 3)
            assert statistics.server["again"] + statistics.missing == index // 5
            assert statistics.server["again"] > index // 10
            assert (statistics.server["redundancy_level"], statistics.server["loss"]) == (0, 0)  # of its own packets

    asyncio.run(main())


def test_listeners_of_a_room_get_the_last_frame_again_and_then_silence():
    async def main():
        room = {"name": "r", "receive": "codes"}
        listener = hello("room", pcm=None, room=RoomRequest(role="listener", **room))
        speaker = hello("room", pcm=None, room=RoomRequest(role="speaker", send="codes", **room))
        async with (
            served({"small": CODEC}) as server,
            Talk(server, listener) as hears,
            Talk(server, speaker) as says,
        ):
            await said_with_a_gap(says)
            await hears.until(lambda: any(event.last for event in hears.of(CodesReceived)))
            heard = np.concatenate([event.codes for event in hears.of(CodesReceived) if event.codes.shape[1]], 1)
            np.testing.assert_array_equal(heard[:, : GAP.start], CODES[:, : GAP.start])
            np.testing.assert_array_equal(heard[:, GAP.stop :], CODES[:, GAP.stop :])
            repeated = round(0.08 * CODEC.spec.frame_rate)
            assert (heard[:, GAP][:, :repeated] == CODES[:, GAP.start - 1 : GAP.start]).all()
            assert (await counted(says)).server["concealed"] == 15

    asyncio.run(main())


def test_repeats_end_in_silence_and_begin_anew_after_what_is_heard():
    def silence(frames, codebooks):
        return Frames(np.zeros((codebooks, frames), np.uint16))

    def taken(*counts):
        return [np.concatenate([part.codes for part in repeats.take(count, 2)], 1)[0].tolist() for count in counts]

    repeats = Repeats(3, silence)
    assert taken(2) == [[0, 0]]
    repeats.hear(Frames(np.array([[4, 5], [6, 7]], np.uint16)))
    assert taken(2, 2, 1) == [[5, 5], [5, 0], [0]]
    repeats.hear(Frames(np.array([[9], [9]], np.uint16)))
    assert taken(4) == [[9, 9, 9, 0]]
    repeats.restart()
    assert taken(1) == [[0]]
