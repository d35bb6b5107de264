"""Whole steps, which a GPU runs as CUDA graphs: from slots to slots on memory that keeps its place.

Without a GPU they run as they are; what only a graph can show is skipped.
"""

from typing import Any

import pytest
import torch
from mirror import Mirror, drain
from test_schedules import codec_of, play
from torch import Tensor

from streamcodec.engine import Engine, batched
from streamcodec.engine.graphs import Graphs, Replay

gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU; torch sees none")


@pytest.fixture
def whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps on a CPU are whole ones too."""
    monkeypatch.setattr(batched, "runs_whole", lambda device: True)


@pytest.mark.parametrize("kind", ["mirrored causal", "zeros with look-ahead", "attention", "noise"])
def test_any_schedule_of_whole_steps_equals_single_streams(whole, kind):
    torch.manual_seed(1)
    play(codec_of(kind), len(kind), 1e-9, actions=60, threads=2)


def lanes(engine: Engine) -> tuple[Any, Any]:
    return engine._encoders, engine._decoders


def bits(engine: Engine) -> list[Tensor]:
    """Of all slots but the one that is nobody's."""
    return [lane.states.bytes[:-1].clone() for lane in lanes(engine)]


def test_after_prepare_no_step_is_made_any_more_and_no_slot_has_changed(whole, monkeypatch):
    codec = codec_of("mirrored causal")
    engine = Engine(codec, slots=3, batch_sizes=(1, 2, 4), step_frames=(1, 2))
    engine.prepare()
    assert not any(part.any() for part in bits(engine))
    for lane in lanes(engine):
        assert len(lane.steps.graphs) == 3 * (2 + 2 + 1)  # sizes by lengths, at edges and not, and the first one
        monkeypatch.setattr(lane.steps.graphs, "_make", None)
    best = codec.spec.bandwidths[-1]
    live = [Mirror(engine, "roundtrip", best, "exact", i) for i in range(3)]
    for part in range(6):
        for mirror in live[part % 2 :]:
            mirror.feed(5 * codec.spec.hop_length)
        drain(engine, live)
    for mirror in live:
        mirror.flush()
    drain(engine, live)
    assert all(mirror.done for mirror in live)


def test_a_step_moves_the_slots_of_those_that_are_ready_and_no_others(whole):
    engine = Engine(codec_of("zeros"), slots=4, batch_sizes=(4,))
    live = [Mirror(engine, "roundtrip", 0.8, "exact", i) for i in range(3)]
    for mirror in live:
        mirror.feed(60)
    drain(engine, live)
    before = bits(engine)
    live[1].feed(60)
    drain(engine, live)
    for old, new in zip(before, bits(engine), strict=True):
        assert [bool((a != b).any()) for a, b in zip(old, new, strict=True)] == [False, True, False, False]


def test_a_step_that_fails_has_changed_no_slot(whole, monkeypatch):
    engine = Engine(codec_of("zeros"), slots=2)
    live = [Mirror(engine, "encode", 0.8, "exact", i) for i in range(2)]
    for mirror in live:
        mirror.feed(60)
    before = bits(engine)

    def fails(*_: Any) -> Tensor:
        raise MemoryError("no room for the codes")

    monkeypatch.setattr(lanes(engine)[0].steps, "finish", fails)
    deliveries = engine.step()
    assert len(deliveries) == 2
    assert all("no room" in str(delivery.error) for delivery in deliveries)
    assert all(torch.equal(old, new) for old, new in zip(before, bits(engine), strict=True))


def test_weights_that_change_make_other_steps(whole):
    codec = codec_of("zeros")
    engine = Engine(codec, slots=1, batch_sizes=(1,), step_frames=(1,))
    audio = torch.ones(1, 1, codec.spec.hop_length, dtype=codec.dtype)
    made = []
    for change in (None, codec.encoder, codec.quantizer, None):
        with torch.no_grad():
            for tensor in [] if change is None else [*change.parameters(), *change.buffers()]:
                tensor.mul_(1)
        session = engine.open("encode", start="primed")
        engine.feed(session, audio)
        engine.step()
        engine.close(session)
        made.append(len(lanes(engine)[0].steps.graphs))
    assert made == [1, 2, 3, 3]


class Counted:
    """A step of so many bytes, which counts how often it ran."""

    def __init__(self, nbytes: int = 1):
        self.nbytes, self.ran = nbytes, 0

    def __call__(self) -> Tensor:
        self.ran += 1
        return torch.tensor(self.ran)


def test_of_too_many_steps_those_used_last_are_kept():
    made: list[int] = []
    graphs: Graphs[int] = Graphs(lambda key: made.append(key) or Counted(key), most=3, most_bytes=100)
    for key in (1, 2, 3, 1, 4, 1, 2):
        assert graphs.get(key).nbytes == key
    assert made == [1, 2, 3, 4, 2]  # 2 was the oldest when 4 came
    assert (len(graphs), graphs.nbytes) == (3, 7)
    graphs.get(99)
    assert (len(graphs), graphs.nbytes) == (1, 99)  # 99 and 2 are too much
    graphs.get(500)
    assert (len(graphs), graphs.nbytes) == (1, 500), "a step that is too large by itself runs all the same"


@pytest.mark.skipif(torch.cuda.is_available(), reason="here is a GPU, which captures any step")
def test_a_step_that_cannot_be_captured_runs_as_it_is_and_that_is_told():
    step = Counted()
    with pytest.warns(RuntimeWarning, match="a step runs without a CUDA graph"):
        replay = Replay(step)
    before = step.ran
    assert int(replay()) == before + 1


@pytest.mark.gpu
@gpu
@pytest.mark.parametrize("backend", ["torch", "triton"])
@pytest.mark.parametrize("kind", ["mirrored causal", "attention", "noise", "dac odd"])
def test_graphs_give_what_single_streams_give(kind, backend):
    codec = codec_of(kind).float().to("cuda").on(backend)
    engine = Engine(codec, slots=4, step_frames=(1, 2))
    engine.prepare()
    for lane in lanes(engine):
        steps = list(lane.steps.graphs._kept.values())
        assert all(isinstance(step, Replay) and step._graph is not None for step in steps)
    generator = torch.Generator().manual_seed(0)
    codes = torch.randint(codec.spec.codebook_size, (3, codec.spec.num_codebooks, 30), generator=generator).cuda()
    live = [(engine.open("decode", start="primed"), codec.open_decoder(start="primed")) for _ in codes]
    heard: dict[Any, list[Tensor]] = {session: [] for session, _ in live}
    expected: list[list[Tensor]] = [[] for _ in live]
    for start in range(0, 30, 3):
        for (session, stream), parts, each in zip(live, expected, codes[:, None, :, start : start + 3], strict=True):
            engine.feed(session, each)
            parts.append(stream.push(each))
        while engine.ready:
            for delivery in engine.step():
                heard[delivery.session] += [] if delivery.audio is None else [delivery.audio]
    for parts, whole_stream in zip(heard.values(), expected, strict=True):
        torch.testing.assert_close(torch.cat(parts, 2), torch.cat(whole_stream, 2), rtol=0, atol=1e-4)
