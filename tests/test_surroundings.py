"""A codec computes what it says, whatever surrounds the call: autocast, default dtype, meta device, precision."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import oracles
import pytest
import torch
from sets import compiled
from torch import Tensor

import streamcodec
from streamcodec import Codes, Engine, stamps, surroundings
from streamcodec.checkpoint import DEFAULT_CODEC, save
from streamcodec.codecs import Codec
from streamcodec.errors import DtypeError, StreamError
from streamcodec.surroundings import undisturbed


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@contextmanager
def matmul_precision(name: str) -> Iterator[None]:
    torch.set_float32_matmul_precision(name)
    try:
        yield
        assert torch.get_float32_matmul_precision() == name  # it is the caller's again
    finally:
        torch.set_float32_matmul_precision("highest")


SURROUNDINGS: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "autocast to bfloat16": lambda: torch.autocast("cpu", torch.bfloat16),
    "autocast to float16": lambda: torch.autocast("cpu", torch.float16),
    "default dtype bfloat16": lambda: default_dtype(torch.bfloat16),
    "default dtype float64": lambda: default_dtype(torch.float64),
    "the meta device": lambda: torch.device("meta"),
    "products of medium precision": lambda: matmul_precision("medium"),
    "inference mode": torch.inference_mode,
    "gradients": torch.enable_grad,
}
PCM = 0.1 * torch.randn(1, 1, 12_000, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module", params=["bundled", "encodec"])
def source(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Of the codec in the package, and of one with LSTMs and strided convolutions."""
    if request.param == "bundled":
        return DEFAULT_CODEC
    sizes = {"sampling_rate": 24_000, "upsampling_ratios": (8, 5, 4, 2), "target_bandwidths": (0.3, 0.6, 1.2)}
    codec = oracles.small_codec("24khz", torch.float32, **sizes)
    return str(save(codec, tmp_path_factory.mktemp("codec") / "small"))


@pytest.fixture(scope="module", params=["torch", pytest.param("native", marks=compiled)])
def codec(source: str, request: pytest.FixtureRequest) -> Codec:
    return streamcodec.load(source, backend=request.param)


def results(codec: Codec) -> list[Tensor]:
    """Codes and audio, offline, of streams and of an engine."""
    codes = codec.encode(PCM)
    encoder, decoder = codec.open_encoder(start="primed"), codec.open_decoder()
    pieces = [encoder.push(part) for part in PCM.split(1700, 2)] + [encoder.flush()]
    audio = [decoder.push(piece) for piece in pieces] + [decoder.flush()]
    engine = Engine(codec, slots=1)
    session = engine.open("roundtrip", codes=True)
    engine.feed(session, PCM)
    engine.flush(session)
    delivered = []
    while engine.ready:
        delivered += engine.step()
    heard = [delivery.audio for delivery in delivered if delivery.audio is not None]
    batched = Codes.cat([piece for delivery in delivered for piece in delivery.codes or []])
    streamed = Codes.cat(pieces)
    return [codes.data, codec.decode(codes), streamed.data, torch.cat(audio, 2), batched.data, torch.cat(heard, 2)]


@pytest.fixture(scope="module")
def undisturbed_results(codec: Codec) -> list[Tensor]:
    return results(codec)


@pytest.mark.parametrize("name", SURROUNDINGS)
def test_what_surrounds_the_calls_changes_no_bit(codec: Codec, undisturbed_results: list[Tensor], name: str) -> None:
    with SURROUNDINGS[name]():
        found = results(codec) + results(codec.on(codec.backend))  # the second makes its memory there
    assert all(a.dtype == b.dtype and torch.equal(a, b) for a, b in zip(found, 2 * undisturbed_results, strict=True))


@pytest.mark.parametrize("name", SURROUNDINGS)
def test_what_surrounds_load_changes_no_weight(source: str, codec: Codec, name: str) -> None:
    with SURROUNDINGS[name]():
        loaded = streamcodec.load(source)
    assert loaded.fingerprint == codec.fingerprint
    pairs = zip((*loaded.parameters(), *loaded.buffers()), (*codec.parameters(), *codec.buffers()), strict=True)
    assert all(a.dtype == b.dtype and torch.equal(a, b) and not a.is_inference() for a, b in pairs)


def test_on_a_gpu_convolutions_are_in_float32_too_and_the_switch_is_the_callers_again(monkeypatch):
    """Torch has them in TF32 there by default."""
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(surroundings, "KINDS", ("cpu", "cuda"))
    switch, seen = torch.backends.cudnn, []
    look = undisturbed(lambda: seen.append(switch.allow_tf32))
    for allowed in (True, False):
        monkeypatch.setattr(switch, "allow_tf32", allowed)
        look()
        undisturbed(look)()
        assert switch.allow_tf32 is allowed
    assert seen == [False] * 4


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.int32])
def test_a_precision_in_which_codes_would_be_others_is_refused(dtype: torch.dtype) -> None:
    with pytest.raises(DtypeError, match=r"float32 or torch\.float64"):
        streamcodec.load(dtype=dtype)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_codec_converted_to_such_a_precision_says_so_at_every_call(dtype: torch.dtype) -> None:
    codec = streamcodec.load()
    codes = codec.encode(PCM)
    codec.to(dtype)
    for call in (
        lambda: codec.encode(PCM),
        lambda: codec.decode(codes),
        codec.open_encoder,
        codec.open_decoder,
        lambda: Engine(codec, slots=1),
    ):
        with pytest.raises(DtypeError, match=r"float32 or torch\.float64"):
            call()


def test_a_stream_whose_codec_was_moved_says_so_and_goes_on_when_it_is_back() -> None:
    codec = streamcodec.load()
    codes = codec.encode(PCM)
    whole = codec.decode(codes)
    encoder, decoder = codec.open_encoder(), codec.open_decoder()
    engine = Engine(codec, slots=1)
    session = engine.open("encode")
    first, audio = encoder.push(PCM[:, :, :5000]), decoder.push(codes.data[:, :, :9])
    engine.feed(session, PCM)
    codec.double()
    other = codec.open_encoder()
    other.push(PCM.double())
    for call in (
        lambda: encoder.push(PCM),
        encoder.flush,
        lambda: decoder.push(codes),
        lambda: engine.feed(session, PCM),
        engine.step,
        lambda: engine.open("decode"),
    ):
        with pytest.raises(StreamError, match="move it back"):
            call()
    codec.float()
    pieces = Codes.cat([first, encoder.push(PCM[:, :, 5000:]), encoder.flush()])
    assert torch.equal(pieces.data, codes.data)
    rest = [decoder.push(Codes(codes.data[:, :, 9:], None, 12_000 - 9 * codec.spec.hop_length)), decoder.flush()]
    torch.testing.assert_close(torch.cat([audio, *rest], 2), whole, rtol=0, atol=1e-5)
    assert engine.step()


def scaled(codec: Codec, how: Callable[[Tensor], None]) -> None:
    for tensor in (*codec.parameters(), codec.quantizer.codebooks):
        how(tensor)


@pytest.mark.parametrize(
    "how",
    [lambda t: t.data.mul_(0.97), lambda t: t.detach().numpy().__imul__(0.97)],
    ids=["through .data", "through NumPy"],
)
@pytest.mark.parametrize("asked", [False, True], ids=["by itself", "by refresh"])
def test_weights_that_torch_does_not_see_change_are_noticed(how: Callable[[Tensor], None], asked: bool) -> None:
    fresh, used = streamcodec.load(), streamcodec.load()
    scaled(fresh, how)
    results(used)
    before = used.fingerprint
    scaled(used, how)
    if asked:
        used.refresh()
    assert used.fingerprint == fresh.fingerprint != before
    assert all(torch.equal(a, b) for a, b in zip(results(used), results(fresh), strict=True))
    assert torch.equal(results(used)[0], results(used)[4])


def test_a_codec_whose_weights_changed_leaves_others_as_they_are() -> None:
    """Else a server that loads a second codec would stall the first: its executors would pack their weights again."""
    one, other = streamcodec.load(), streamcodec.load()
    results(one)
    packed = [network.executor for network in one.framing.networks]
    other.notice_writes()
    scaled(other, lambda tensor: tensor.data.mul_(0.97))
    results(other)
    weights = [torch.nn.Parameter(torch.randn(3, 3))]
    weights[0].grad = torch.ones(3, 3)
    torch.optim.Adam(weights, fused=True).step()
    results(one)
    assert all(a is b.executor for a, b in zip(packed, one.framing.networks, strict=True))


def test_an_optimizer_that_torch_does_not_see_write_is_noticed() -> None:
    codec = streamcodec.load()
    results(codec)
    packed = [network.executor for network in codec.framing.networks]
    for weight in codec.parameters():
        weight.grad = torch.zeros_like(weight)
    torch.optim.Adam(codec.parameters(), fused=True).step()
    results(codec)
    assert all(a is not b.executor for a, b in zip(packed, codec.framing.networks, strict=True))


def test_refresh_notices_a_single_value() -> None:
    codec = streamcodec.load()
    before = codec.fingerprint
    max(codec.parameters(), key=torch.numel).data.view(-1)[stamps.EACH] += 1
    assert codec.fingerprint == before, "no sample can see every value: else this test and refresh are of no use"
    codec.refresh()
    assert codec.fingerprint != before


def test_codebooks_of_a_state_dict_are_searched_as_they_are() -> None:
    one, two = streamcodec.load(), streamcodec.load()
    one.quantizer.set_codebooks(one.quantizer.codebooks.flip(1) * 1.1)
    two.load_state_dict(one.state_dict())
    assert torch.equal(one.encode(PCM).data, two.encode(PCM).data)


def quantised() -> Codec:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        codec = oracles.small_codec("24khz", torch.float32)
        found: Codec = torch.ao.quantization.quantize_dynamic(codec, {torch.nn.LSTM}, dtype=torch.qint8)
    return found


def in_two_types() -> Codec:
    codec = streamcodec.load()
    codec.decoder.bfloat16()
    return codec


@pytest.mark.parametrize(("make", "said"), [(quantised, "quantised layers"), (in_two_types, "torch.bfloat16")])
def test_layers_that_are_not_the_codecs_are_refused_with_a_sentence(make: Callable[[], Codec], said: str) -> None:
    codec = make()
    for call in (
        lambda: codec.encode(PCM),
        lambda: codec.decode(torch.zeros(1, 2, 3, dtype=torch.int64)),
        codec.open_encoder,
        codec.open_decoder,
        lambda: streamcodec.Engine(codec, slots=1).open("encode"),
    ):
        with pytest.raises(DtypeError, match=said):
            call()


def test_a_compiled_codec_is_the_codec() -> None:
    codec = streamcodec.load()
    faster = torch.compile(codec)
    assert torch.equal(faster.encode(PCM).data, codec.encode(PCM).data)
