"""Products of bfloat16, one of them, three, or six for float32 itself: near what they stand for, the same bits however
a stream is cut and shared, refused where they cannot be or must not.
"""

import contextlib
import math
import time
from collections.abc import Iterator

import int8_layers
import numpy as np
import oracles
import pytest
import soundfile
import torch
from oracles import cuts
from sets import HERE, compiled, shared_among
from stacks import rows, stream
from streamcodec_kernels.native import library
from torch import Tensor

import streamcodec
from streamcodec import native_weights, ops
from streamcodec.cli import main
from streamcodec.errors import BackendError, ConfigError
from streamcodec.nn.conv import Conv1d, ConvTranspose1d
from streamcodec.nn.layer import Elementwise, Sequential
from streamcodec.nn.residual import Residual
from streamcodec.nn.transducer import Network
from streamcodec.program import Padding
from streamcodec.state import State

TILES = bool(HERE) and library.chosen().tiles
tiled = pytest.mark.skipif(not TILES, reason="this processor has no AMX, or nothing can compile the native executor")

# By how much a result is above what each changes, in dB: at least, and at most, else it is the same.
CHANGES = {"bfloat16": (35, 70), "bfloat16x3": (90, 125), "float32": (115, 160)}
# In float32 the terms of weights are packed, or made of floats in the step, as the layer says.
each_precision = pytest.mark.parametrize(
    ("precision", "in_small_layers_too"),
    [*((precision, "packed") for precision in CHANGES), ("float32", "split")],
    indirect=["in_small_layers_too"],
)
packed_and_split = pytest.mark.parametrize("in_small_layers_too", ["packed", "split"], indirect=True)


@pytest.fixture(autouse=True)
def in_small_layers_too(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Products in float32 are made of six of bfloat16 wherever there is a whole tile, of weights that are packed so, or
    split in the step.
    """
    if getattr(request, "param", "packed") == "packed":
        monkeypatch.setattr(native_weights, "FEWEST_ROWS", 1)
        monkeypatch.setattr(native_weights, "FEWEST_VALUES", native_weights.WIDE)
        return
    monkeypatch.setattr(native_weights, "FEWEST_ROWS", math.inf)
    monkeypatch.setattr(native_weights, "FEWEST_TALL", 1)
    monkeypatch.setattr(native_weights, "TALL", native_weights.WIDE)


@contextlib.contextmanager
def in_floats() -> Iterator[None]:
    """Products in float32 are made as on a processor without tiles; executors are made at their first step."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native_weights, "FEWEST_ROWS", math.inf)
        patch.setattr(native_weights, "FEWEST_TALL", math.inf)
        yield


# Channels that fill no tile, and that fill whole ones: then the rows of buffers are rounded, else windows are.
SIZES = {"parts of tiles": (70, 45, 33), "whole tiles": (64, 32, 416)}


def network(precision: str, sizes: tuple[int, int, int] = SIZES["parts of tiles"]) -> Network:
    """Products of all shapes: windows in one stretch or several, of one buffer or two, several rows a window."""
    torch.manual_seed(5)
    wide, narrow, last = sizes
    convolution = Conv1d(wide, narrow, 3, dilation=3, padding=Padding(6))
    branch = Sequential([Elementwise("elu"), convolution, Conv1d(narrow, wide, 1)])
    layers = [
        Conv1d(3, wide, 11, padding=Padding(7, 3)),
        Residual(branch, Conv1d(wide, wide, 1)),
        Conv1d(wide, wide, 4, stride=2, padding=Padding(2)),
        ConvTranspose1d(wide, last, 6, stride=3, trim_left=1, trim_right=2),
        Conv1d(last, 2, 7, padding=Padding(6)),
    ]
    net = Network(Sequential(layers), 3, 2, 2)
    net.use("native", precision)
    return net


def decibels(y: Tensor, exact: Tensor) -> float:
    return float(10 * torch.log10(exact.square().mean() / (y - exact).square().mean()))


@tiled
@each_precision
@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("length", [0, 1, 40, 210])
def test_it_is_near_float32_and_any_partition_and_batch_have_the_same_bits(length, sizes, precision):
    net, x = network(precision, SIZES[sizes]), rows(3, length).float()
    low = [operation for operation in operations(net, 100) if operation.kind == library.KINDS["low_product"]]
    assert low
    assert any(operation.source_count for operation in low) == (sizes == "whole tiles")
    whole = stream(net, x, [(0, length)], 1000)
    with in_floats():
        exact = stream(network("float32", SIZES[sizes]), x, [(0, length)], 1000)
    assert torch.equal(stream(net, x, cuts(length, [1, 2, 30, 5]), 3), whole)
    assert torch.equal(stream(net, x[1:2], cuts(length, [7]), 1), whole[1:2])
    if whole.numel():
        least, most = CHANGES[precision]
        assert least < decibels(whole, exact) < most


@tiled
@each_precision
@pytest.mark.parametrize("sizes", SIZES)
def test_a_step_shared_among_threads_has_the_bits_of_one(sizes, precision):
    net, x = network(precision, SIZES[sizes]), rows(3, 210).float()
    alone = stream(net, x, cuts(210, [1, 2, 30, 5, 150]), 1000)
    helped, end = 0, time.monotonic() + 60
    while not helped and time.monotonic() < end:
        with shared_among(3) as taken:
            assert torch.equal(stream(net, x, cuts(210, [1, 2, 30, 5, 150]), 1000), alone)
        helped = sum(taken)
    assert helped


@tiled
@packed_and_split
@pytest.mark.parametrize("sizes", SIZES)
def test_a_state_of_rounded_rows_goes_on_in_float32_and_the_other_way_round(sizes):
    low, exact, x = network("bfloat16", SIZES[sizes]), network("float32", SIZES[sizes]), rows(3, 64).float()
    for frames in (1, 32):
        assert any(of.halved for of in buffers(low, frames))
        assert not any(of.halved for of in buffers(exact, frames))
    assert not any(of.halved for of in buffers(network("bfloat16x3", SIZES[sizes]), 32))
    wanted = [net.step(x, State(net.spec, 3)) for net in (low, exact)]
    for first, then in ((low, exact), (exact, low), (low, low)):
        state = State(low.spec, 3)
        y = torch.cat([first.step(x[:, :40], state), then.step(x[:, 40:], state)], 1)
        assert decibels(y, wanted[1]) > 35
        assert torch.equal(y, wanted[0]) == (first is then)


def buffers(net: Network, frames: int) -> list[library.Buffer]:
    plan = net.executor.workspace(1, frames)._plan
    return list((library.Buffer * plan.buffer_count).from_address(plan.buffers))


def product(precision: str, matrix: Tensor) -> Network:
    """Rows times a matrix [K, N], and nothing else."""
    layer = Conv1d(*matrix.shape, 1)
    with torch.no_grad():
        layer.weight.copy_(matrix[None])
        layer.bias.zero_()
    net = Network(layer, *matrix.shape, 1)
    net.use("native", precision)
    return net


# Of the sum of the products' sizes: what two roundings lose, and three for what is left out; sums of 96 in float32.
BOUNDS = {"bfloat16": 2 * 2**-9 + 2**-18, "bfloat16x3": 3 * 2**-18 + 96 * 2**-24, "float32": 4 * 2**-24}


@tiled
@each_precision
@pytest.mark.parametrize("power", [-60, -20, 0, 20, 100])
def test_the_error_is_bounded_at_any_size_of_values(precision, power):
    generator = torch.Generator().manual_seed(1)
    x, matrix = 2.0**power * torch.randn(1, 40, 96, generator=generator), torch.randn(96, 64, generator=generator)
    exact = x.double() @ matrix.double()
    sizes = x.double().abs() @ matrix.double().abs()
    error = (stream(product(precision, matrix), x, [(0, 40)], 1000).double() - exact).abs()
    assert bool((error <= BOUNDS[precision] * sizes).all())


@tiled
@packed_and_split
def test_six_products_give_back_every_float_to_the_bit():
    """Down to 2^-102; below it, what the last term would be is lost, which is smaller than any normal number."""
    generator = torch.Generator().manual_seed(2)
    # Random columns beside the unit ones: a matrix that is whole numbers alone would be multiplied in these.
    net = product("float32", torch.cat([torch.eye(64), 1e-6 * torch.randn(64, 32, generator=generator)], 1))
    x = torch.randn(1, 227, 64, generator=generator) * 2.0 ** torch.arange(-100, 127)[None, :, None]
    x[0, -1, :2] = torch.tensor([torch.finfo(torch.float32).max, -torch.finfo(torch.float32).max])
    kept = x.abs() >= 2.0**-102
    x = torch.where(kept, x, 0)
    assert float(kept.float().mean()) > 0.98
    assert torch.equal(stream(net, x, [(0, 227)], 1000)[..., :64], x)
    small = 2.0**-118 * torch.randn(1, 40, 64, generator=generator)
    assert float((stream(net, small, [(0, 40)], 1000)[..., :64] - small).abs().max()) <= 2 * 2.0**-126


@tiled
@packed_and_split
@pytest.mark.parametrize(("ranges", "margin"), [(0, 1.0), (4, 1.0), (12, 1.0), (40, 1.5)])
@pytest.mark.parametrize("values", [64, 512, 2688])
def test_six_products_are_no_less_exact_than_float32s_own(values, ranges, margin):
    """Where the values of a window are of very different sizes too, and many of them 0. Of 2^-80 to 2^80 one or two in
    a window count: then six products are rounded more often than one, by little more than half a last place in all.
    """
    generator = torch.Generator().manual_seed(values)
    x, matrix = torch.randn(1, 100, values, generator=generator), torch.randn(values, 64, generator=generator)
    x = x * 2.0 ** (ranges * torch.randn(x.shape, generator=generator).clamp(-2, 2))
    x = torch.where(torch.rand(x.shape, generator=generator) < 0.3, 0, x)
    exact, sizes = x.double() @ matrix.double(), x.double().abs() @ matrix.double().abs()
    six = product("float32", matrix)
    assert [each.terms for each in operations(six, 100)[1:]] == [native_weights.EXACT]
    errors = [(stream(six, x, [(0, 100)], 1000).double() - exact) / sizes]
    with in_floats():
        own = product("float32", matrix)
        errors.append((stream(own, x, [(0, 100)], 1000).double() - exact) / sizes)
        assert [each.terms for each in operations(own, 100)[1:]] == [0]
    mean, most = ([float(of(error.abs())) for error in errors] for of in (torch.mean, torch.max))
    assert mean[0] <= margin * mean[1]
    assert most[0] <= margin * most[1]


@tiled
@packed_and_split
def test_a_matrix_beyond_bfloat16_is_multiplied_in_floats():
    matrix = torch.eye(64)
    for weight in (torch.finfo(torch.float32).max, torch.inf, torch.nan):
        matrix[3, 3] = weight
        assert [each.terms for each in operations(product("float32", matrix), 1)[1:]] == [0]
    x = torch.ones(1, 1, 64)
    matrix[3, 3] = torch.finfo(torch.float32).max
    assert torch.equal(stream(product("float32", matrix), x, [(0, 1)], 1000)[0, 0], matrix.diag())


@tiled
@each_precision
def test_what_is_finite_in_float32_is_finite_and_what_is_not_is_not(precision):
    matrix, largest = torch.eye(64), float(torch.finfo(torch.bfloat16).max)
    x = torch.zeros(1, 3, 64)
    x[0, :, 5] = torch.tensor([largest, torch.inf, -torch.inf])
    y = stream(product(precision, matrix), x, [(0, 3)], 1000)
    assert float(y[0, 0, 5]) == largest
    assert not bool(y[0, 1:, 5].isfinite().any())
    assert bool(y[0, 0].isfinite().all())


def operations(net: Network, frames: int) -> list[library.Operation]:
    plan = net.executor.workspace(1, frames)._plan
    return list((library.Operation * plan.operation_count).from_address(plan.operations))


@tiled
@each_precision
def test_what_is_not_finite_stays_in_its_stream_and_behind_it_in_time(precision):
    x = rows(2, 60).float()
    x[0, 30] = torch.nan
    y = stream(network(precision), x, [(0, 60)], 1000)
    clean = stream(network(precision), rows(2, 60).float(), [(0, 60)], 1000)
    assert y[0].isnan().any()
    first = int(y[0].isnan().any(1).nonzero()[0])
    assert torch.equal(y[0, :first], clean[0, :first])
    assert torch.equal(y[1], clean[1])


@tiled
def test_a_codec_decodes_in_it_and_encodes_as_ever():
    exact = streamcodec.load(backend="native")
    low = streamcodec.load(backend="native", precision="bfloat16")
    assert low.served_by() | {"decoder": "native"} == exact.served_by()
    assert low.served_by()["decoder"] == "native in bfloat16"
    signal = 0.1 * torch.randn(1, 1, 40 * low.spec.hop_length, generator=torch.Generator().manual_seed(0))
    codes = [codec.open_encoder(start="primed").push(signal).data for codec in (exact, low)]
    assert torch.equal(*codes)
    audio = [codec.open_decoder(start="primed").push(streamcodec.Codes(codes[0])) for codec in (exact, low)]
    assert 25 < decibels(audio[1], audio[0]) < 60
    assert torch.equal(low.on("native").open_decoder(start="primed").push(streamcodec.Codes(codes[0])), audio[0])


@tiled
def test_a_codec_encodes_and_decodes_in_three_products():
    exact = oracles.small_codec("24khz", torch.float32, num_filters=32).on("native")
    low = exact.on("native", "bfloat16x3")
    assert {low.served_by()[name] for name in ("encoder", "decoder")} == {"native in bfloat16x3"}
    signal = 0.1 * torch.randn(1, 1, 40 * low.spec.hop_length, generator=torch.Generator().manual_seed(0))
    codes = [codec.open_encoder(start="primed").push(signal).data for codec in (exact, low)]
    assert float((codes[0] == codes[1]).float().mean()) > 0.99
    audio = [codec.open_decoder(start="primed").push(streamcodec.Codes(codes[0])) for codec in (exact, low)]
    assert decibels(audio[1], audio[0]) > 80


@tiled
def test_weights_in_int8_stay_what_they_are():
    """They are read in fewer bytes than two terms, and their products are float32's."""
    net, x = int8_layers.network(), rows(1, 40).float()
    exact = stream(net, x, [(0, 40)], 1000)
    net.use("native", "bfloat16x3")
    assert torch.equal(stream(net, x, [(0, 40)], 1000), exact)
    net.use("native", "bfloat16")
    assert not torch.equal(stream(net, x, [(0, 40)], 1000), exact)


@tiled
def test_a_codec_whose_decoder_takes_whole_segments_is_refused():
    with pytest.raises(BackendError, match="has no steps of single frames, which run in bfloat16"):
        oracles.small_codec("48khz", torch.float32).on("native", "bfloat16")


def test_another_name_or_backend_is_refused():
    codec = streamcodec.load()
    with pytest.raises(ConfigError, match=r"it must be one of float32, tf32, bfloat16, bfloat16x3"):
        codec.on("torch", "half")
    for backend in ("auto", "torch"):
        with pytest.raises(BackendError, match=rf"one of backend 'native' and 'triton'; the backend is '{backend}'"):
            streamcodec.load(backend=backend, precision="bfloat16")
    with pytest.raises(BackendError, match=r"'tf32' is one of backend 'triton'; the backend is 'native'"):
        streamcodec.load(backend="native", precision="tf32")


@compiled
@pytest.mark.parametrize("precision", native_weights.TERMS)
def test_without_tiles_it_is_refused_with_what_it_needs(monkeypatch, precision):
    monkeypatch.setenv(library.CHOICE, "baseline")
    with pytest.raises(BackendError, match=r"needs a processor with AMX.*runs on baseline. Use precision='float32'"):
        ops.check_precision("native", precision)


@tiled
def test_commands_encode_in_three_products(tmp_path):
    wav, out = tmp_path / "in.wav", tmp_path / "out.safetensors"
    soundfile.write(wav, 0.1 * np.sin(np.arange(4800) / 20), 24_000)
    assert main(["encode", str(wav), str(out), "--backend", "native", "--precision", "bfloat16x3"]) == 0
    assert out.exists()


@tiled
def test_a_server_and_the_processes_of_its_engines_compute_in_the_precision_asked_for():
    pytest.importorskip("websockets", reason="the extra `server` is not installed")
    pytest.importorskip("prometheus_client", reason="the extra `server` is not installed")
    from streamcodec.server.config import Config
    from streamcodec.server.shared_codecs import SharedCodecs
    from streamcodec.server.start import load_codecs

    codecs = load_codecs(Config(backend="native", precision="bfloat16x3"))
    with contextlib.closing(SharedCodecs(codecs)) as given:
        for codec in [*codecs.values(), *given.take().values()]:
            served = codec.served_by()
            assert {served["encoder"], served["decoder"]} == {"native in bfloat16x3"}


def test_encoding_in_it_is_refused_with_the_reason(tmp_path, capsys):
    command = ["encode", "in.wav", str(tmp_path / "out.safetensors"), "--backend", "native", "--precision", "bfloat16"]
    assert main(command) == 2
    assert "would change up to a fifth of the codes, so it is for decoding alone" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
