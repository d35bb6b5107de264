"""A saved session goes on to the bit, and nothing but a saved session is taken."""

import hashlib
import json
import random
from typing import Any

import dac_models
import pytest
import torch
from oracles import signal
from safetensors.torch import load, save
from test_schedules import CODECS, codec_of

from streamcodec.codecs import Codec
from streamcodec.engine import Engine, Session
from streamcodec.errors import EngineFullError, StateError


def feed(engine: Engine, sessions: list[Session], seed: int, flush: bool = False) -> None:
    rng, codec = random.Random(seed), engine.codec
    for i, session in enumerate(sessions):
        hop = codec.spec.hop_length
        wav = signal(1, codec.spec.channels, rng.randint(8 * hop, 12 * hop), seed + i)
        if session.direction == "decode":
            engine.feed(
                session, codec.encode(wav[:, :, : 9 * hop], rng.choice(codec.spec.bandwidths)).data[:, :, :9]
            ) if codec.segments is None else None
        else:
            engine.feed(session, wav)
            engine.set_bandwidth(session, rng.choice(codec.spec.bandwidths))
        if flush:
            engine.flush(session)


def outputs(engine: Engine, sessions: list[Session], steps: int) -> list[Any]:
    """Everything delivered in as many steps, by the session's number."""
    found = []
    for _ in range(steps):
        for delivery in engine.step():
            assert delivery.error is None
            codes = [(piece.data.tolist(), piece.length) for piece in delivery.codes]
            audio = None if delivery.audio is None else delivery.audio.numpy().tobytes()
            found.append((sessions.index(delivery.session), codes, audio, delivery.done))
    return found


def opened(engine: Engine) -> list[Session]:
    return [
        engine.open(direction, start=start, codes=True)
        for direction in ("encode", "decode", "roundtrip")
        for start in ("exact", "primed")
    ]


@pytest.mark.slow
@pytest.mark.parametrize("flushed", [False, True])
@pytest.mark.parametrize("kind", CODECS)
def test_restored_sessions_go_on_to_the_bit(kind, flushed):
    """At any step, what waits in queues included."""
    codec = codec_of(kind)
    for steps in (0, 4, 9, 14):
        engine, other = (Engine(codec, slots=8, step_frames=(2,), max_queue_frames=36) for _ in range(2))
        sessions = opened(engine)
        feed(engine, sessions, 1)
        outputs(engine, sessions, steps // 2)
        feed(engine, sessions, 2, flushed)
        outputs(engine, sessions, steps - steps // 2)
        sessions = [session for session in sessions if not session.closed]
        restored = [other.restore(engine.save(session)) for session in sessions]
        assert [engine.figures(session).queued_samples for session in sessions] == [
            other.figures(session).queued_samples for session in restored
        ]
        expected = outputs(engine, sessions, 3)
        assert outputs(other, restored, 3) == expected
        if not flushed:
            for each, those in ((engine, sessions), (other, restored)):
                feed(each, those, 3, True)
        assert outputs(other, restored, 80) == outputs(engine, sessions, 80)
        assert all(session.closed for session in restored + sessions)


def saved(codec: Codec) -> tuple[Engine, bytes]:
    engine = Engine(codec, slots=2)
    session = engine.open("roundtrip", codes=True)
    feed(engine, [session], 1)
    for _ in range(5):
        engine.step()
    return engine, engine.save(session)


def test_damage_anywhere_is_seen():
    engine, blob = saved(codec_of("zeros"))
    rng = random.Random(0)
    before = engine.figures()
    damaged = [blob[: rng.randrange(len(blob))] for _ in range(40)] + [b"", blob + b"x"]
    for _ in range(150):
        place = rng.randrange(len(blob))
        damaged.append(blob[:place] + bytes([blob[place] ^ (1 << rng.randrange(8))]) + blob[place + 1 :])
    for bad in damaged:
        with pytest.raises(StateError):
            engine.restore(bad)
    with pytest.raises(StateError, match="NoneType"):
        engine.restore(None)
    assert engine.figures() == before
    engine.restore(blob)
    with pytest.raises(EngineFullError):
        engine.restore(blob)


def test_another_codecs_session_is_refused():
    _, blob = saved(codec_of("zeros"))
    with pytest.raises(StateError, match="other weights"):
        Engine(codec_of("mirrored causal")).restore(blob)


def rewritten(blob: bytes, change: Any) -> bytes:
    """With a right checksum, whatever `change` makes of the tensors and the description."""
    content = blob[:-32]
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    meta, tensors = json.loads(header["__metadata__"]["session"]), load(content)
    change(meta, tensors)
    content = save(tensors, {"session": json.dumps(meta)})
    return content + hashlib.sha256(content).digest()


def setter(*path: str, value: Any) -> Any:
    def change(meta: dict[str, Any], tensors: dict[str, Any]) -> None:
        *parents, last = path
        place = meta
        for name in parents:
            place = place[name]
        place[last] = value

    return change


def tensor(name: str, value: Any) -> Any:
    return lambda meta, tensors: tensors.update({name: value(tensors[name])})


CHANGES = {
    "direction": setter("direction", value="encode"),
    "unknown direction": setter("direction", value="up"),
    "start": setter("start", value=["exact"]),
    "bandwidth": setter("bandwidth", value=1e9),
    "version": setter("version", value=1),
    "no sides": setter("sides", value=[]),
    "side of nothing": setter("sides", "encoder", value=None),
    "received": setter("sides", "encoder", "received", value=1 << 46),
    "negative": setter("sides", "encoder", "received", value=-1),
    "frames": setter("sides", "encoder", "core", "frames", value=1 << 46),
    "skip": setter("sides", "decoder", "core", "skip", value=10**6),
    "core": setter("sides", "decoder", "core", value=7),
    "count": setter("sides", "decoder", "count", value={}),
    "bandwidths": setter("sides", "encoder", "bandwidths", value=[[0, 99.0]]),
    "bandwidths in disorder": setter("sides", "encoder", "bandwidths", value=[[5, 0.8], [2, 0.4]]),
    "no bandwidths": setter("sides", "encoder", "bandwidths", value=[]),
    "late bandwidths": setter("sides", "encoder", "bandwidths", value=[[0, 0.4], [10**9, 0.8]]),
    "audio of another type": tensor("encoder/queue", lambda queue: queue.float()),
    "more audio than counted": tensor("encoder/queue", lambda queue: torch.cat([queue, queue])),
    "too much audio": tensor("encoder/queue", lambda queue: queue.repeat(1000, 1)),
    "no audio": lambda meta, tensors: tensors.pop("encoder/queue"),
    "codes": tensor("decoder/queue", lambda queue: torch.full((1, queue.shape[1]), 16)),
    "codes with gaps": tensor("decoder/queue", lambda queue: torch.tensor([[-1, *[0] * (queue.shape[1] - 1)]])),
    "no codes in a frame": tensor("decoder/queue", lambda queue: torch.full((1, queue.shape[1]), -1)),
    "state": tensor("decoder/state.0.history", lambda state: state[:, :-1]),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_session_that_contradicts_itself_is_refused(name):
    engine, blob = saved(codec_of("zeros"))
    before = engine.figures()
    with pytest.raises(StateError):
        engine.restore(rewritten(blob, CHANGES[name]))
    assert (engine.figures().sessions, engine.figures().encoder) == (before.sessions, before.encoder)
    engine.restore(rewritten(blob, lambda meta, tensors: None))


def test_a_full_queue_that_has_ended_is_restored():
    """The zeros that complete the recording are nobody's samples, and no reason to refuse the session."""
    codec = dac_models.small_codec((7, 5))
    engine, other = Engine(codec, slots=1), Engine(codec, slots=1)
    session = engine.open("encode")
    engine.feed(session, dac_models.noise(1, engine.max_queue_frames * codec.spec.hop_length))
    engine.flush(session)
    again = other.restore(engine.save(session))
    lengths = []
    for each in (engine, other):
        lengths.append(0)
        while each.ready:
            lengths[-1] += sum(piece.length for delivery in each.step() for piece in delivery.codes)
    assert again.closed
    assert lengths == [engine.max_queue_frames * codec.spec.hop_length] * 2
