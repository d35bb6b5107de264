"""Slots: nobody sees another's state, input or output, and nobody is lost because of another."""

import math
from functools import partial
from itertools import product
from typing import Any, cast

import pytest
import torch
from mirror import Mirror, deliver, drain
from oracles import signal, small_codec
from test_schedules import codec_of
from torch import Tensor

from streamcodec.engine import Engine
from streamcodec.errors import (
    BandwidthError,
    EngineFullError,
    InputError,
    NonFiniteError,
    QueueFullError,
    StreamClosedError,
    StreamError,
)

KINDS = ["mirrored causal", "zeros with look-ahead", "dac odd", "attention"]


def bits(engine: Engine, slot: int) -> list[Tensor]:
    """The memory of a slot in both directions."""
    return [lane.states.bytes[slot].clone() for lane in (engine._encoders, engine._decoders)]


def same(one: list[Tensor], other: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def mirrors(engine: Engine, count: int, start: str = "exact", direction: str = "roundtrip") -> list[Mirror]:
    return [Mirror(engine, direction, engine.codec.spec.bandwidths[i % 2], start, i) for i in range(count)]


def run(engine: Engine, live: list[Mirror], hops: int) -> None:
    """Feed each as much and step until nothing is ready."""
    for mirror in live:
        mirror.feed(hops * engine.codec.spec.hop_length)
    drain(engine, live)


def end(engine: Engine, live: list[Mirror]) -> None:
    for mirror in live:
        mirror.flush()
    drain(engine, live)
    for mirror in live:
        mirror.check(1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_idle_sessions_keep_their_bits(kind):
    engine = Engine(codec_of(kind), slots=5, batch_sizes=(4,))
    live = mirrors(engine, 5)
    run(engine, live, 30)
    before = [bits(engine, slot) for slot in range(5)]
    run(engine, [live[1], live[4]], 9)
    after = [bits(engine, slot) for slot in range(5)]
    assert [same(*pair) for pair in zip(before, after, strict=True)] == [True, False, True, True, False]
    end(engine, live)


@pytest.mark.parametrize("start", ["exact", "primed"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_used_slot_starts_as_a_new_one(kind, start):
    engine, fresh = (Engine(codec_of(kind), slots=1) for _ in range(2))
    run(engine, mirrors(engine, 1, start), 40)
    engine.close(next(iter(engine._sessions)))
    first, second = mirrors(fresh, 1, start), mirrors(engine, 1, start)
    assert same(bits(engine, 0), bits(fresh, 0))
    run(engine, second, 20)
    run(fresh, first, 20)
    assert same(bits(engine, 0), bits(fresh, 0))
    assert all(torch.equal(a, b) for a, b in zip(first[0].audio, second[0].audio, strict=True))
    end(engine, second)


def test_what_was_fed_to_a_closed_session_goes_to_nobody():
    engine = Engine(codec_of("zeros"), slots=1)
    old = Mirror(engine, "roundtrip", 0.8, "exact", 1)
    old.feed(50)
    engine.close(old.session)
    new = Mirror(engine, "roundtrip", 0.8, "exact", 2)
    assert not engine.ready
    assert engine.step() == []
    run(engine, [new], 20)
    end(engine, [new])
    assert not old.audio


def hooked(monkeypatch: pytest.MonkeyPatch, network: Any, hook: Any) -> None:
    """Call `hook` with the input of every batched step of `network`, before it runs."""
    step = network.step

    def wrapped(x: Tensor, *rest: Any) -> Any:
        hook(x)
        return step(x, *rest)

    monkeypatch.setattr(network, "step", wrapped)


@pytest.mark.parametrize("kind", ["zeros", "attention"])
@pytest.mark.parametrize("direction", ["encoder", "decoder"])
def test_a_slot_that_changes_hands_during_a_step_is_its_new_owners(monkeypatch, direction, kind):
    codec = codec_of(kind)
    engine, fresh = Engine(codec, slots=3), Engine(codec, slots=3)
    mirrors(fresh, 3)
    live = mirrors(engine, 3)
    taken: list[Mirror] = []

    def change_hands(x: Tensor) -> None:
        if not taken:
            engine.close(live[1].session)
            taken.append(Mirror(engine, "roundtrip", codec.spec.bandwidths[1], "exact", 7))

    for mirror in live:
        mirror.feed(60)
    with monkeypatch.context() as patch:
        hooked(patch, getattr(codec.framing, direction), change_hands)
        deliveries = engine.step()
    assert {delivery.session for delivery in deliveries} == {live[0].session, live[2].session}
    assert taken[0].session is not live[1].session
    assert same(bits(engine, 1), bits(fresh, 1)), "the new owner's slot is untouched"
    deliver([live[0], live[2]], deliveries)
    everyone = [live[0], live[2], taken[0]]
    run(engine, everyone, 12)
    end(engine, everyone)


def test_keys_and_values_stay_where_they_are():
    """A step writes the rows of the rings that are new, and no others."""
    codec = codec_of("attention")
    engine = Engine(codec, slots=3, batch_sizes=(4,))
    for lane, whole in ((engine._encoders, codec.spec.encoder_bytes), (engine._decoders, codec.spec.decoder_bytes)):
        assert lane.nbytes == 3 * whole
    live = mirrors(engine, 3)
    run(engine, live, 9)
    before = [lane.states.leaves for lane in (engine._encoders, engine._decoders)]
    before = [{name: leaf.clone() for name, leaf in leaves.items()} for leaves in before]
    run(engine, live[1:2], 1)  # one frame: two rows of the transformers
    for lane, old in zip((engine._encoders, engine._decoders), before, strict=True):
        for name, leaf in lane.states.leaves.items():
            if lane.network.spec[name].ring:
                assert (leaf != old[name]).any(3).any(1).sum(1).tolist() == [0, 2, 0]
    end(engine, live)


def test_nobody_is_let_in_when_full():
    codec = codec_of("zeros")
    engine = Engine(codec, slots=2)
    first = engine.open("decode")
    engine.open("roundtrip")
    with pytest.raises(EngineFullError, match="all 2 decoder slots"):
        engine.open("roundtrip")
    assert engine.figures().encoder.open == 1, "the encoder slot was given back"
    assert engine.figures().refused == 1
    engine.open("encode")
    engine.close(first)
    engine.close(first)
    engine.open("decode")
    with pytest.raises(EngineFullError, match="all 2 encoder slots"):
        engine.open("encode")


@pytest.mark.parametrize("kind", ["zeros with look-ahead", "segments"])
def test_a_full_queue_says_how_much_room_there_is(kind):
    codec = codec_of(kind)
    engine = Engine(codec, slots=2, max_queue_frames=10)
    hop = codec.spec.hop_length
    mirror, decoding = Mirror(engine, "roundtrip", 0.8, "exact", 1), Mirror(engine, "decode", 0.8, "exact", 2)
    mirror.feed(7 * hop + 1)
    with pytest.raises(QueueFullError, match=f"room for {3 * hop - 1}"):
        engine.feed(mirror.session, signal(1, codec.spec.channels, 3 * hop))
    mirror.feed(3 * hop - 1)
    codes = codec.encode(signal(1, codec.spec.channels, 11 * hop), 0.8)
    with pytest.raises(QueueFullError, match="room for 10"):
        engine.feed(decoding.session, codes)
    assert engine.figures(decoding.session).queued_frames == 0
    drain(engine, [mirror, decoding])
    end(engine, [mirror, decoding])


def test_bad_calls_change_nothing():
    engine = Engine(codec_of("zeros"), slots=2)
    mirror, decoding = Mirror(engine, "roundtrip", 0.8, "exact", 1), Mirror(engine, "decode", 0.8, "exact", 1)
    run(engine, [mirror, decoding], 7)
    with pytest.raises(NonFiniteError):
        engine.feed(mirror.session, torch.full((1, 1, 5), math.nan))
    with pytest.raises(InputError):
        engine.feed(decoding.session, torch.full((1, 1, 5), 99))
    with pytest.raises(InputError):
        engine.feed(mirror.session, torch.zeros(2, 1, 5))
    with pytest.raises(BandwidthError):
        engine.set_bandwidth(mirror.session, 7.0)
    with pytest.raises(StreamError, match="decodes"):
        engine.set_bandwidth(decoding.session, 0.8)
    with pytest.raises(InputError, match="direction"):
        engine.open("sideways")
    with pytest.raises(InputError, match="start"):
        engine.open("encode", start="late")
    with pytest.raises(BandwidthError):
        engine.open("encode", bandwidth=7.0)
    run(engine, [mirror, decoding], 7)
    other = Engine(engine.codec, slots=1)
    with pytest.raises(StreamClosedError, match="another engine"):
        other.feed(mirror.session, signal(1, 1, 5))
    mirror.flush()
    for call in (lambda: engine.feed(mirror.session, signal(1, 1, 5)), lambda: engine.flush(mirror.session)):
        with pytest.raises(StreamClosedError, match="after flush"):
            call()
    drain(engine, [mirror, decoding])
    with pytest.raises(StreamClosedError, match="is over"):
        engine.flush(mirror.session)
    end(engine, [decoding])
    mirror.check(1e-9)


@pytest.mark.parametrize(
    "arguments", [{"slots": 0}, {"batch_sizes": (0,)}, {"step_frames": (1.5,)}, {"step_frames": ()}, {"threads": 0}]
)
def test_sizes_are_whole_numbers(arguments):
    with pytest.raises(InputError, match="whole number"):
        Engine(codec_of("zeros"), **arguments)
    with pytest.raises(InputError, match="at least"):
        Engine(codec_of("mirrored causal"), max_queue_frames=1)


def spoil(engine: Engine) -> None:
    """NaN in all scratch memory."""
    for lane in (engine._encoders, engine._decoders):
        for scratch in lane.scratches:
            with torch.inference_mode():
                for x in scratch.inputs.values():
                    x.fill_(math.nan)
                for size, frames in product(lane.batch_sizes, lane.step_frames):
                    work = lane.network.executor.workspace(size, frames, scratch.part)
                    copied = getattr(work, "_copy", None)
                    for memory in work.memory + ([copied.bytes.view(lane.dtype)] if copied is not None else []):
                        memory.fill_(math.nan)


@pytest.mark.parametrize("kind", ["mirrored causal", "zeros with look-ahead", "dac even"])
def test_nothing_depends_on_scratch_memory(kind):
    engine = Engine(codec_of(kind), slots=3, batch_sizes=(8,), step_frames=(1, 2))
    engine.prepare()
    live = mirrors(engine, 3, "primed")
    for part in range(8):
        for mirror in live:
            mirror.feed(7 if part % 2 else 30)
        while engine.ready:
            spoil(engine)
            deliver(live, engine.step())
    for mirror in live:
        mirror.flush()
    while engine.ready:
        spoil(engine)
        deliver(live, engine.step())
    for mirror in live:
        mirror.check(1e-9)


@pytest.mark.parametrize("kind", ["zeros", "zeros with look-ahead", "dac even"])
def test_a_step_gives_the_same_with_and_without_edges(kind, monkeypatch):
    engine = Engine(codec_of(kind), slots=3)
    live = mirrors(engine, 3)
    run(engine, live, 60)
    for lane in (engine._encoders, engine._decoders):

        def lane_edges(plans: Any, size: int) -> Any:
            return [(plan.side.stream.progress.frames, 1 << 40) for plan in plans] + [(0, 1 << 40)] * (size - 3)

        assert lane._edges([lane._plan(side, 1) for side in lane.sides], 4) is None, "past the start there are none"
        monkeypatch.setattr(lane, "_edges", lane_edges)
    run(engine, live, 10)
    monkeypatch.undo()
    end(engine, live)


def test_a_failed_batch_is_run_again_one_by_one(monkeypatch):
    codec = codec_of("zeros")
    engine = Engine(codec, slots=4)
    live = mirrors(engine, 4)

    def refuse_batches(x: Tensor) -> None:
        if x.shape[0] > 1:
            x.fill_(math.nan)  # and it leaves a mess
            raise RuntimeError("too many")

    run(engine, live, 5)
    for part in ("encoder", "decoder"):
        with monkeypatch.context() as patch:
            hooked(patch, getattr(codec.framing, part), refuse_batches)
            run(engine, live, 6)
    assert engine.figures().failed == 0
    end(engine, live)


@pytest.mark.parametrize("hops", [0, 20])  # at a start, where it is mirrored, and later
@pytest.mark.parametrize(("kind", "part"), [("zeros", "encoder"), ("zeros", "decoder"), ("mirrored causal", "encoder")])
def test_only_the_session_that_fails_is_lost(monkeypatch, kind, part, hops):
    codec = codec_of(kind)
    engine = Engine(codec, slots=4)
    live = mirrors(engine, 4)
    run(engine, live, hops)
    victim = live.pop(2)
    lane = engine._encoders if part == "encoder" else engine._decoders
    compute = type(lane)._fill

    def refuse(self: Any, plans: Any, x: Tensor) -> Tensor:
        if self is lane and any(plan.side.owner is victim.session for plan in plans):
            raise RuntimeError("this one is broken")
        return cast(Tensor, compute(self, plans, x))

    monkeypatch.setattr(type(lane), "_fill", refuse)
    for mirror in [*live, victim]:
        mirror.feed((1 if hops else max(1, codec.spec.prefill_frames)) * codec.spec.hop_length)
    deliveries = engine.step()
    failed = [delivery for delivery in deliveries if delivery.error is not None]
    assert [delivery.session for delivery in failed] == [victim.session]
    assert victim.session.closed
    assert "broken" in str(victim.session.error)
    deliver(live, [delivery for delivery in deliveries if delivery.error is None])
    assert engine.figures().failed == 1
    with pytest.raises(StreamClosedError, match="failed"):
        engine.feed(victim.session, signal(1, 1, 5))
    live.append(Mirror(engine, "roundtrip", 0.8, "exact", 5))
    run(engine, live, 10)
    end(engine, live)


def test_mirrored_starts_and_ends_share_their_steps():
    codec = codec_of("mirrored causal")
    engine = Engine(codec, slots=4, batch_sizes=(4,))
    live = mirrors(engine, 4, direction="encode")
    prefill = codec.spec.encoder_prefill
    for mirror in live:
        mirror.feed(prefill * codec.spec.hop_length)
    deliver(live, engine.step())
    assert not engine.ready
    for mirror in live:
        mirror.feed(1)
        mirror.flush()
    drain(engine, live)
    figures = engine.figures().encoder
    assert (figures.batches, figures.rows, figures.frames) == (2, 8, 4 * prefill + 4)
    for mirror in live:
        mirror.check(1e-9)


def test_a_step_inside_a_step_is_refused(monkeypatch):
    codec = codec_of("zeros")
    engine = Engine(codec, slots=1)
    live = mirrors(engine, 1)
    seen: list[str] = []

    def step_again(x: Tensor) -> None:
        for call in (engine.step, lambda: engine.save(live[0].session)):
            with pytest.raises(StreamError) as error:
                call()
            seen.append(str(error.value))

    with monkeypatch.context() as patch:
        live[0].feed(codec.spec.hop_length)
        hooked(patch, codec.framing.encoder, step_again)
        deliver(live, engine.step())
    assert len(seen) == 2
    run(engine, live, 3)
    end(engine, live)


def test_deliveries_are_the_callers_own():
    engine = Engine(codec_of("zeros"), slots=2)
    live = mirrors(engine, 2)
    expected = [frames.data.clone() for frames in (mirror.encoder.push(mirror.wav[:, :, :60]) for mirror in live)]
    pcm = [mirror.wav[:, :, :60].clone().double() for mirror in live]
    for mirror, samples in zip(live, pcm, strict=True):
        engine.feed(mirror.session, samples)
        samples.fill_(math.nan)
    got: list[list[Tensor]] = [[], []]
    while engine.ready:
        for delivery in engine.step():
            assert not delivery.audio.is_inference()
            assert not delivery.codes[0].data.is_inference()
            got[delivery.session is live[1].session].append(delivery.codes[0].data.clone())
            delivery.codes[0].data.fill_(99)
            delivery.audio.fill_(math.nan)
    assert all(torch.equal(torch.cat(parts, 2), codes) for parts, codes in zip(got, expected, strict=True))


def test_figures_count_sessions_steps_and_what_waits():
    codec = small_codec("24khz", pad_mode="constant")
    engine = Engine(codec, slots=6, batch_sizes=(1, 4), step_frames=(1,))
    live = mirrors(engine, 3)
    hop = codec.spec.hop_length
    for mirror in live:
        mirror.feed(2 * hop + 1)
    assert engine.figures().encoder.queued == 6
    assert engine.figures(live[0].session).queued_samples == 2 * hop + 1
    engine.step()
    engine.step()
    engine.step()
    figures, one = engine.figures(), engine.figures(live[0].session)
    assert (figures.sessions, figures.opened, figures.time.steps) == (3, 3, 2), "a step with nothing ready is none"
    for lane in (figures.encoder, figures.decoder):
        assert (lane.open, lane.slots, lane.batches, lane.rows, lane.padding, lane.alone) == (3, 6, 2, 6, 2, 0)
        assert lane.frames == 6
        assert lane.seconds > 0
    assert figures.encoder.nbytes == 6 * codec.spec.encoder_bytes
    assert (one.queued_samples, one.queued_frames, one.encoded_frames, one.decoded_frames) == (1, 0, 2, 2)
    assert one.time.steps == 2
    assert 0 < one.time.last <= one.time.longest <= one.time.total
    assert one.time.mean == one.time.total / 2
    engine.close(live[0].session)
    assert engine.figures(live[0].session).encoded_frames == 2


def steps(engine: Engine, live: list[Mirror], frames: list[int]) -> list[tuple[int, int, int]]:
    """Batches, rows and frames of every step until nothing waits, sessions fed as many whole frames."""
    for mirror, count in zip(live, frames, strict=True):
        if count:
            mirror.feed(count * engine.codec.spec.hop_length)
    found, before = [], engine.figures().encoder
    while engine.ready:
        deliver(live, engine.step())
        now = engine.figures().encoder
        found.append((now.batches - before.batches, now.rows - before.rows, now.frames - before.frames))
        before = now
    return found


def test_a_step_takes_what_most_sessions_have():
    codec = small_codec("24khz", pad_mode="constant")
    engine = Engine(codec, slots=16)
    live = mirrors(engine, 5)
    steps_of = partial(steps, engine, live)
    assert steps_of([1, 1, 1, 1, 1]) == [(1, 5, 5)]
    assert steps_of([4, 4, 4, 4, 4]) == [(1, 5, 20)], "what waits goes in one step"
    assert steps_of([7, 7, 7, 7, 7]) == [(1, 5, 20), (1, 5, 10), (1, 5, 5)]
    assert steps_of([1, 2, 2, 2, 4]) == [(2, 5, 9), (1, 1, 2)], "the one that has more waits for the others"
    assert steps_of([1, 1, 1, 1, 4])[0] == (1, 5, 5), "one that is late does not make a batch of its own"
    live += mirrors(engine, 8)
    assert steps_of([4] * 13) == [(1, 13, 26)] * 2, "13 times 4 are more than 48"
    end(engine, live)


@pytest.mark.parametrize(
    ("most", "expected"), [(None, [(1, 13, 104)]), (104, [(1, 13, 104)]), (103, [(1, 13, 13)] * 8)]
)
def test_long_steps_that_are_named_are_taken_however_many_sessions_there_are(most, expected):
    codec = small_codec("24khz", pad_mode="constant")
    engine = Engine(codec, slots=16, step_frames=(1, 8), frames_at_once=most)
    live = mirrors(engine, 13)
    assert steps(engine, live, [8] * 13) == expected
    end(engine, live)


def test_one_that_ends_joins_the_others_step():
    codec = small_codec("24khz", pad_mode="constant")
    engine = Engine(codec, slots=16)
    live = mirrors(engine, 5)
    steps_of = partial(steps, engine, live)
    live[0].feed(codec.spec.hop_length)
    live[0].flush()
    assert steps_of([0, 2, 2, 2, 2]) == [(1, 5, 10)], "one frame and the end, beside two of the others"
    live[1].feed(codec.spec.hop_length)
    live[1].flush()
    assert steps_of([0, 0, 4, 4, 4]) == [(2, 4, 13)], "three frames beyond the end would be most of a row"
    end(engine, live[2:])
    for mirror in live[:2]:
        mirror.check(1e-9)
