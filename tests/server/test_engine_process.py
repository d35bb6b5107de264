"""Engines in processes of their own: the same results, and an end that is told."""

import asyncio
import os
import signal
from pathlib import Path

import numpy as np
import pytest
from deadlines import timeout

pytest.importorskip("websockets", reason="the extra `server` is not installed")
pytest.importorskip("prometheus_client", reason="the extra `server` is not installed")

from talk import HOP, Talk, decoded, encoded, hello, pieces, served, small_codec, wave
from test_ends import Process

from streamcodec.codecs.encodec import EncodecCodec
from streamcodec.errors import StreamError
from streamcodec.nn.quantize import ResidualVectorQuantizer
from streamcodec.protocol import CodesReceived, Ended, PcmReceived, RoomRequest
from streamcodec.protocol.messages import ErrorMessage, NewBandwidth
from streamcodec.server import engine_process
from streamcodec.server.engine_pipe import Samples
from streamcodec.server.engine_process import Command

CODEC = small_codec()
LOUD = 100.0  # of latents: speech at full scale gives up to 15, a sample of 7.5 gives 180


class Poisoned(EncodecCodec):
    """Ends the engine that is given samples above 7, as no error of a session's own does."""

    def as_rows(self, data, batch=None):
        if abs(data).max() > 7:
            raise SystemExit("poison")
        return super().as_rows(data, batch)


class Stillborn(EncodecCodec):
    """Fails where an engine is made ready, and nowhere else."""

    def silence(self, frames, bandwidth=None):
        raise RuntimeError("no silence here")


class Choking(ResidualVectorQuantizer):
    """Fails in the middle of a step in which anybody is very loud."""

    def encode(self, latents, num_codebooks):
        if latents.numel() and latents.abs().max() > LOUD:
            raise ValueError("too loud")
        return super().encode(latents, num_codebooks)


def like(kind):
    codec = small_codec()
    codec.__class__ = kind
    return codec


def test_sessions_of_two_engines_get_what_their_streams_give():
    async def main():
        async with served({"small": CODEC}, engines=2, resume_seconds=0.5) as server:
            talks = [await Talk(server, hello(mode)).__aenter__() for mode in ("roundtrip", "encode", "encode")]
            engines = server.engine._engines
            assert [[voice.direction for voice in engine.voices.values()] for engine in engines] == [
                ["roundtrip"],
                ["encode", "encode"],
            ]
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


def test_two_callers_are_encoded_by_one_engine_and_decoded_by_the_other():
    async def main():
        call = hello("room", room=RoomRequest(name="a", role="both", receive="pcm"))
        async with (
            served({"small": CODEC}, engines=2) as server,
            Talk(server, call) as one,
            Talk(server, call) as other,
        ):
            await asyncio.gather(one.say(wave(0.5)), other.say(wave(0.5, seed=1)))
            await asyncio.gather(*(caller.until(lambda c=caller: c.of(PcmReceived)) for caller in (one, other)))
            directions = [[voice.direction for voice in engine.voices.values()] for engine in server.engine._engines]
            assert directions == [["encode", "encode"], ["decode", "decode"]]

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


def test_an_engine_that_breaks_ends_its_process_and_the_other_engine_goes_on():
    async def main():
        async with (
            served({"small": like(Poisoned)}, engines=2, resume_seconds=0.5) as server,
            Talk(server, hello("encode")) as bad,
            Talk(server, hello("roundtrip")) as good,
        ):
            samples = wave(0.5)
            await good.say(samples[:, :2000])
            await bad.say(np.full((1, 100), 7.5, np.float32))
            await bad.until(lambda: bad.over)
            assert bad.of(Ended)[0].code == "internal"
            first, second = server.engine._engines
            while first.process.is_alive():
                await asyncio.sleep(0.02)
            assert second.process.is_alive()
            assert not server.is_ready
            assert "SystemExit" in server.stream.getvalue()
            await good.say(samples[:, 2000:])
            assert await good.flush() == 4000
            np.testing.assert_allclose(good.audio(), decoded(CODEC, encoded(CODEC, samples)[0], 4000), atol=1e-6)
            async with Talk(server, hello("encode")) as late:  # whoever runs the server starts it anew
                assert late.of(ErrorMessage)[0].code == "busy"

    asyncio.run(asyncio.wait_for(main(), 120))


def test_a_step_that_fails_in_its_process_costs_the_session_at_fault_alone():
    codec = small_codec()
    codec.quantizer.__class__ = Choking

    async def main():
        async with (
            served({"small": codec}, engines=1) as server,
            Talk(server, hello("roundtrip")) as bad,
            Talk(server, hello("roundtrip")) as good,
        ):
            samples = wave(1.0)
            halves = np.split(samples, 2, axis=1)
            await good.say(halves[0])
            await asyncio.gather(good.say(halves[1]), bad.say(np.full((1, 2000), 7.5, np.float32)))
            await bad.until(lambda: bad.over)
            assert bad.of(Ended)[0].code == "internal"
            assert await good.flush() == samples.shape[1]
            codes = encoded(CODEC, samples)[0]
            np.testing.assert_allclose(good.audio(), decoded(CODEC, codes, samples.shape[1]), atol=1e-6)
            assert "ValueError: too loud" in server.stream.getvalue()
            assert server.is_ready
            async with Talk(server, hello("roundtrip")) as late:
                await late.say(samples)
                await late.flush()
                np.testing.assert_allclose(late.audio(), good.audio(), atol=1e-6)

    asyncio.run(asyncio.wait_for(main(), 120))


def test_who_speaks_in_codes_goes_on_when_the_engine_that_decodes_is_gone():
    async def main():
        async with (
            served({"small": CODEC}, engines=1) as server,
            Talk(server, hello("room", room=RoomRequest(name="a", role="speaker", send="codes"), pcm=None)) as speaker,
            Talk(server, hello("room", room=RoomRequest(name="a", role="listener", receive="pcm"))) as deaf,
            Talk(server, hello("room", room=RoomRequest(name="a", role="listener"))) as listener,
        ):
            codes = encoded(CODEC, wave(2.0))[0].astype(np.uint16)
            os.kill(server.engine._engines[0].process.pid, signal.SIGKILL)
            while server.engine.alive:
                await asyncio.sleep(0.02)
            for place in range(0, codes.shape[1], 50):
                speaker.session.send_codes(codes[:, place : place + 50])
                await speaker.send()
                await listener.until(
                    lambda n=place + 50: listener.of(CodesReceived) and listener.codes(1).shape[1] == n
                )
            await speaker.flush()
            await listener.until(lambda: any(event.last for event in listener.of(CodesReceived)))
            np.testing.assert_array_equal(listener.codes(1), codes)
            assert not deaf.over

    asyncio.run(asyncio.wait_for(main(), 120))


def test_an_engine_that_does_not_start_is_explained():
    async def main():
        with pytest.raises(StreamError, match=r"did not start.*no silence here"):
            async with served({"small": like(Stillborn)}, engines=1):
                pass

    asyncio.run(asyncio.wait_for(main(), 60))


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="children are found in /proc")
def test_engines_end_with_a_server_that_is_killed():
    async def main():
        with Process() as server:
            await server.ready()
            children = server.children()
            assert children
            server.process.kill()
            async with timeout(60):
                while any(Path(f"/proc/{child}").is_dir() for child in children):
                    await asyncio.sleep(0.1)

    asyncio.run(main())


class Script:
    """In place of the server: what it sends, turn by turn, and then its end."""

    def __init__(self, *turns):
        self._turns = [*turns, [None]]

    def receive(self, timeout):
        return self._turns.pop(0)

    def send(self, *messages):
        """Whatever the engine tells is not looked at."""


def test_an_engine_rests_between_steps_for_which_nobody_waits(monkeypatch):
    rests = []
    monkeypatch.setattr(engine_process.time, "sleep", rests.append)
    monkeypatch.setattr(engine_process, "TURN_SECONDS", 60.0)  # a step takes less
    opening = Command(1, "open", ("small", "encode", "exact", CODEC.spec.default_bandwidth, False))
    start, packet = (Samples(1, wave(1.0)[:, : frames * HOP]) for frames in (20, 2))

    def rested(*turns):
        """After a start whose frames are through."""
        script = Script([opening, start], *[[]] * 20, *turns)
        engine_process._serve(script, {"small": CODEC}, {"slots": 1, "queue_seconds": 5.0})
        return len(rests)

    first = rested()
    assert first == 1, "while frames wait it goes on"
    rests.clear()
    assert rested([packet], [packet], [packet]) == first + 3
    assert all(0 < rest <= 60 for rest in rests)
    rests.clear()
    assert rested([packet], [], [packet]) == first + 2, "not after a turn without a step"
    rests.clear()
    assert rested([packet] * 8, [], [], [], [packet]) == first + 2
