"""What runs a codec is chosen by name, and one asked for by name is that one or an error."""

import gc
import json
import weakref

import dac_models
import pytest
import torch
from codecs_of_tests import CODECS
from oracles import signal, small_codec

import streamcodec
from streamcodec import Codec, Engine, ops
from streamcodec.cli import main
from streamcodec.errors import BackendError
from streamcodec.ops import Runner
from streamcodec.torch_executor import TorchExecutor
from streamcodec.workspaces import Workspaces


@pytest.fixture
def other(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A second executor, which cannot run an LSTM; what it ran."""
    ran: list[str] = []

    class Other(TorchExecutor):
        def step(self, *arguments):
            ran.append("step")
            return super().step(*arguments)

    def lacks(program) -> str | None:
        return next((type(op).__name__ for op in program.ops if type(op).__name__ == "LSTMCell"), None)

    runner = Runner(lambda program, precision: Other(program), lacks, lambda program: True)
    monkeypatch.setattr(ops, "_EXECUTORS", {"other": runner} | ops._EXECUTORS)
    return ran


def fresh_dac() -> Codec:
    """One that has run nothing yet: tests share the codecs of `dac_models`."""
    return dac_models.small_codec((2, 3)).on("auto")


@pytest.mark.usefixtures("native_by_itself")
def test_auto_takes_what_can_run_a_codec(other):
    dac, encodec = fresh_dac(), small_codec("24khz", torch.float32)
    assert dac.served_by() == {
        "encoder": "other", "decoder": "other", "factorised_encode": "torch", "factorised_decode": "torch",
    }  # fmt: skip
    assert encodec.served_by() == {
        "encoder": "torch", "decoder": "torch", "rvq_encode": "torch", "rvq_decode": "torch",
    }  # fmt: skip
    dac.open_encoder().push(signal(1, 1, 400, 0))
    assert other


def test_one_asked_for_by_name_never_falls_back(other):
    dac, encodec = fresh_dac(), small_codec("24khz", torch.float32)
    assert dac.on("torch").served_by()["encoder"] == "torch"
    assert dac.on("other").served_by()["encoder"] == "other"
    with pytest.raises(BackendError, match=r"'other' cannot run this codec: it has no LSTMCell.*'auto' or 'torch'"):
        encodec.on("other")
    for call in (encodec.on, lambda name: Engine(encodec, backend=name), lambda name: streamcodec.load(backend=name)):
        with pytest.raises(BackendError, match=r"'cuda-graphs'; it must be one of auto, native, other, torch, triton"):
            call("cuda-graphs")
    assert encodec.backend == "auto"


def test_a_backend_that_is_not_installed_is_refused_before_anything_runs(monkeypatch):
    monkeypatch.setattr(ops, "_has_triton", lambda: False)
    with pytest.raises(BackendError, match=r"Triton is not installed.*pip install"):
        streamcodec.load(backend="triton")


def test_the_same_codec_on_another_backend_has_the_same_weights_and_leaves_the_first_alone(other):
    codec = fresh_dac()
    on_torch = codec.on("torch")
    assert (codec.backend, on_torch.backend) == ("auto", "torch")
    assert on_torch.decoder is codec.decoder
    wav = signal(1, 1, 1200, 0).to(codec.dtype)
    codes = codec.encode(wav)
    assert torch.equal(on_torch.encode(wav).data, codes.data)
    for each, runs in ((on_torch, False), (codec, True)):
        other.clear()
        engine = Engine(each, slots=1)
        session = engine.open("decode")
        engine.feed(session, codes)
        engine.step()
        assert bool(other) == runs
    with torch.no_grad():
        next(codec.encoder.parameters()).mul_(2)
    assert torch.equal(on_torch.encode(wav).data, codec.encode(wav).data)
    assert on_torch.fingerprint == codec.fingerprint


def test_a_saved_stream_goes_on_on_another_backend(other):
    codec = fresh_dac()
    wav = signal(1, 1, 2000, 0).to(codec.dtype)
    first = codec.on("torch").open_encoder()
    codes = [first.push(wav[..., :700])]
    second = codec.on("other").open_encoder(state=first.save())
    codes += [second.push(wav[..., 700:]), second.flush()]
    assert torch.equal(torch.cat([piece.data for piece in codes], 2), codec.encode(wav).data)


def test_engines_take_one_by_name(other):
    codec = fresh_dac()
    for backend, runs in (("torch", False), ("other", True), (None, True)):
        other.clear()
        engine = Engine(codec, slots=1, backend=backend)
        engine.feed(engine.open("encode"), signal(1, 1, 400, 0))
        engine.step()
        assert bool(other) == runs


@pytest.mark.usefixtures("native_by_itself")
def test_info_says_what_computes(capsys):
    assert main(["info", "--backend", "torch", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["backend"]
    assert told == {"encoder": "torch", "decoder": "torch", "rvq_encode": "torch", "rvq_decode": "torch"}
    assert main(["info"]) == 0
    assert "encoder: torch" in capsys.readouterr().out
    assert main(["info", "--backend", "cuda"]) != 0
    assert "must be one of auto" in capsys.readouterr().err


@pytest.mark.parametrize("name", [name for name in CODECS if name != "segments"])  # those run whole, not in steps
def test_the_memory_of_steps_goes_with_its_codec(name, monkeypatch):
    """At once, by counts of references: the collector counts objects, not bytes, and steps may take many megabytes."""
    made: list[weakref.ref] = []
    get = Workspaces.get

    def noted(self, *size):
        made.append(weakref.ref(get(self, *size)))
        return made[-1]()

    monkeypatch.setattr(Workspaces, "get", noted)
    codec = CODECS[name]().on("torch")
    gc.collect()
    gc.disable()
    try:
        wav = signal(1, codec.spec.channels, 8 * codec.spec.hop_length, 0).to(codec.dtype)
        codec.open_decoder().push(codec.open_encoder().push(wav))
        assert made
        assert all(work() is not None for work in made)
        del codec
        assert not any(work() is not None for work in made)
    finally:
        gc.enable()
