"""Steps of an engine in one call of the library: the bits of single streams, and nothing is changed by one refused."""

import itertools
import random
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mirror import Mirror, deliver, drain
from oracles import signal
from sets import compiled, each_set, on, shared_among
from torch import Tensor

import streamcodec
from streamcodec import Codec
from streamcodec.engine import Engine
from streamcodec.engine.batched import BatchedLane
from streamcodec.executors import Push
from streamcodec.int16 import rounded
from streamcodec.nn.transducer import UNKNOWN, Network
from streamcodec.pcm import as_int16

pytestmark = compiled

HOP = streamcodec.load().spec.hop_length
DIRECTIONS = ("roundtrip", "encode", "decode")


@cache
def native(name: str = "") -> Codec:
    """For one instruction set."""
    return streamcodec.load(backend="native")


def in_the_middle(engine: Engine, sessions: int, frames: int = 4) -> list[Mirror]:
    """Sessions of all directions and bandwidths, past the beginning."""
    kbps = itertools.cycle(engine.codec.spec.bandwidths)
    live = [Mirror(engine, DIRECTIONS[i % 3], next(kbps), "exact", i) for i in range(sessions)]
    for mirror in live:
        mirror.feed(frames * HOP)
    drain(engine, live)
    return live


def end(engine: Engine, live: list[Mirror]) -> None:
    for mirror in live:
        mirror.flush()
    drain(engine, live)
    for mirror in live:
        mirror.check(0.0)


def states(engine: Engine) -> list[Tensor]:
    return [lane.states.bytes.clone() for lane in (engine._encoders, engine._decoders)]


@each_set
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 1 << 20))
def test_any_schedule_gives_the_bits_of_single_streams(name: str, seed: int) -> None:
    rng = random.Random(seed)
    with on(name):
        engine = Engine(native(name), slots=6, step_frames=rng.choice([(1,), (1, 2, 4)]))
        live = in_the_middle(engine, 5)
        for _ in range(20):
            for mirror in rng.sample(live, rng.randint(1, 5)):
                mirror.feed(rng.choice([HOP, HOP, 2 * HOP, 2 * HOP, 100, HOP // 2]))
                if rng.random() < 0.1:
                    mirror.change(rng.choice(engine.codec.spec.bandwidths))
            if rng.random() < 0.7:
                deliver(live, engine.step())
        end(engine, live)


@pytest.mark.parametrize("sessions", [5, 12])
def test_every_step_is_one_call(sessions: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the start of a signal to its end, and for many sessions."""
    monkeypatch.setattr(BatchedLane, "_stepped", lambda *_: pytest.fail("the general way"))
    engine = Engine(native(), slots=sessions)
    live = in_the_middle(engine, sessions)
    for frames in (1, 2, 4):
        for mirror in live:
            mirror.feed(frames * HOP)
        deliver(live, engine.step())
    for part in (100, HOP - 100):  # one frame in two pieces
        for mirror in live:
            mirror.feed(part)
        deliver(live, engine.step())
    for i, mirror in enumerate(live):  # each ends at another sample
        mirror.feed(i * HOP // sessions)
    end(engine, live)


@pytest.mark.parametrize("int16", [False, True])
def test_a_session_that_is_cut_off_falls_to_silence_in_one_call(int16: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    codec = native()
    decoder, codes = codec.open_decoder(), codec.open_encoder().push(signal(1, 1, 6 * HOP, 1))
    expected = torch.cat([decoder.push(codes), decoder.cut(HOP)], 2)
    monkeypatch.setattr(BatchedLane, "_stepped", lambda *_: pytest.fail("the general way"))
    engine = Engine(codec, slots=2)
    session, made = engine.open("decode", int16=int16), list[Tensor]()
    for begin in (lambda: engine.feed(session, codes), lambda: engine.cut(session, HOP)):
        begin()
        while engine.ready:
            made += [delivery.audio for delivery in engine.step() if delivery.audio is not None]
    assert torch.equal(torch.cat(made, 2), as_int16(expected) if int16 else expected)


@pytest.mark.parametrize("direction", ["encode", "decode"])
def test_threads_that_share_a_step_make_the_same_bits(direction: str) -> None:
    engine = Engine(native(), slots=6)
    live = [Mirror(engine, direction, 6.0, "exact", i) for i in range(6)]
    with shared_among(3):
        for _ in range(5):
            for mirror in live:
                mirror.feed(2 * HOP)
            deliver(live, engine.step())
        end(engine, live)


def test_preparing_runs_these_steps_and_leaves_sessions_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(native(), slots=5)  # a batch is of 8
    with monkeypatch.context() as patch:
        patch.setattr(Network, "step", lambda *_: pytest.fail("the general way"))
        engine.prepare()
    live = in_the_middle(engine, 3)
    before = states(engine)
    engine.prepare()
    assert all(map(torch.equal, states(engine), before))
    end(engine, live)


def test_int16_is_the_float_audio_rounded() -> None:
    engine = Engine(native(), slots=4)
    sessions = [engine.open("roundtrip", int16=kind) for kind in (False, True)]
    sessions.append(engine.restore(engine.save(sessions[1])))
    made: list[list[Tensor]] = [[] for _ in sessions]
    wav = 3 * torch.randn(1, 1, 20 * HOP, generator=torch.Generator().manual_seed(3))  # it clips
    for piece in [*wav.split(2 * HOP, 2), None]:
        for session in sessions:
            engine.flush(session) if piece is None else engine.feed(session, piece)
        while engine.ready:
            for delivery in engine.step():
                if delivery.audio is not None:
                    made[sessions.index(delivery.session)].append(delivery.audio)
    audio, *others = (torch.cat(each, 2) for each in made)
    expected = rounded(audio.numpy())
    assert audio.dtype == torch.float32
    assert np.abs(expected.astype(int)).max() == 32768
    for other in others:
        assert other.dtype == torch.int16
        assert np.array_equal(other.numpy(), expected)


def test_what_comes_out_is_the_callers_own() -> None:
    engine, other = Engine(native(), slots=2), Engine(native(), slots=2)
    live, same = in_the_middle(engine, 1), in_the_middle(other, 1)
    for _ in range(3):
        for each in (*live, *same):
            each.feed(HOP)
        (delivery,) = engine.step()
        deliver(same, other.step())
        for data in (delivery.codes[0].data, delivery.audio):
            assert not data.is_inference()
            assert data.untyped_storage().nbytes() == data.nbytes, "memory of its own"
        assert torch.equal(delivery.audio, same[0].audio[-1])
        delivery.codes[0].data.zero_()
        delivery.audio.zero_()
    end(other, same)


def test_another_thread_goes_on() -> None:
    engine = Engine(native(), slots=3)
    live = in_the_middle(engine, 3)
    with ThreadPoolExecutor(1) as pool:
        for i in range(8):
            for mirror in live:
                mirror.feed(HOP)
            deliver(live, pool.submit(engine.step).result() if i // 2 % 2 else engine.step())
    end(engine, live)


def test_new_entries_are_noticed_at_once() -> None:
    codec = streamcodec.load(backend="native")
    engine = Engine(codec, slots=2)
    (mirror, _) = in_the_middle(engine, 2)
    codec.quantizer.set_codebooks(codec.quantizer.codebooks.flip(1).clone())
    mirror.feed(HOP)  # its own stream notices too
    deliver([mirror], engine.step())
    end(engine, [mirror])


def push_of(engine: Engine, encodes: bool) -> tuple[Push, Tensor]:
    """What pushes two frames of two streams, and room for what it makes of one."""
    lane, quantizer = engine._encoders if encodes else engine._decoders, engine.codec.quantizer
    bound = quantizer.bound_search(slice(12)) if encodes else quantizer.bound_lookup()
    push = lane.network.executor.push(2, 2, lane.states, bound.run, 12)
    assert push is not None
    return push, torch.zeros(1, 12, 2, dtype=torch.int64) if encodes else torch.zeros(1, 1, 2 * HOP)


@pytest.mark.parametrize("encodes", [True, False])
def test_what_is_not_whole_frames_of_each_stream_is_refused_and_nothing_has_changed(encodes: bool) -> None:
    engine = Engine(native(), slots=3)
    live = in_the_middle(engine, 3)
    push, room = push_of(engine, encodes)
    rows = 2 * HOP if encodes else 2
    rest = (1, 1, 1) if encodes else (12, 12, 1)
    fine = torch.zeros(rows, 1) if encodes else torch.zeros(rows, 12, dtype=torch.int64)
    bad = fine.clone()
    bad[-1, -1] = torch.nan if encodes else 1024
    before = states(engine)
    rooms = [room, room.clone()]
    made = [number for each in rooms for number in (each.data_ptr(), False)]

    def at(data: Tensor, stream: int, count: int = rows) -> list[int]:
        return [data.data_ptr(), stream, count, *rest]

    refused: dict[str, tuple[list[int], list[int]]] = {
        "a bad value": (at(fine, 0) + at(bad, 1), [0, 2]),
        "too few": (at(fine, 0) + at(fine, 1, 1), [0, 2]),
        "too many": (at(fine, 0) + at(fine, 0) + at(fine, 1), [0, 2]),
        "more of one, less of another": (at(fine, 0) + at(fine, 0), [0, 2]),
        "one between two of another": (at(fine, 1, rows - 1) + at(fine, 0) + at(fine, 1, 1), [0, 2]),
        "a stream that is none": (at(fine, 0) + at(fine, 2), [0, 2]),
        "a state that is none": (at(fine, 0) + at(fine, 1), [0, 3]),
    }
    for what, (given_, streams) in refused.items():
        for edges in (None, [(4, UNKNOWN), (4, UNKNOWN)]):
            if what != "too few" or edges is None:  # at an edge the others are beyond the end
                assert not push(given_, made, streams, edges), what
                assert all(map(torch.equal, states(engine), before)), what
    assert not push(at(fine, 0) + at(fine, 1), made, [0, 2], [(4, UNKNOWN)])
    with ThreadPoolExecutor(1) as pool:
        assert not pool.submit(push, at(fine, 0) + at(fine, 1), made, [0, 2]).result()
    end(engine, live)
    assert push(at(fine, 0) + at(fine, 1), made, [0, 2])
