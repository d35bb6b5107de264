"""The functions by numpy's loops against torch's in double precision, and where they are used."""

import math
from collections.abc import Callable

import pytest
import torch

from streamcodec import vector_math
from streamcodec.vector_math import FROM_VALUES, Call, elu_, silu_, snake_, tanh, tanh_


def in_place(call: Callable[..., Call], *more: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
    """The function that a call made for a tensor is of that tensor."""

    def apply(x: torch.Tensor) -> torch.Tensor:
        y = torch.empty_strided(x.shape, x.stride(), dtype=x.dtype).copy_(x.detach())
        call(y, *more)()
        return y

    return apply


FUNCTIONS = {
    "elu": (in_place(elu_), torch.nn.functional.elu),
    "silu": (in_place(silu_), torch.nn.functional.silu),
    "snake": (in_place(snake_, torch.ones(1), torch.ones(1)), lambda x: x + torch.sin(x).square()),
    "tanh": (tanh, torch.tanh),
    "tanh_": (in_place(tanh_), torch.tanh),
}


def values(dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """From tiny to huge, of both signs, in rows that are not contiguous."""
    torch.manual_seed(0)
    exponents = torch.linspace(-30, 12, 2 * FROM_VALUES)
    x = torch.exp2(exponents) * torch.where(torch.rand(2 * FROM_VALUES) < 0.5, -1.0, 1.0)
    return x.to(dtype).view(-1, 64)[:, 3:61]


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("by_numpy", [True, False])
def test_float32_is_within_a_few_units_in_the_last_place(name, by_numpy, monkeypatch):
    monkeypatch.setattr(
        vector_math, "_vectorised", lambda _: by_numpy
    )  # numpy's functions are right without AVX-512 too
    function, reference = FUNCTIONS[name]
    x = values()
    before = x.clone()
    exact = reference(x.double())
    torchs_own = name == "elu" and not by_numpy  # torch 2.6 computes exp(x) - 1 as that reads
    atol = 2e-7 if name == "snake" or torchs_own else 1e-37 if name == "silu" else 1e-38  # a sigmoid has underflowed
    torch.testing.assert_close(function(x).double(), exact, rtol=5e-7, atol=atol)
    assert torch.equal(x, before)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_what_is_not_finite_comes_out_as_torch_gives_it(name, monkeypatch):
    monkeypatch.setattr(vector_math, "_vectorised", lambda _: True)
    function, reference = FUNCTIONS[name]
    x = torch.tensor([math.nan, math.inf, -math.inf, 0.0]).repeat(FROM_VALUES)
    torch.testing.assert_close(function(x), reference(x), rtol=0, atol=1e-7, equal_nan=True)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_double_small_and_differentiable_values_are_torch_s(name, monkeypatch):
    monkeypatch.setattr(vector_math, "_vectorised", lambda _: pytest.fail("numpy is not for these"))
    function, reference = FUNCTIONS[name]
    for x in (values(torch.float64), values()[:3]):
        torch.testing.assert_close(function(x), reference(x), rtol=1e-7, atol=0)
    if name == "tanh":
        assert torch.equal(function(values().requires_grad_()), reference(values()))


def test_numpy_is_used_where_it_has_avx_512_loops():
    introspect = pytest.importorskip("numpy.lib.introspect", reason="numpy before 2.1 does not tell its loops")
    for name in ("expm1", "sin", "tanh"):
        text = str(introspect.opt_func_info(func_name=f"^{name}$", signature="float32")[name])
        assert vector_math._vectorised(name) == ("'current': 'X86_V4" in text or "'current': 'AVX512_SKX" in text)
    assert not vector_math._vectorised("no such function")
