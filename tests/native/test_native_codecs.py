"""The codecs of every family in C++: their streams' bits depend on nothing but the stream."""

import copy
import importlib
import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import dac_models
import mimi_models
import oracles
import pocket_tts_models
import pytest
import qwen_tts_models
import snac_models
import spectral_models
import torch
import xcodec_models
from mirror import Mirror, deliver, drain
from oracles import cuts
from sets import compiled, each_set, on, shared_among
from torch import Tensor

import streamcodec
from streamcodec import Codec, Codes, Engine, native_executor
from streamcodec.codecs import batches
from streamcodec.codecs.lyra import LyraCodec
from streamcodec.engine import Session
from streamcodec.native_executor import NativeExecutor, Workspace
from streamcodec.nn.ragged import run_together
from streamcodec.nn.transducer import Network, Transducer

FAMILIES: dict[str, Callable[[], Codec]] = {
    "encodec, causal": lambda: oracles.small_codec("24khz", torch.float32),
    "encodec, looking ahead": lambda: oracles.small_codec("32khz", torch.float32),
    "encodec, two channels": lambda: oracles.small_codec("24khz", torch.float32, audio_channels=2),
    "dac": lambda: dac_models.small_codec((2, 3), dtype=torch.float32),
    "spectral": lambda: spectral_models.small_codec(torch.float32),
    "mimi": lambda: mimi_models.small_codec(torch.float32),
    "lyra": lambda: lyra_codec(),
    "snac": lambda: snac_models.small_codec(torch.float32),
    "snac, attending": lambda: snac_models.small_codec(torch.float32, **snac_models.ATTENTION, depthwise=False),
    "qwen-tts": lambda: qwen_tts_models.small_codec(torch.float32),
    "pocket-tts": lambda: pocket_tts_models.small_codec(torch.float32),
    "xcodec": lambda: xcodec_models.small_codec("hubert", torch.float32),
    "higgs": lambda: higgs_codec(),
    "bundled": streamcodec.load,
}


def lyra_codec() -> LyraCodec:
    """Of the published sizes, with random weights that keep the level."""
    torch.manual_seed(3)
    codec = LyraCodec().eval()
    with torch.no_grad():
        for name, weight in codec.named_parameters():
            weight.mul_(0.1 if name.endswith("bias") else 0.6)
    return codec


def higgs_codec() -> Codec:
    pytest.importorskip("transformers.models.higgs_audio_v2_tokenizer", reason="this transformers has no Higgs Audio")
    return importlib.import_module("higgs_models").small_codec(torch.float32)


each_family = pytest.mark.parametrize("family", FAMILIES)


def codec_of(family: str) -> Codec:
    if family == "xcodec":
        pytest.importorskip("transformers", reason="X-Codec's speech model is one of transformers")
    return FAMILIES[family]()


def signal_for(network: Network, frames: int = 30) -> Tensor:
    generator = torch.Generator().manual_seed(frames)
    return 0.3 * torch.randn(2, frames * network.at.rate, network.channels, generator=generator)


def streamed(network: Network, x: Tensor, sizes: list[int], max_frames: int = 75) -> Tensor:
    stream = Transducer(network, x.shape[0], x.device, x.dtype, max_frames)
    parts = [stream.push(x[:, start:stop]) for start, stop in cuts(x.shape[1], sizes)]
    return torch.cat([*parts, stream.flush()], 1)


@cache
def expected_of(family: str) -> list[tuple[Tensor, float]]:
    """What each network gives in float64, and how far from that float32 is in torch."""
    codec, exact = codec_of(family), []
    for in_torch, network in zip(codec.framing.networks, copy.deepcopy(codec).double().framing.networks, strict=True):
        x = signal_for(in_torch)
        y = streamed(network, x.double(), [])
        exact.append((y, float((streamed(in_torch, x, []) - y).abs().max())))
    return exact


@each_set
@each_family
def test_every_network_is_as_exact_as_in_torch_and_has_the_same_bits_however_it_is_cut(name, family):
    codec = codec_of(family)
    with on(name):
        native = codec.on("native")
        for network, (exact, apart) in zip(native.framing.networks, expected_of(family), strict=True):
            assert network.served_by == "native"
            x = signal_for(network)
            whole = streamed(network, x, [])
            bound = 2 * apart + 1e-5 * max(1.0, float(exact.abs().max()))
            assert bound < 2e-4
            torch.testing.assert_close(whole.double(), exact, rtol=0, atol=bound)
            assert torch.equal(streamed(network, x[1:], [network.at.rate] * 30, 1), whole[1:])
            assert torch.equal(streamed(network, x, [1, 7 * network.at.rate, 5, 3 * network.at.rate], 3), whole)


# X-Codec and Higgs Audio encode in windows, which are not batched, and Pocket TTS has no codes.
BATCHED = [name for name in FAMILIES if name not in ("xcodec", "higgs", "pocket-tts")]


@compiled
@pytest.mark.parametrize("family", BATCHED)
@pytest.mark.parametrize("threads", [1, 2])
def test_a_session_of_an_engine_has_the_bits_of_a_stream(family, threads):
    """Whoever shares the step, wherever they are, on as many threads."""
    codec = codec_of(family).on("native")
    hop, kbps = codec.spec.hop_length, codec.spec.bandwidths[-1]
    engine = Engine(codec, slots=5, batch_sizes=(1, 4), step_frames=(1, 3), threads=threads)
    live: list[Mirror] = []
    for start in range(10):
        if start < 5:
            live.append(Mirror(engine, ("roundtrip", "encode", "decode")[start % 3], kbps, "exact", start))
        for place, mirror in enumerate(live):
            mirror.feed(hop * (1 + (start + place) % 4) + place)
        deliver(live, engine.step())
    for mirror in live:
        mirror.flush()
    drain(engine, live)
    for mirror in live:
        mirror.check(0.0)


@compiled
@pytest.mark.parametrize("family", BATCHED)
def test_a_batch_of_unequal_lengths_in_pieces_of_any_size_has_the_bits_of_each_item_alone(family, monkeypatch):
    """One after the other, as on a CPU, and in steps together."""
    codec = codec_of(family).on("native")
    hop, rate = codec.spec.hop_length, codec.spec.sample_rate
    lengths = (3 * hop, 11 * hop + 1, 5 * hop - 1)
    waves = [oracles.signal(1, codec.spec.channels, n, seed=n)[0].float() for n in lengths]
    alone = [codec.encode(wave[None], chunk_seconds=100) for wave in waves]
    for together in (1, 3):
        monkeypatch.setattr(batches, "batching", lambda device, n=together: batches.Batching(n, None))
        for frames in (1, 4):
            assert codec.encode(waves, chunk_seconds=(frames + 0.5) * hop / rate) == alone


def step_of(live: list[Mirror], engine: Engine, hop: int) -> None:
    for mirror in live:
        mirror.feed(hop)
    deliver(live, engine.step())


@compiled
def test_keys_and_values_stay_where_they_are_in_an_engine():
    """A step has no copy of them, and writes those of its own rows alone; they go on in the other executor."""
    codec = codec_of("mimi").on("native")
    hop, kbps = codec.spec.hop_length, codec.spec.bandwidths[-1]
    engine, other = (Engine(each, slots=4, batch_sizes=(4,)) for each in (codec, codec.on("torch")))
    live = [Mirror(engine, "roundtrip", kbps, "exact", seed) for seed in range(3)]
    for _ in range(9):
        step_of(live, engine, hop)
    lanes = engine._encoders, engine._decoders
    before = [{name: leaf.clone() for name, leaf in lane.states.leaves.items()} for lane in lanes]
    step_of(live[1:2], engine, hop)  # two rows of the transformers
    for lane, old in zip(lanes, before, strict=True):
        rings = {name for name, leaf in lane.network.spec.items() if leaf.ring}
        assert rings
        for name in rings:
            assert (lane.states.leaves[name] != old[name]).any(3).any(1).sum(1).tolist() == [0, 2, 0, 0]
    codes = torch.randint(codec.spec.codebook_size, (2, 1, codec.spec.codebooks(kbps), 9))
    session = engine.open("decode", bandwidth=kbps)
    decoded(engine, session, codes[0])
    both = [decoded(*where, codes[1]) for where in ((other, other.restore(engine.save(session))), (engine, session))]
    torch.testing.assert_close(*both, rtol=0, atol=1e-5)


def decoded(engine: Engine, session: Session, codes: Tensor) -> Tensor:
    engine.feed(session, Codes(codes))
    steps = [engine.step() for _ in range(codes.shape[2])]
    return torch.cat([got.audio for step in steps for got in step if got.audio is not None], 2)


@compiled
@pytest.mark.parametrize("backend", ["torch", "native"])
def test_what_a_step_is_to_keep_waits_while_its_thread_takes_the_next(backend):
    """Three parts of a step for a pool whose one worker takes two of them."""
    codec = codec_of("mimi").on(backend)
    engine = Engine(codec, slots=6, batch_sizes=(2,), threads=3)
    with ThreadPoolExecutor(1) as one:
        for lane in (engine._encoders, engine._decoders):
            lane.pool = one
        live = [Mirror(engine, "roundtrip", codec.spec.bandwidths[-1], "exact", seed) for seed in range(6)]
        for _ in range(9):
            step_of(live, engine, codec.spec.hop_length)
        for mirror in live:
            mirror.flush()
        drain(engine, live)
    for mirror in live:
        mirror.check(0.0 if backend == "native" else 1e-4)


@compiled
@each_family
@pytest.mark.parametrize("frames", [1, 4, 75])
def test_signals_of_unequal_lengths_run_together_have_the_bits_of_each_streamed_alone(family, frames):
    for network in codec_of(family).on("native").framing.networks:
        x, rate = signal_for(network)[:1], network.at.rate
        lengths = [0, 1, 2 * rate + 1, 9 * rate, 17 * rate + rate // 2, 30 * rate]
        found = run_together(network, [x[0, :length] for length in lengths], lengths, frames)
        for length, rows in zip(lengths, found, strict=True):
            assert torch.equal(rows, streamed(network, x[:, :length], [])[0])


@each_set
@each_family
def test_a_step_shared_among_threads_has_the_bits_of_one(name, family):
    with on(name):
        for network in codec_of(family).on("native").framing.networks:
            x, sizes = signal_for(network), [1, 4 * network.at.rate, 20 * network.at.rate]
            alone = streamed(network, x, sizes)
            with shared_among(3):
                assert torch.equal(streamed(network, x, sizes), alone)


@compiled
def test_others_do_help_and_one_that_comes_late_does_no_harm():
    """Late, to a step that is over, and to one that has begun since on the same memory."""
    network = codec_of("bundled").on("native").framing.decoder
    x = signal_for(network, 75)
    alone, end = streamed(network, x, []), time.monotonic() + 60
    with shared_among(2) as taken:
        while not sum(taken) and time.monotonic() < end:
            assert torch.equal(streamed(network, x, []), alone)
        assert sum(taken)
    work = network.executor.workspace(2, 75)
    assert work._help(work._call) == 0
    with shared_among(2), pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(1) as pool:
        gate = threading.Event()
        pool.submit(gate.wait, 60)
        patch.setattr(native_executor, "_helpers", lambda: pool)
        assert torch.equal(streamed(network, x, []), alone)
        gate.set()
        for _ in range(3):
            assert torch.equal(streamed(network, x, []), alone)


@compiled
@each_family
def test_steps_of_fewer_streams_have_the_same_bits_in_memory_for_more(family, monkeypatch):
    """As an engine's do, whose sessions come and go. What lies in the memory of the others is not looked at."""

    def roomy(executor: NativeExecutor, batch: int, frames: int, part: int = 0) -> Workspace:
        work = plain(executor, 9 * batch, frames, part)
        for memory in work.memory:
            memory.fill_(math.nan)
        return work

    plain = NativeExecutor.workspace
    for network in codec_of(family).on("native").framing.networks:
        x, sizes = signal_for(network, 12), [1, 4 * network.at.rate]
        alone = streamed(network, x, sizes)
        with monkeypatch.context() as patch:
            patch.setattr(NativeExecutor, "workspace", roomy)
            assert torch.equal(streamed(network, x, sizes), alone)
            with shared_among(3):
                assert torch.equal(streamed(network, x, sizes), alone)


@compiled
def test_nothing_depends_on_scratch_memory():
    network = codec_of("encodec, looking ahead").on("native").framing.encoder
    x = signal_for(network)
    stream, parts = Transducer(network, 2, x.device, x.dtype), []
    for start, stop in cuts(x.shape[1], [x.shape[1] - 9 * network.at.rate] + [network.at.rate] * 9):
        for memory in network.executor.workspace(2, 1).memory:
            memory.fill_(math.nan)
        parts.append(stream.push(x[:, start:stop]))
    assert torch.equal(torch.cat([*parts, stream.flush()], 1), streamed(network, x, []))


@compiled
def test_other_threads_of_python_run_during_a_step():
    network = codec_of("bundled").on("native").framing.encoder
    x = torch.zeros(8, 75 * network.at.rate, 1)
    work = network.executor.workspace(8, 75)
    inside, counts = threading.Event(), []
    plain = work._set.step

    def noted(*arguments: object) -> None:
        inside.set()
        plain(*arguments)
        inside.clear()

    work._set = work._set._replace(step=noted)
    state = streamcodec.nn.transducer.State(network.spec, 8)
    worker = threading.Thread(target=network.executor.step, args=(work, x, state))
    worker.start()
    inside.wait(10)
    while inside.is_set():
        counts.append(1)
    worker.join()
    assert len(counts) > 1000  # a step of these takes tens of milliseconds; without the lock released, 1 at most


@compiled
def test_weights_that_change_are_noticed_when_a_stream_opens():
    codec = codec_of("spectral").on("native")
    network, x = codec.framing.encoder, signal_for(codec.framing.encoder)
    before = streamed(network, x, [])
    with torch.no_grad():
        last = codec.encoder.chain[-1].bias
        last.add_(1.0)
    try:
        torch.testing.assert_close(streamed(network, x, []), before + 1.0)
    finally:
        with torch.no_grad():
            last.sub_(1.0)
