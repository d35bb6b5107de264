"""Decoding in bfloat16: near float32, the same bits however it is cut, refused where it cannot be or must not."""

import oracles
import pytest
import torch
from oracles import cuts
from sets import HERE, compiled
from stacks import rows, stream
from streamcodec_kernels.native import library
from torch import Tensor

import streamcodec
from streamcodec import ops
from streamcodec.cli import main
from streamcodec.errors import BackendError, ConfigError
from streamcodec.nn.conv import Conv1d, ConvTranspose1d
from streamcodec.nn.layer import Elementwise, Sequential
from streamcodec.nn.residual import Residual
from streamcodec.nn.transducer import Network
from streamcodec.program import Padding

TILES = bool(HERE) and library.chosen().tiles
tiled = pytest.mark.skipif(not TILES, reason="this processor has no AMX, or nothing can compile the native executor")


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
@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("length", [0, 1, 40, 210])
def test_it_is_near_float32_and_any_partition_and_batch_have_the_same_bits(length, sizes):
    net, x = network("bfloat16", SIZES[sizes]), rows(3, length).float()
    low = [operation for operation in operations(net, 100) if operation.kind == library.KINDS["low_product"]]
    assert low
    assert any(operation.source_count for operation in low) == (sizes == "whole tiles")
    whole = stream(net, x, [(0, length)], 1000)
    exact = stream(network("float32", SIZES[sizes]), x, [(0, length)], 1000)
    assert torch.equal(stream(net, x, cuts(length, [1, 2, 30, 5]), 3), whole)
    assert torch.equal(stream(net, x[1:2], cuts(length, [7]), 1), whole[1:2])
    if whole.numel():
        assert 35 < decibels(whole, exact) < 70


def operations(net: Network, frames: int) -> list[library.Operation]:
    plan = net.executor.workspace(1, frames)._plan
    return list((library.Operation * plan.operation_count).from_address(plan.operations))


@tiled
def test_what_is_not_finite_stays_in_its_stream_and_behind_it_in_time():
    x = rows(2, 60).float()
    x[0, 30] = torch.nan
    y = stream(network("bfloat16"), x, [(0, 60)], 1000)
    clean = stream(network("bfloat16"), rows(2, 60).float(), [(0, 60)], 1000)
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
def test_a_codec_whose_decoder_takes_whole_segments_is_refused():
    with pytest.raises(BackendError, match="has no steps of single frames, which run in bfloat16"):
        oracles.small_codec("48khz", torch.float32).on("native", "bfloat16")


def test_another_name_or_backend_is_refused():
    codec = streamcodec.load()
    with pytest.raises(ConfigError, match=r"precision is 'half'; it must be one of float32, tf32, bfloat16"):
        codec.on("torch", "half")
    for backend in ("auto", "torch"):
        with pytest.raises(BackendError, match=rf"one of backend 'native' and 'triton'; the backend is '{backend}'"):
            streamcodec.load(backend=backend, precision="bfloat16")
    with pytest.raises(BackendError, match=r"'tf32' is one of backend 'triton'; the backend is 'native'"):
        streamcodec.load(backend="native", precision="tf32")


@compiled
def test_without_tiles_it_is_refused_with_what_it_needs(monkeypatch):
    monkeypatch.setenv(library.CHOICE, "baseline")
    with pytest.raises(BackendError, match=r"needs a processor with AMX.*runs on baseline. Use precision='float32'"):
        ops.check_precision("native", "bfloat16")


def test_encoding_in_it_is_refused_with_the_reason(tmp_path, capsys):
    command = ["encode", "in.wav", str(tmp_path / "out.safetensors"), "--backend", "native", "--precision", "bfloat16"]
    assert main(command) == 2
    assert "would change up to a fifth of the codes, so it is for decoding alone" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
