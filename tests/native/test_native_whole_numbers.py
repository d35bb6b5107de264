"""Products of weights in int8 on tiles, in whole numbers: at least as exact as float32's own, at any size of values."""

import pytest
import torch
from int8_layers import scales, unrounded, whole_numbers
from oracles import cuts
from sets import HERE, on, shared_among
from stacks import rows, stream
from streamcodec_kernels.native import library
from torch import Tensor

from streamcodec import native_int8
from streamcodec.nn.conv import Conv1d
from streamcodec.nn.transducer import Network
from streamcodec.program import Padding
from streamcodec.state import State

pytestmark = pytest.mark.skipif("amx" not in HERE, reason="this processor has no AMX, or nothing compiles for it here")

SIZES = {"as they are": (1, 1), "with outliers": (1, 1000), "tiny": (2.0**-100, 1), "huge": (2.0**110, 1)}
# Windows that fill no tile, fill them, and need two parts; columns of less than a vector, of one panel and of several.
SHAPES = [(5, 3), (64, 32), (133, 70), (960, 320)]


def layer(height: int, columns: int) -> Conv1d:
    """Windows of one row times whole numbers, half of them 0 in one column; products with the scales are exact."""
    made = Conv1d(height, columns, 1)
    numbers = whole_numbers(height, columns)
    numbers[1::2, 1] = 0
    with torch.no_grad():
        made.weight.copy_(numbers * scales(columns))
        made.bias.copy_(torch.randn(columns))
    return made


def product(name: str, of: Conv1d, x: Tensor) -> Tensor:
    """x [B, T, K] through a layer, on an instruction set."""
    with on(name), torch.no_grad():
        net = Network(of, of.in_channels, of.out_channels, 1, backend="native")
        return net.step(x, State(net.spec, len(x)))


def in_double(of: Conv1d, x: Tensor) -> Tensor:
    return x.double() @ of.weight[0].double() + of.bias.double()


def values(height: int, size: str) -> Tensor:
    """[2, 13, K]: in one stream rows of 0, and rows that have another size than those beside them."""
    factor, outlier = SIZES[size]
    x = torch.randn(2, 13, height) * factor
    x[0, 3:5] = 0
    x[0, 7] *= 2.0**-5
    x[:, ::3, height // 2] *= outlier
    return x


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("size", SIZES)
def test_errors_are_no_larger_than_those_of_float32s_sums(shape, size):
    torch.manual_seed(1)
    of, x = layer(*shape), values(shape[0], size)
    with torch.no_grad():
        of.bias *= SIZES[size][0]
        exact = in_double(of, x)
    errors = {name: (product(name, of, x).double() - exact) / SIZES[size][0] for name in ("amx", "avx512")}
    few = 1.5 if shape[0] < 64 else 1  # sums of few values are rounded as often as digits are put together
    assert errors["amx"].square().mean() <= few * errors["avx512"].square().mean()
    # Half a unit of each value's last digit, and at most six roundings of what is put together.
    units = 1.01 * 2.0**-31 * x.double().abs().amax(2, keepdim=True) * of.weight[0].double().abs().sum(0)
    sizes = (exact - of.bias.double()).abs() + exact.abs()
    assert bool((errors["amx"].abs() * SIZES[size][0] <= units + 6 * 2.0**-24 * sizes).all())


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_is_not_and_stays_in_its_row(value):
    torch.manual_seed(2)
    of, x = layer(133, 70), torch.randn(2, 13, 133)
    clean = product("amx", of, x)
    x[0, 6, 100] = value
    y = product("amx", of, x)
    assert not y[0, 6].isfinite().any()
    y[0, 6] = clean[0, 6]
    assert torch.equal(y, clean)


@pytest.mark.parametrize(("scale", "size"), [(2.0**-126, 2.0**127), (2.0**120, 2.0**-125), (2.0**120, 2.0**-20)])
def test_extreme_scales_and_values_make_what_their_products_are(scale, size):
    """Where one alone, times a sum of whole numbers, would be no float."""
    torch.manual_seed(3)
    of = Conv1d(64, 32, 1)
    with torch.no_grad():
        of.weight.copy_(whole_numbers(64, 32) * scale)
        of.bias.zero_()
    x = (0.5 + 0.4 * torch.rand(1, 3, 64)) * size
    exact = in_double(of, x)
    torch.testing.assert_close(product("amx", of, x).double(), exact, rtol=1e-6, atol=2.0**-126)


def test_the_deepest_matrix_sums_up_without_overflow_and_a_deeper_one_stays_in_panels(monkeypatch):
    """All weights and one of the digits are the largest that there are."""
    deep = native_int8.DEEPEST
    of = Conv1d(deep, 2, 1)
    with torch.no_grad():
        of.weight.fill_(127.0)
        of.bias.zero_()
    x = torch.full((1, 1, deep), 1 + 2.0**-15)
    exact = deep * 127 * (1 + 2.0**-15)
    assert native_int8.in_whole_numbers(of.weight[0])
    torch.testing.assert_close(product("amx", of, x).double(), torch.full((1, 1, 2), exact).double(), rtol=1e-7, atol=0)
    monkeypatch.setattr(native_int8, "DEEPEST", deep - 1)
    assert torch.equal(product("amx", of, x), product("avx512", of, x))


@pytest.mark.parametrize("rounds", [False, True])
def test_a_step_shared_among_threads_has_the_bits_of_one(rounds, monkeypatch):
    monkeypatch.setattr(native_int8, "FEWEST", 0)
    torch.manual_seed(5)
    with on("amx"):
        net = unrounded() if rounds else Network(layer(133, 700), 133, 700, 1, backend="native")
        if rounds:
            net.use("native", "int8")
        x = rows(3, 210, 2).float() if rounds else torch.randn(3, 210, 133)
        alone = stream(net, x, cuts(210, [1, 2, 30, 5, 150]), 1000)
        with shared_among(3):
            for _ in range(5):
                assert torch.equal(stream(net, x, cuts(210, [1, 2, 30, 5, 150]), 1000), alone)


def test_windows_of_several_rows_are_made_numbers_by_themselves():
    """A large row changes its own windows alone."""
    torch.manual_seed(6)
    with on("amx"):
        of = Conv1d(20, 40, 3, padding=Padding(4), dilation=2)
        with torch.no_grad():
            of.weight.copy_(whole_numbers(*of.weight.shape) * 0.01)
        net, x = Network(of, 20, 40, 1, backend="native"), torch.randn(1, 30, 20)
        assert {"int8_tiles"} <= {name for op in net.executor.weights for part in op for name in part}
        clean = stream(net, x, [(0, 30)], 1000)
        x[0, 10] *= 2.0**40
        y = stream(net, x, cuts(30, [1, 3, 2]), 1)
    for row in (10, 12, 14):
        assert not torch.equal(y[:, row], clean[:, row])
        y[:, row] = clean[:, row]
    assert torch.equal(y, clean)


def test_the_set_is_known_by_its_name():
    with on("amx"):
        assert library.chosen().tiles
    with on("avx512"):
        assert not library.chosen().tiles
