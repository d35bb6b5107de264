"""Each mode gives what the codec's own streams give, whatever the packets."""

import asyncio

import numpy as np
import pytest

pytest.importorskip("websockets", reason="the extra `server` is not installed")
pytest.importorskip("prometheus_client", reason="the extra `server` is not installed")

from raw import frame, write
from talk import HOP, Talk, decoded, encoded, hello, pieces, served, small_codec, wave
from websockets.frames import Opcode

from streamcodec.protocol import CodesReceived, PcmFormat, PcmReceived
from streamcodec.protocol.messages import NewBandwidth

CODEC = small_codec()


@pytest.mark.parametrize("start", ["primed", "exact"])
@pytest.mark.parametrize("frames", [1, 3])
def test_encode_gives_the_streams_codes(start, frames):
    async def main():
        async with (
            served({"small": CODEC}) as server,
            Talk(server, hello("encode", start=start, frames_per_packet=frames, crc=True)) as talk,
        ):
            samples = wave(1.0)
            for piece in pieces(samples, frames):
                await talk.say(piece)
            length = await talk.flush()
            expected, total = encoded(CODEC, samples, start=start)
            np.testing.assert_array_equal(talk.codes(), expected)
            packets = talk.of(CodesReceived)
            assert {packet.codes.shape[1] for packet in packets[:-1]} == {frames}
            assert [packet.last for packet in packets] == [False] * (len(packets) - 1) + [True]
            assert (length, packets[-1].length) == (expected.shape[1], total)

    asyncio.run(main())


def test_messages_keep_their_order_whole_or_in_fragments_one_by_one_or_many_at_once():
    """Those before which none waits are taken as they come, and the others by the reader."""

    async def main():
        async with served({"small": CODEC}) as server, Talk(server, hello("encode", start="exact")) as talk:
            samples, rng, together = wave(1.0), np.random.default_rng(1), b""
            for piece in pieces(samples, 2, 100):
                talk.session.send_pcm(piece)
                for message in talk.session.messages_to_send():
                    kind = Opcode.TEXT if isinstance(message, str) else Opcode.BINARY
                    data, cut = message.encode() if isinstance(message, str) else message, int(rng.integers(1, 20))
                    whole = rng.random() < 0.6
                    together += (
                        frame(data, kind) if whole else frame(data[:cut], kind, fin=False) + frame(data[cut:], 0)
                    )
                if rng.random() < 0.3:
                    await write(talk, together)
                    together = b""
            await write(talk, together)
            await talk.flush()
            np.testing.assert_array_equal(talk.codes(), encoded(CODEC, samples, start="exact")[0])

    asyncio.run(main())


def test_decode_gives_the_streams_audio():
    async def main():
        async with served({"small": CODEC}) as server, Talk(server, hello("decode")) as talk:
            samples = wave(1.0)[:, :-7]
            codes, total = encoded(CODEC, samples)
            for piece in pieces(codes.astype(np.uint16), 1, 9):
                talk.session.send_codes(piece)
                await talk.send()
            length = await talk.flush(total)
            assert length == total == samples.shape[1]
            np.testing.assert_allclose(talk.audio()[:, :length], decoded(CODEC, codes, length), atol=1e-6)

    asyncio.run(main())


@pytest.mark.parametrize(
    ("asked", "rate", "told"),
    [
        (3990, 8000, 3990),
        (1003, 8000, 1003),
        (0, 8000, 0),
        (9999, 8000, 4000),
        (1001, 12000, 1502),
        (3990, 16000, 7980),
    ],
)
def test_a_length_before_what_was_sent_is_where_the_client_cuts(asked, rate, told):
    """docs/protocol.md, "The length of a decoded stream"."""

    async def main():
        pcm = PcmFormat(format="f32le", sample_rate=rate)
        async with served({"small": CODEC}) as server, Talk(server, hello("decode", pcm=pcm)) as talk:
            codes, _ = encoded(CODEC, wave(0.5))
            talk.session.send_codes(codes.astype(np.uint16))
            await talk.mark("all is out")
            before = sum(event.samples.shape[1] for event in talk.of(PcmReceived))
            assert before >= (4000 - 24) * rate // 8000  # all but what the resampler's filter holds
            assert await talk.flush(asked) == told
            assert sum(event.samples.shape[1] for event in talk.of(PcmReceived)) == max(before, told)
            last = talk.of(PcmReceived)[-1]
            assert (last.last, last.index + last.samples.shape[1]) == (True, max(before, told))
            talk.events.clear()
            talk.session.send_codes(codes[:, :10].astype(np.uint16))
            assert await talk.flush() == 400 * rate // 8000
            assert talk.of(PcmReceived)[0].index == 0

    asyncio.run(main())


@pytest.mark.parametrize("frames", [1, 4])
def test_roundtrip_gives_the_streams_audio_and_a_second_stream_starts_anew(frames):
    async def main():
        async with (
            served({"small": CODEC}) as server,
            Talk(server, hello("roundtrip", frames_per_packet=frames)) as talk,
        ):
            for seed in range(2):
                samples = wave(0.5, seed=seed)
                talk.events.clear()
                for piece in pieces(samples, seed):
                    await talk.say(piece)
                assert await talk.flush() == samples.shape[1]
                codes, _ = encoded(CODEC, samples)
                np.testing.assert_allclose(talk.audio(), decoded(CODEC, codes, samples.shape[1]), atol=1e-6)
                assert talk.of(PcmReceived)[-1].last

    asyncio.run(main())


def test_bandwidth_holds_from_the_frame_that_is_told():
    async def main():
        async with served({"small": CODEC}) as server, Talk(server, hello("encode", bandwidth=6.4)) as talk:
            samples = wave(1.0)
            stream = CODEC.open_encoder(6.4, 1, start="primed")
            expected = []
            for at, bandwidth in ((0, None), (3333, 0.8), (5000, 1.6)):
                if bandwidth is not None:
                    talk.session.change_bandwidth(bandwidth)
                    stream.bandwidth = bandwidth
                piece = samples[:, at : {0: 3333, 3333: 5000, 5000: 8000}[at]]
                await talk.say(piece)
                expected += list(stream.push(piece[None]).data[0].numpy().T)
            expected += list(stream.flush().data[0].numpy().T)
            await talk.flush()
            got = [column for event in talk.of(CodesReceived) for column in event.codes.T]
            assert [list(a) for a in got] == [list(a) for a in expected]
            assert [(e.bandwidth, e.frame) for e in talk.of(NewBandwidth)] == [(0.8, 3333 // HOP), (1.6, 125)]

    asyncio.run(main())


def test_a_marker_comes_after_all_output_of_what_came_before_it():
    async def main():
        async with served({"small": CODEC}) as server, Talk(server, hello("roundtrip")) as talk:
            await talk.say(wave(0.5))
            await talk.mark("here")
            assert talk.audio().shape[1] == 4000

    asyncio.run(main())
