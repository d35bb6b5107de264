"""Engines in processes of their own: the same results, and an end that is told."""

import asyncio
import os
import signal

import numpy as np
import pytest

pytest.importorskip("websockets", reason="the extra `server` is not installed")
pytest.importorskip("prometheus_client", reason="the extra `server` is not installed")

from talk import HOP, Talk, decoded, encoded, hello, pieces, served, small_codec, wave

from streamcodec.protocol import Ended
from streamcodec.protocol.messages import NewBandwidth

CODEC = small_codec()


def test_sessions_of_two_engines_get_what_their_streams_give():
    async def main():
        async with served({"small": CODEC}, engines=2, resume_seconds=0.5) as server:
            talks = [await Talk(server, hello(mode)).__aenter__() for mode in ("roundtrip", "encode", "encode")]
            engines = server.engine._engines
            assert [len(engine.voices) for engine in engines] == [2, 1]
            waves = [wave(0.5, seed=seed) for seed in range(3)]
            for parts in zip(*(pieces(samples, 7) for samples in waves), strict=True):
                await asyncio.gather(*(talk.say(part) for talk, part in zip(talks, parts, strict=True)))
            for talk in talks:
                await talk.flush()
            codes = [encoded(CODEC, samples)[0] for samples in waves]
            np.testing.assert_allclose(talks[0].audio(), decoded(CODEC, codes[0], 4000), atol=1e-6)
            for talk, expected in zip(talks[1:], codes[1:], strict=True):
                np.testing.assert_array_equal(talk.codes(), expected)
            talks[1].session.change_bandwidth(0.8)  # a second stream, at another bandwidth
            await talks[1].say(waves[0])
            await talks[1].flush()
            assert talks[1].of(NewBandwidth)[0].frame == 0
            np.testing.assert_array_equal(talks[1].codes()[:1, -4000 // HOP :], codes[0][:1])
            await talks[1].mark("through")
            for talk in talks:
                await talk.__aexit__(None, None, None)
            while any(engine.voices for engine in engines):  # slots are given back
                await asyncio.sleep(0.01)
            assert server.engine.cpu_seconds > 0
        assert not any(engine.process.is_alive() for engine in engines)

    asyncio.run(asyncio.wait_for(main(), 120))


def test_a_process_that_dies_ends_its_sessions_and_the_servers_readiness():
    async def main():
        async with served({"small": CODEC}, engines=1) as server, Talk(server, hello("encode")) as talk:
            await talk.say(wave(0.1))
            os.kill(server.engine._engines[0].process.pid, signal.SIGKILL)
            await talk.until(lambda: talk.over)
            assert talk.of(Ended)[0].code == "internal"
            assert not server.engine.alive
            assert not server.is_ready

    asyncio.run(asyncio.wait_for(main(), 120))
