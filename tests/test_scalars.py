"""Numbers from callers."""

import decimal
import fractions
import math
from typing import Any

import numpy as np
import pytest
import torch

from streamcodec.errors import InputError
from streamcodec.scalars import real, whole

WHOLE: list[Any] = [2, np.int64(2), np.uint8(2), np.array(2), torch.tensor(2), torch.tensor(2, dtype=torch.int16)]
REAL: list[Any] = [*WHOLE, 2.0, np.float32(2), np.float16(2), np.array(2.0), torch.tensor(2.0), fractions.Fraction(2)]
NO_NUMBERS: list[Any] = [True, "2", b"2", None, [2], np.array([2]), torch.tensor([2, 2]), 2j, torch.zeros(0)]


@pytest.mark.parametrize("value", [*REAL, decimal.Decimal(2)], ids=repr)
def test_a_number_is_one_whoever_made_it(value):
    found = real(value, "it")
    assert (type(found), found) == (float, 2.0)


@pytest.mark.parametrize("value", WHOLE, ids=repr)
def test_a_whole_number_is_one_whoever_made_it(value):
    found = whole(value, "it")
    assert (type(found), found) == (int, 2)


@pytest.mark.parametrize("value", NO_NUMBERS, ids=repr)
def test_what_is_no_number_is_named(value):
    for function in (real, whole):
        with pytest.raises(InputError, match=r"^it is .*must be"):
            function(value, "it")


@pytest.mark.parametrize("value", [0, -1, 2.0, 1.5, np.float64(2), torch.tensor(2.0), math.nan, math.inf], ids=repr)
def test_what_is_not_whole_or_too_small_is_refused(value):
    with pytest.raises(InputError, match=r"it is .*whole number of at least 1"):
        whole(value, "it")
    assert whole(np.int8(0), "it", 0) == 0
