"""Sessions whose codes are entropy coded: the same codes in fewer bytes, in every mode, and for clients without it."""

import asyncio

import numpy as np
from entropy_models import random_model
from talk import RATE, decoded, encoded, served, small_codec, wave

from streamcodec.client import CodesPacket, Flushed, connect

CODEC = small_codec()
MODEL = random_model(CODEC.fingerprint, codebooks=CODEC.spec.num_codebooks, size=16, most=20)
SAMPLES = wave(0.5)


def opened(server, entropy=MODEL, **options):
    return connect(
        f"127.0.0.1:{server.port}",
        sample_rate=RATE,
        pcm_format="f32le",
        frames_per_packet=5,
        entropy=entropy,
        **options,
    )


async def codes_of(session):
    parts = []
    async for event in session:
        if isinstance(event, CodesPacket):
            parts.append(event.codes)
            if event.last:
                return np.concatenate([part for part in parts if part.shape[1]], 1)
    raise AssertionError("no last packet")


async def said(session, samples=SAMPLES):
    await session.send(samples.T)
    await session.flush()


def with_model(models=None):
    return served({"small": CODEC}, models=models or {"small": MODEL})


def test_coded_codes_are_those_that_come_without():
    async def run():
        async with with_model() as server:
            for entropy in (MODEL, None, random_model(seed=3)):
                async with opened(server, entropy, mode="encode", bandwidth=6.4, start="exact") as session:
                    assert session.welcome.codec.entropy == MODEL.hash
                    assert session.welcome.entropy == (MODEL.hash if entropy is MODEL else None)
                    await said(session)
                    np.testing.assert_array_equal(
                        await codes_of(session), encoded(CODEC, SAMPLES, 6.4, start="exact")[0]
                    )

    asyncio.run(run())


def test_coded_codes_are_decoded():
    async def run():
        codes, total = encoded(CODEC, SAMPLES)
        async with with_model() as server, opened(server, mode="decode") as session:
            for start in range(0, codes.shape[1], 7):
                await session.send_codes(codes[:, start : start + 7])
            await session.flush(total)
            heard = np.concatenate([part async for part in session.pcm()])
            np.testing.assert_allclose(heard.T[:, :total], decoded(CODEC, codes, total), atol=1e-6)

    asyncio.run(run())


def test_in_a_room_each_listener_has_codes_coded_or_as_they_are():
    async def run():
        room = {"mode": "room", "room": "r", "bandwidth": 6.4}
        async with (
            with_model() as server,
            opened(server, **room, role="listener", receive="codes") as one,
            opened(server, None, **room, role="listener", receive="codes") as other,
            opened(server, **room, role="speaker", send="codes") as speaker,
        ):
            assert (one.welcome.entropy, other.welcome.entropy) == (MODEL.hash, None)
            assert speaker.welcome.entropy == MODEL.hash
            codes, total = encoded(CODEC, SAMPLES, 6.4)
            await speaker.send_codes(codes)
            await speaker.flush(total)
            heard = await asyncio.gather(codes_of(one), codes_of(other))
            for each in heard:
                np.testing.assert_array_equal(each, codes)

    asyncio.run(run())


def test_a_model_for_other_weights_is_not_offered_and_the_log_says_so():
    async def run():
        async with with_model({"small": random_model("ab", codebooks=4, size=16)}) as server:
            assert "for other weights" in server.stream.getvalue()
            async with opened(server, mode="encode") as session:
                assert session.welcome.codec.entropy is None
                await said(session)
                async for event in session:
                    if isinstance(event, Flushed):
                        break

    asyncio.run(run())
