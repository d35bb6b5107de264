"""One rounding to int16, in NumPy and in torch; tests/native has that in C++."""

import numpy as np
import pytest
import torch
from int16_edges import EDGES, INFINITE, expected

from streamcodec.int16 import INT16_SCALE, rounded
from streamcodec.pcm import as_int16


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_half_step_and_its_neighbours_are_rounded_alike(dtype):
    wanted = expected(EDGES)
    assert {-32768, -1, 0, 1, 32767} <= {*wanted.tolist()}
    samples = EDGES.astype(dtype)
    assert rounded(samples).dtype == np.int16
    np.testing.assert_array_equal(rounded(samples), wanted)
    assert torch.equal(as_int16(torch.from_numpy(samples)), torch.from_numpy(wanted))


@pytest.mark.parametrize("shape", [(0,), (2, 0), (1, 3), (2, 1, 2)])
def test_what_is_not_finite_is_clipped_in_any_shape(shape):
    samples = np.resize(INFINITE, shape)
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(rounded(samples), expected(samples.ravel()).reshape(shape))
    assert torch.equal(as_int16(torch.from_numpy(samples)), torch.from_numpy(expected(samples.ravel()).reshape(shape)))


def test_int16_comes_back_and_nothing_given_is_changed():
    whole = np.arange(-32768, 32768).astype(np.int16)
    samples = whole * INT16_SCALE
    assert samples.dtype == np.float32
    samples.flags.writeable = False
    np.testing.assert_array_equal(rounded(samples), whole)
    tensor = torch.from_numpy(whole * INT16_SCALE)
    assert torch.equal(as_int16(tensor), torch.from_numpy(whole))
    assert torch.equal(tensor, torch.from_numpy(whole * INT16_SCALE))
    assert as_int16(torch.from_numpy(whole)).data_ptr() == whole.ctypes.data
