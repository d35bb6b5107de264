"""Steps by Triton kernels beside the same steps in torch: compiled on a GPU, in Triton's interpreter elsewhere."""

import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_checks import compile_without_a_gpu
from oracles import cuts
from stacks import ACTIVATIONS, CHANNELS, Pair, Row, rows, stacks, step_together, stream
from torch import Tensor

from streamcodec import triton_executor
from streamcodec.errors import BackendError
from streamcodec.nn.conv import Conv1d, ConvTranspose1d
from streamcodec.nn.layer import Elementwise, Sequential
from streamcodec.nn.lstm import LSTM
from streamcodec.nn.residual import Residual
from streamcodec.nn.snake import Snake
from streamcodec.nn.transducer import Network, Transducer
from streamcodec.program import Padding
from streamcodec.state import State

pieces = st.lists(st.integers(0, 12), max_size=4)


def networks(pair: Pair, device: str, frame: int = 1, look_ahead: int = 0) -> tuple[Network, Network]:
    """The pair's layer in float32, run by torch and by Triton."""
    layer = copy.deepcopy(pair.layer).float().to(device)
    sizes = (CHANNELS, CHANNELS, pair.down * frame, look_ahead)
    return Network(layer, *sizes, backend="torch"), Network(layer, *sizes, backend="triton")


def signal(batch: int, length: int, device: str) -> Tensor:
    return rows(batch, length, length).float().to(device)


def close(actual: Tensor, expected: Tensor) -> None:
    """Two orders of arithmetic in float32."""
    assert actual.shape == expected.shape
    size = max(1.0, float(expected.abs().max())) if expected.numel() else 1.0
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-5 * size)


@settings(max_examples=6)
@given(
    pair=stacks(max_layers=3),
    length=st.integers(0, 24),
    sizes=pieces,
    frame=st.integers(1, 2),
    ahead=st.integers(0, 9),
    max_frames=st.integers(2, 5),
)
def test_any_partition_equals_torch(device, pair, length, sizes, frame, ahead, max_frames):
    in_torch, by_kernels = networks(pair, device, frame, ahead)
    x = signal(2, length, device)
    close(stream(by_kernels, x, cuts(length, sizes), max_frames), stream(in_torch, x, [(0, length)]))


@settings(max_examples=4)
@given(
    pair=stacks(max_layers=3),
    lengths=st.lists(st.integers(0, 16), min_size=1, max_size=3),
    known=st.booleans(),
    data=st.data(),
)
def test_neighbours_at_other_places_do_not_matter(device, pair, lengths, known, data):
    """Some start, some end, and what surrounds a signal is NaN."""
    in_torch, net = networks(pair, device)
    streams = [Row(net, signal(1, length, device), known) for length in lengths]
    state = State(net.spec, len(streams), device)
    while not all(row.done for row in streams):
        slots = [slot for slot, row in enumerate(streams) if not row.done]
        frames = data.draw(st.integers(1, 4), label="frames")
        if any(streams[slot].frames == 0 for slot in slots):
            frames = max(frames, net.prefill_frames)
        step_together(net, [streams[slot] for slot in slots], state, slots, frames)
    for length, row in zip(lengths, streams, strict=True):
        close(row.result(), stream(in_torch, signal(1, length, device), [(0, length)], 1000))


@settings(max_examples=4)
@given(pair=stacks(max_layers=3), length=st.integers(1, 12), cut=st.integers(0, 12), first=st.booleans())
def test_a_state_goes_on_in_the_other_executor(device, pair, length, cut, first):
    nets = networks(pair, device)[:: -1 if first else 1]
    x, cut = signal(2, length, device), min(cut, length)
    one, other = (Transducer(net, 2, x.device, x.dtype, 4) for net in nets)
    begun = one.push(x[:, :cut])
    other.pending, other.progress, other.skip = one.pending.clone(), one.progress, one.skip
    other.state = State.load(nets[1].spec, one.state.save(), 2, device)
    close(torch.cat([begun, other.push(x[:, cut:]), other.flush()], 1), stream(nets[1], x, [(0, length)]))


def everything(device: str) -> Sequential:
    """Whatever a kernel does: windows in one stretch and in several, of two kinds, several rows of a window, two
    targets, what is added, LSTMs, more columns than a program has, and fewer."""
    torch.manual_seed(5)
    branch = Sequential([Snake(40), Conv1d(40, 33, 3, dilation=3, padding=Padding(6)), Conv1d(33, 40, 1)])
    layers = [
        Conv1d(CHANNELS, 40, 11, padding=Padding(7, 3, "reflect")),
        Residual(branch, Conv1d(40, 40, 1)),
        Elementwise("elu"),
        Conv1d(40, 17, 4, stride=2, padding=Padding(2)),
        LSTM(17, 2),
        Residual(Sequential([Elementwise("silu"), Conv1d(17, 17, 3, padding=Padding(2))])),
        ConvTranspose1d(17, 5, 6, stride=3, trim_left=1, trim_right=2),
        Conv1d(5, 2, 7, padding=Padding(6)),
    ]
    return Sequential(layers).to(device)


def runs(layer: Sequential, backend: str, precision: str = "float32") -> Network:
    net = Network(layer, CHANNELS, 2, 2, backend=backend)
    net.use(backend, precision)
    return net


def test_all_that_kernels_do_equals_torch_and_nothing_is_read_that_was_not_written(device, uninitialised_is_nan):
    layer, x = everything(device), signal(2, 12, device)
    close(stream(runs(layer, "triton"), x, [(0, 5), (5, 12)], 3), stream(runs(layer, "torch"), x, [(0, 12)]))


def test_a_row_has_the_same_bits_in_any_partition_and_batch(device, ordered_dot):
    torch.manual_seed(2)
    layers = [Conv1d(CHANNELS, 5, 3, padding=Padding(2)), LSTM(5, 1), ConvTranspose1d(5, 2, 4, stride=2, trim_right=2)]
    net, x = runs(Sequential(layers).to(device), "triton"), signal(5, 6, device)  # 30 rows: more than a program has
    whole = stream(net, x, [(0, 6)], 1000)
    assert torch.equal(stream(net, x[2:3], cuts(6, [1]), 2), whole[2:3])


@pytest.mark.parametrize("kind", ACTIVATIONS)
def test_activations_are_close_to_those_in_float64(device, kind):
    """Of their own size, or where that is next to nothing, of what they are computed from."""
    layer = Sequential([Conv1d(1, 1, 1), Elementwise(kind)]).to(device)
    layer.layers[0].set_weight(torch.ones(1, 1, 1), torch.zeros(1))
    net = Network(layer, 1, 1, 1, backend="triton")
    size = torch.logspace(-6, 1.5, 200)
    x = torch.cat([size, -size, torch.zeros(1), torch.linspace(-5, 5, 200), torch.tensor([1e10, -1e10])]).to(device)
    y = net.step(x[None, :, None], State(net.spec, 1, device))[0, :, 0].double()
    expected = ACTIVATIONS[kind](x.double())
    assert ((y - expected).abs() <= 1e-6 * expected.abs() + 4e-7 * x.double().abs().clamp_max(1.0)).all()
    nothing = net.step(torch.full((1, 1, 1), math.nan, device=device), State(net.spec, 1, device))
    assert nothing.isnan().all()


def test_what_no_kernel_takes_runs_in_torch(device, monkeypatch):
    layer, x = everything(device), signal(1, 4, device)
    whole = stream(runs(layer, "torch"), x, [(0, 4)])
    monkeypatch.setattr(triton_executor, "MOST", 1)
    net = runs(layer, "triton")
    assert {type(op).__name__ for op in net.program.ops if not triton_executor._has_kernel(op)} > {"Product"}
    close(stream(net, x, [(0, 4)]), whole)


# -- precision -------------------------------------------------------------------------------------------------------


def test_in_bfloat16_both_operands_are_rounded_and_nothing_else(device):
    torch.manual_seed(1)
    layer = Conv1d(40, 50, 3, padding=Padding(2)).to(device)
    with torch.no_grad():
        layer.weight.normal_()
        layer.bias.normal_()
    x = torch.randn(2, 6, 40, device=device)
    net = Network(layer, 40, 50, 1, backend="triton")
    net.use("triton", "bfloat16")
    y = stream(net, x, [(0, 6)])
    with torch.no_grad():
        layer.weight.copy_(layer.weight.bfloat16())
        close(y.double(), layer.double()(x.bfloat16().double()))


@pytest.mark.parametrize(("precision", "least"), [("tf32", 50.0), ("bfloat16", 30.0)])
def test_lower_precisions_are_near_float32(device, precision, least):
    torch.manual_seed(3)
    layers = [Conv1d(CHANNELS, 40, 11, padding=Padding(10)), Elementwise("elu"), Conv1d(40, 2, 3, padding=Padding(2))]
    layer, x = Sequential(layers).to(device), signal(2, 12, device)
    exact, low = stream(runs(layer, "torch"), x, [(0, 12)]), stream(runs(layer, "triton", precision), x, [(0, 12)])
    assert 10 * torch.log10(exact.square().mean() / (low - exact).square().mean()) > least


def test_what_it_cannot_run_is_refused_with_the_reason(device):
    net = Network(Conv1d(1, 1, 1).double().to(device), 1, 1, 1)
    with pytest.raises(BackendError, match=r"'triton' cannot run this codec: it has no arithmetic in torch\.float64"):
        net.use("triton")


def test_a_compiled_kernel_is_for_a_gpu(device, monkeypatch):
    from streamcodec_kernels import product

    monkeypatch.setattr(product, "INTERPRETED", False)
    with pytest.raises(BackendError, match="it has no way to run on cpu, only on a GPU"):
        Network(Conv1d(1, 1, 1), 1, 1, 1).use("triton")


@pytest.mark.slow
def test_kernels_of_steps_compile_for_gpus_that_are_not_here(tmp_path):
    assert "the kernels of steps compile" in compile_without_a_gpu("compile_steps.py", tmp_path)
