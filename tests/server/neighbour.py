"""Sessions that run beside a fault, and must not notice it."""

import asyncio
import contextlib

import numpy as np
from deadlines import timeout
from talk import Talk, decoded, encoded, hello, wave


@contextlib.asynccontextmanager
async def neighbours(server, codec):
    """One that encodes and one that makes the round trip, at about the pace of speech, while the block runs. Then their
    output is compared with the codec's own, whole; and their connections must have held."""
    async with Talk(server, hello("encode", bandwidth=6.4)) as encoder, Talk(server, hello("roundtrip")) as tripper:
        said, stop = [], asyncio.Event()

        async def speak():
            while not stop.is_set() or not said:
                said.append(wave(0.1, seed=len(said)))
                await encoder.say(said[-1])
                await tripper.say(said[-1])
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(stop.wait(), 0.1)

        speaking = asyncio.create_task(speak())
        try:
            yield encoder, tripper
        finally:
            stop.set()
            await speaking
        samples = np.concatenate(said, axis=1)
        await encoder.flush()
        assert await tripper.flush() == samples.shape[1]
        np.testing.assert_array_equal(encoder.codes(), encoded(codec, samples, 6.4)[0])
        codes, _ = encoded(codec, samples)
        np.testing.assert_allclose(tripper.audio(), decoded(codec, codes, samples.shape[1]), atol=1e-6)
        for talk in (encoder, tripper):
            assert not talk.closed
            assert not talk.lost


async def nothing_left(server, sessions=0, seconds=30):
    """Until the server has no more than so many sessions, and then their slots, rooms and voices are given back."""
    async with timeout(seconds):
        while len(server.sessions) > sessions or len(server.connections) > sessions:
            await asyncio.sleep(0.02)
    assert len(server.sessions) == sessions
    if sessions:
        return
    assert all(taken == [0, 0] for taken in server.sessions.taken.values())
    assert len(server.rooms) == 0
    engine = server.engine
    async with timeout(seconds):
        if hasattr(engine, "engines"):
            while any(one.figures().sessions for one in engine.engines.values()) or engine._by_session:
                await asyncio.sleep(0.02)
        else:
            while any(one.voices for one in engine._engines) or engine._homes:
                await asyncio.sleep(0.02)
