"""Samples from callers."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from streamcodec.errors import DtypeError, NonFiniteError, ShapeError
from streamcodec.pcm import as_float


@given(
    st.sampled_from(["float32", "float64", "int16", ">f4", ">i2"]),
    st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(0, 40)),
    st.booleans(),
    st.sampled_from([slice(None), slice(None, None, -1), slice(None, None, 2)]),
    st.integers(0, 2**32 - 1),
)
def test_as_float_scales_copies_and_leaves_the_caller_alone(dtype, shape, is_torch, view, seed):
    raw = np.random.default_rng(seed).integers(-32768, 32768, shape).astype(np.int16)
    expected = (raw / 32768).astype(np.float32)[:, :, view]
    pcm = (raw if dtype.endswith(("int16", "i2")) else raw / 32768).astype(dtype)[:, :, view]
    if is_torch:
        pcm = torch.from_numpy(np.ascontiguousarray(pcm).astype(np.dtype(dtype).newbyteorder("=")))
    else:
        pcm.flags.writeable = False
    before = pcm.numpy().copy() if is_torch else pcm.copy()
    result = as_float(pcm)
    assert result.dtype == torch.float32
    np.testing.assert_array_equal(result.numpy(), expected)
    result.fill_(7)
    np.testing.assert_array_equal(np.asarray(pcm), before)


def test_as_float_cuts_the_graph():
    assert not as_float(torch.zeros(1, 1, 4, requires_grad=True)).requires_grad


@pytest.mark.parametrize("convert", [np.asarray, torch.as_tensor])
@pytest.mark.parametrize("dtype", ["uint8", "int32", "int64", "float16", "bool", "complex64"])
def test_as_float_refuses_other_dtypes(convert, dtype):
    with pytest.raises(DtypeError, match=rf"voice is .*{dtype}.*float32, float64 or int16"):
        as_float(convert(np.zeros((1, 1, 8), dtype)), name="voice")


def test_as_float_refuses_other_types():
    with pytest.raises(DtypeError, match="pcm is a list"):
        as_float([[[0.0]]])


@pytest.mark.parametrize(
    ("shape", "channels", "hint"),
    [
        ((8,), None, r"\[None, None\]"),
        ((2, 8), None, r"\[None\]"),
        ((1, 2, 8), 1, r"\[batch, 1, samples\]"),
        ((1, 8, 2), 2, "swap"),
        ((1, 0, 8), None, "channels"),
        ((0, 1, 8), 1, "batch"),
        ((1, 1, 1, 8), None, "batch"),
        ((), None, "batch"),
    ],
)
def test_as_float_names_the_shape(shape, channels, hint):
    with pytest.raises(ShapeError, match=hint) as caught:
        as_float(np.zeros(shape, np.float32), channels=channels)
    assert str(list(shape)) in str(caught.value)


@given(st.sampled_from([np.nan, np.inf, -np.inf]), st.integers(1, 5), st.booleans(), st.integers(0, 10**6))
def test_as_float_counts_and_places_what_is_not_finite(value, count, is_torch, seed):
    rng = np.random.default_rng(seed)
    pcm = rng.standard_normal((2, 2, 30)).astype(np.float32)
    places = sorted(rng.choice(pcm.size, count, replace=False))
    pcm.flat[places] = value
    row, channel, sample = np.unravel_index(places[0], pcm.shape)
    with pytest.raises(NonFiniteError, match=f"{count} samples .* row {row}, channel {channel}, sample {sample};"):
        as_float(torch.from_numpy(pcm) if is_torch else pcm)


def test_as_float_finds_infinities_that_cancel_and_those_that_narrowing_makes():
    with pytest.raises(NonFiniteError, match="holds 2 samples"):
        as_float(np.array([[[np.inf, -np.inf]]]))
    with pytest.raises(NonFiniteError, match="holds 1 samples"):
        as_float(np.array([[[0.0, 1e300]]]))


def test_as_float_takes_large_finite_samples():
    large = np.full((1, 1, 1000), 3e38, np.float32)  # their sum overflows
    np.testing.assert_array_equal(as_float(large).numpy(), large)
