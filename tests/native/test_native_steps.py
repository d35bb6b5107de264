"""Steps in C++ beside the same steps in torch: random stacks of layers, on every instruction set."""

import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import cuts
from sets import compiled, each_set, on
from stacks import (
    ACTIVATIONS,
    CHANNELS,
    Pair,
    Row,
    attention,
    conv,
    conv_transpose,
    cosine,
    elu,
    lstm,
    rows,
    sequence,
    stacks,
    step_together,
    stream,
)
from torch import Tensor

from streamcodec.errors import BackendError, DtypeError, ShapeError
from streamcodec.native_executor import lacks
from streamcodec.nn.conv import Conv1d
from streamcodec.nn.layer import Elementwise, Sequential
from streamcodec.nn.noise import TimesNoise
from streamcodec.nn.transducer import Network, Transducer
from streamcodec.nn.window_attention import WindowAttention
from streamcodec.program import Edges, Padding
from streamcodec.state import Lent, State

pieces = st.lists(st.integers(0, 40), max_size=15)


def networks(pair: Pair, frame: int = 1, look_ahead: int = 0) -> tuple[Network, Network]:
    """The pair's layer in float32, run by torch and natively."""
    layer = copy.deepcopy(pair.layer).float()
    sizes = (CHANNELS, CHANNELS, pair.down * frame, look_ahead)
    return Network(layer, *sizes, backend="torch"), Network(layer, *sizes, backend="native")


def runs(pair: Pair) -> bool:
    """Whether the native executor has all that a stack needs."""
    return not lacks(networks(pair)[0].program)


def close(actual: Tensor, expected: Tensor) -> None:
    """Two orders of arithmetic in float32."""
    assert actual.shape == expected.shape
    size = max(1.0, float(expected.abs().max())) if expected.numel() else 1.0
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-5 * size)


@each_set
@settings(max_examples=30)
@given(
    pair=stacks().filter(runs),
    length=st.integers(0, 90),
    sizes=pieces,
    frame=st.integers(1, 3),
    ahead=st.integers(0, 20),
    max_frames=st.integers(1, 5),
)
def test_it_equals_torch_and_any_partition_gives_the_same_bits(name, pair, length, sizes, frame, ahead, max_frames):
    in_torch, native = networks(pair, frame, ahead)
    x = rows(3, length, length).float()
    with on(name):
        whole = stream(native, x, [(0, length)], 1000)
        cut = stream(native, x, cuts(length, sizes), max_frames)
        alone = stream(native, x[1:2], cuts(length, sizes), 1)
    close(whole, stream(in_torch, x, [(0, length)]))
    assert torch.equal(cut, whole)
    assert torch.equal(alone, whole[1:2])


@each_set
@settings(max_examples=20)
@given(
    pair=stacks().filter(runs),
    lengths=st.lists(st.integers(0, 60), min_size=1, max_size=4),
    frame=st.integers(1, 2),
    known=st.booleans(),
    data=st.data(),
)
def test_neighbours_at_other_places_change_no_bit(name, pair, lengths, frame, known, data):
    """Some start, some end, and what surrounds a signal is NaN."""
    _, net = networks(pair, frame)
    with on(name):
        streams = [Row(net, rows(1, length, length).float(), known) for length in lengths]
        state = State(net.spec, len(streams))
        while not all(row.done for row in streams):
            waiting = [slot for slot, row in enumerate(streams) if not row.done]
            slots = data.draw(st.lists(st.sampled_from(waiting), unique=True, min_size=1), label="slots")
            frames = data.draw(st.integers(1, 3), label="frames")
            if any(streams[slot].frames == 0 for slot in slots):
                frames = max(frames, net.prefill_frames)
            step_together(net, [streams[slot] for slot in slots], state, slots, frames)
        for length, row in zip(lengths, streams, strict=True):
            x = rows(1, length, length).float()
            assert torch.equal(row.result(), stream(net, x, [(0, length)], 1000))


@compiled
@settings(max_examples=20)
@given(pair=stacks().filter(runs), length=st.integers(1, 60), cut=st.integers(0, 60), native_first=st.booleans())
def test_a_state_goes_on_in_the_other_executor(pair, length, cut, native_first):
    nets = networks(pair)[:: -1 if native_first else 1]
    x, cut = rows(2, length, length).float(), min(cut, length)
    one, other = (Transducer(net, 2, x.device, x.dtype, 4) for net in nets)
    first = one.push(x[:, :cut])
    other.pending, other.progress, other.skip = one.pending.clone(), one.progress, one.skip
    other.state = State.load(nets[1].spec, one.state.save(), 2)
    close(torch.cat([first, other.push(x[:, cut:]), other.flush()], 1), stream(nets[1], x, [(0, length)]))


WIDE = 37
TALL = 6000


def wide(kind: str) -> Pair:
    """Layers of more channels than a vector has, and than a panel."""
    torch.manual_seed(3)
    layers = {
        "convolution": lambda: Conv1d(CHANNELS, WIDE, 3, padding=Padding(2)),
        "narrowing": lambda: Conv1d(CHANNELS, 1, 40, padding=Padding(39)),
        "panels": lambda: Conv1d(CHANNELS, 5 * WIDE, 7, padding=Padding(6)),
        # Windows of more values than are multiplied at once, in one stretch of memory and in several.
        "tall": lambda: Conv1d(CHANNELS, WIDE, TALL // CHANNELS, padding=Padding(TALL // CHANNELS - 1)),
        "tall, apart": lambda: Conv1d(CHANNELS, WIDE, 683, dilation=2, padding=Padding(2 * 682)),
    }
    layer = layers[kind]()
    return Pair(layer, lambda x: layer(x))


@each_set
@pytest.mark.parametrize("kind", ["convolution", "narrowing", "panels", "tall", "tall, apart"])
def test_channels_need_not_fill_vectors_and_panels(name, kind):
    pair = wide(kind)  # a vector of the widest has 16
    net = Network(pair.layer, CHANNELS, pair.layer.out_channels, 1, backend="native")
    x = rows(2, 50).float()
    with on(name), torch.no_grad():
        whole = stream(net, x, [(0, 50)], 1000)
        close(whole, pair.layer(x))
        assert torch.equal(stream(net, x, cuts(50, [1, 2, 3, 5, 8]), 3), whole)


@each_set
@pytest.mark.parametrize("kind", ACTIVATIONS)
def test_activations_are_close_to_those_in_float64(name, kind):
    """Of their own size, or where that is next to nothing, of what they are computed from."""
    net = Network(Elementwise(kind), 1, 1, 1, backend="native")
    size = torch.logspace(-6, 1.5, 2000)
    x = torch.cat([size, -size, torch.zeros(1), torch.linspace(-5, 5, 2000)])
    with on(name):
        y = net.step(x[None, :, None], State(net.spec, 1))[0, :, 0].double()
    expected = ACTIVATIONS[kind](x.double())
    apart = (y - expected).abs()
    assert (apart <= 1e-6 * expected.abs() + 1e-7 * x.double().abs().clamp_max(1.0)).all()


@each_set
@pytest.mark.parametrize("heard", [0, 12345, (1 << 40) + 7])
def test_noise_has_the_very_numbers_of_torch(name, heard):
    """Its rows come late, so that those from before the signal have numbers too."""
    x, found = torch.ones(1, 3000, 1), []
    with on(name):
        for backend in ("torch", "native"):
            net = Network(Sequential([Conv1d(1, 1, 1), TimesNoise(-(1 << 62))]), 1, 1, 1, 2, backend=backend)
            net.layer.layers[0].set_weight(torch.ones(1, 1, 1), torch.zeros(1))
            state = State(net.spec, 1)
            (count,) = (leaf for leaf in state.leaves.values() if leaf.dtype == torch.int64)
            count += heard
            found.append(net.step(x, state))
            assert int(count) == heard + 3000
    assert torch.equal(*found)
    assert found[0].unique().numel() > 2990


@each_set
@pytest.mark.parametrize(("heads", "size", "window"), [(1, 2, 1), (3, 6, 5), (2, 40, 32), (1, 64, 8), (2, 66, 3)])
def test_attention_within_windows_equals_torch(name, heads, size, window):
    torch.manual_seed(heads)
    layer = WindowAttention(heads * size, window, size)
    frame = 2 * window
    nets = [Network(layer, heads * size, heads * size, frame, backend=backend) for backend in ("torch", "native")]
    x = torch.randn(2, 7 * frame + 3, heads * size)
    with on(name), torch.no_grad():
        whole = stream(nets[1], x, [(0, x.shape[1])], 1000)
        close(whole, stream(nets[0], x, [(0, x.shape[1])], 1000))
        close(whole, layer(x))
        assert torch.equal(stream(nets[1], x, cuts(x.shape[1], [1, frame, frame + 2]), 2), whole)


@each_set
def test_what_is_not_finite_stays_where_it_is(name):
    """In its stream, and behind it in time; infinity and NaN pass the activations as they do in torch."""
    in_torch, native = networks(sequence([conv(3, 1, 1, Padding(2)), elu(), conv(1, 1, 1, Padding())]))
    x = rows(2, 20).float()
    x[0, 10] = math.nan
    with on(name):
        y = stream(native, x, [(0, 20)])
    expected = stream(in_torch, x, [(0, 20)])
    torch.testing.assert_close(y, expected, rtol=0, atol=1e-5, equal_nan=True)
    assert y[0, 10].isnan().all()
    assert y[0, :10].isfinite().all()
    assert y[1].isfinite().all()


def test_a_program_is_refused_for_what_the_executor_lacks():
    stack = sequence([conv(3, 1, 1, Padding(2)), lstm(1)])
    double = Network(stack.layer, CHANNELS, CHANNELS, 1)
    assert lacks(double.program) == "arithmetic in torch.float64, only in float32"
    assert lacks(networks(cosine())[0].program) == "function Cosine.forward of rows"
    assert lacks(networks(stack)[0].program) is None


@compiled
def test_one_that_lacks_something_is_refused_by_name():
    double = Network(elu().layer, CHANNELS, CHANNELS, 1)
    with pytest.raises(BackendError, match=r"'native' cannot run this codec: it has no arithmetic in torch.float64"):
        double.use("native")


@compiled
def test_a_step_of_the_wrong_size_is_refused_and_changes_nothing():
    """In C++ it would write to memory that is not its own."""
    net = networks(sequence([conv(3, 1, 1, Padding(2)), conv_transpose(4, 2, 0, 2)]))[1]
    state, edge = State(net.spec, 2), torch.zeros(2, dtype=torch.int64)
    executor, x = net.executor, rows(2, 4).float()
    work, before = executor.workspace(2, 4), state.clone()
    for wrong in (torch.cat([x, x]), x[:, :3], x[:, :, :2]):
        with pytest.raises(ShapeError, match=r"it must be \[2 or fewer, 4, 3\]"):
            executor.step(work, wrong, state)
    with pytest.raises(DtypeError, match="it must be float32 on a CPU"):
        executor.step(work, x.double(), state)
    with pytest.raises(DtypeError, match="it must be on a CPU"):
        executor.step(work, x, state.to("meta"))
    for other in (State(net.spec, 1), State(net.spec, 3), State({}, 2)):
        with pytest.raises(ShapeError, match="the state is that of"):
            executor.step(work, x, other)
    lender = State(net.spec, 3)
    for lent in (Lent(lender, [0]), Lent(lender, [0, 3]), Lent(lender, [-1, 0]), Lent(State({}, 3), [0, 1])):
        with pytest.raises(ShapeError, match=r"the state is that of|the state has 3"):
            executor.step(work, x, lent)
    for edges in (Edges(edge[:1], edge), Edges(edge, edge.int()), Edges(edge, torch.zeros(4, dtype=torch.int64)[::2])):
        with pytest.raises(ShapeError, match=r"it must be int64 \[2\]"):
            executor.step(work, x, state, edges)
    assert torch.equal(state.bytes, before.bytes)
    executor.step(work, x, state)
    assert not torch.equal(state.bytes, before.bytes)


@compiled
@pytest.mark.parametrize("which", [0, 1], ids=["torch", "native"])
def test_of_streams_that_are_lent_those_alone_move_on_that_are_written(which):
    net = networks(sequence([conv(3, 1, 1, Padding(2)), attention(2, 2, 5), lstm(1)]))[which]
    states, x = State(net.spec, 5), rows(3, 40).float()
    alone = [State(net.spec, 1) for _ in x]
    for start in range(0, 40, 4):
        part = x[:, start : start + 4]
        before, lent = states.clone(), Lent(states, [4, 0, 3])
        y = net.step(part, lent)
        assert torch.equal(states.bytes, before.bytes)
        lent.write([0, 2], [4, 1])  # the second is nobody's any more, and the third lives elsewhere
        single = torch.cat([net.step(part[i : i + 1], alone[i]) for i in range(3)])
        close(y[0], single[0])
        for slot, other in ((0, before.bytes[0]), (2, before.bytes[2]), (3, before.bytes[3])):
            assert torch.equal(states.bytes[slot], other)
        for own, slot in ((0, 4), (2, 1)):
            for name, leaf in alone[own].leaves.items():
                torch.testing.assert_close(states.leaves[name][slot], leaf[0], rtol=0, atol=1e-5)
        states.assign([3], states.select([1]))


@compiled
def test_rows_may_lie_apart_in_memory():
    net = networks(sequence([conv(3, 1, 1, Padding(2)), lstm(1)]))[1]
    x = rows(3, 12).float()
    expected = net.step(x, State(net.spec, 3))
    apart = torch.full((3, 20, 2 * CHANNELS), math.nan)
    apart[:, 4:16, ::2] = x
    for view in (apart[:, 4:16, ::2], torch.cat([x, x], 1)[:, 12:], x.transpose(0, 1).contiguous().transpose(0, 1)):
        assert torch.equal(net.step(view, State(net.spec, 3)), expected)
