"""Batched equals single: any schedule of calls over many sessions gives each what its own streams give."""

import random
from typing import Any

import dac_models
import mimi_models
import pytest
import qwen_tts_models
import snac_models
import spectral_models
import torch
from mirror import Mirror, deliver, drain, frames_of
from oracles import small_codec

from streamcodec.codecs import Codec
from streamcodec.engine import Engine

CODECS: dict[str, Any] = {
    "mirrored causal": lambda: small_codec("24khz"),
    "mirrored with look-ahead": lambda: small_codec("32khz"),
    "zeros": lambda: small_codec("24khz", pad_mode="constant"),
    "zeros with look-ahead": lambda: small_codec("24khz", pad_mode="constant", use_causal_conv=False),
    "replicated": lambda: small_codec("24khz", pad_mode="replicate", trim_right_ratio=0.4),
    "two channels": lambda: small_codec("24khz", upsampling_ratios=(5,), kernel_size=3, audio_channels=2),
    "segments": lambda: small_codec("48khz"),
    "dac even": lambda: dac_models.small_codec((2, 4)),
    "dac odd": lambda: dac_models.small_codec((2, 3)),
    "spectral": spectral_models.small_codec,
    "attention": mimi_models.small_codec,
    "entries of the decoder's own": qwen_tts_models.small_codec,
    "noise": snac_models.small_codec,
    "windows of attention": lambda: snac_models.small_codec(**snac_models.ATTENTION),
}


def codec_of(kind: str) -> Codec:
    return CODECS[kind]()


def play(codec: Codec, seed: int, tolerance: float, actions: int = 150, threads: int = 1) -> None:
    """A random schedule, each session held to its mirror."""
    rng = random.Random(seed)
    slots = rng.randint(2, 6)
    sizes = rng.choice([(1, 2, 4, 8), (3,), (6,), (1,)])
    frames = rng.choice([(1,), (2,), (3,), (1, 2, 4), (2, 3), (1, 5)])
    engine = Engine(codec, slots=slots, batch_sizes=sizes, step_frames=frames, threads=threads)
    room = engine.max_queue_frames * codec.spec.hop_length
    live: list[Mirror] = []
    for _ in range(actions):
        action = rng.random()
        if action < 0.15 and len(live) < slots:
            direction = rng.choice(["encode", "decode", "roundtrip", "roundtrip"])
            bandwidth, start = rng.choice(codec.spec.bandwidths), rng.choice(["exact", "primed"])
            live.append(Mirror(engine, direction, bandwidth, start, rng.randint(0, 99)))
        elif live and action < 0.6:
            mirror = rng.choice(live)
            hop = codec.spec.hop_length
            samples = rng.choice([rng.randint(0, 3), rng.randint(0, 2 * hop), rng.randint(0, 20 * hop)])
            figures = engine.figures(mirror.session)
            waiting = figures.queued_samples + (figures.queued_frames + 40) * hop
            if not mirror.session.ended and waiting + samples <= room and mirror.place + samples <= mirror.wav.shape[2]:
                mirror.feed(samples)
        elif live and action < 0.68:
            mirror = rng.choice(live)
            if not mirror.session.ended:
                mirror.change(rng.choice(codec.spec.bandwidths))
        elif live and action < 0.74:
            mirror = rng.choice(live)
            if not mirror.session.ended:
                mirror.flush()
        elif live and action < 0.76:
            mirror = live.pop(rng.randrange(len(live)))
            engine.close(mirror.session)
        else:
            deliver(live, engine.step())
        for mirror in [mirror for mirror in live if mirror.done]:
            mirror.check(tolerance)
            live.remove(mirror)
    for mirror in live:
        if not mirror.session.ended:
            mirror.flush()
    drain(engine, live)
    for mirror in live:
        mirror.check(tolerance)
    assert engine.figures().sessions == engine.figures().encoder.open == engine.figures().decoder.open == 0


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kind", CODECS)
def test_any_schedule_equals_single_streams(kind, seed):
    torch.manual_seed(seed)
    play(codec_of(kind), 1000 * seed + len(kind), 1e-9)


@pytest.mark.slow
def test_threads_share_a_step():
    for seed in range(3):
        play(codec_of("zeros with look-ahead"), seed, 1e-9, threads=2)


def test_float32_decodes_to_rounding():
    codec = small_codec("24khz", torch.float32)
    engine = Engine(codec, slots=6)
    live = [Mirror(engine, "decode", bandwidth, "primed", i) for i, bandwidth in enumerate(codec.spec.bandwidths * 2)]
    for part in range(10):
        for i, mirror in enumerate(live):
            mirror.feed(31 + 7 * i + part)
        drain(engine, live)
    for mirror in live:
        mirror.flush()
    drain(engine, live)
    for mirror in live:
        mirror.check(1e-5)


def test_a_change_of_bandwidth_does_not_depend_on_when_steps_run():
    codec = codec_of("zeros with look-ahead")
    given = []
    for eager in (False, True):
        engine = Engine(codec, slots=1)
        mirror = Mirror(engine, "roundtrip", codec.spec.bandwidths[0], "exact", 3)
        for i in range(9):
            mirror.feed(23)
            mirror.change(codec.spec.bandwidths[i % 3])
            if eager:
                drain(engine, [mirror])
        mirror.flush()
        drain(engine, [mirror])
        mirror.check(1e-9)
        given.append(frames_of(mirror.codes))
    assert given[0] == given[1]
    assert {len(frame) for frame in given[0]} == {codec.spec.codebooks(value) for value in codec.spec.bandwidths}


def test_codes_that_end_before_their_last_frame_are_decoded_piece_by_piece():
    """DAC's decoder may need a frame in which nothing of the recording is: it is told apart from one too many."""
    codec = dac_models.small_codec((7, 5))
    hop = codec.spec.hop_length
    short = hop - codec.framing.decoder.output_length(1)
    assert short == 8
    for samples in (1, 5 * hop - short, 5 * hop - 3, 5 * hop, 6 * hop - short + 1):
        wav = dac_models.noise(1, samples, samples)
        engine, codes, decoder = Engine(codec, slots=1, step_frames=(1,)), [], codec.open_decoder()
        session = engine.open("roundtrip", codes=True)
        engine.feed(session, wav)
        engine.flush(session)
        audio = []
        while engine.ready:
            for delivery in engine.step():
                assert delivery.error is None, delivery.error
                codes += delivery.codes
                audio += [] if delivery.audio is None else [delivery.audio]
        expected = codec.encode(wav)
        assert sum(piece.length for piece in codes) == samples
        assert torch.equal(torch.cat([piece.data for piece in codes], 2), expected.data)
        heard = torch.cat([*(decoder.push(piece) for piece in codes), decoder.flush()], 2)
        for pcm in (heard, torch.cat(audio, 2)):
            torch.testing.assert_close(pcm, codec.decode(expected), rtol=0, atol=1e-10)
        if expected.data.shape[2] * hop > samples + hop:
            assert codes[-1].length == 0
