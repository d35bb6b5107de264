"""The value between encoder and decoder."""

import copy
import dataclasses
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from streamcodec import Codes
from streamcodec.errors import DtypeError, InputError, ShapeError


def codes(batch: int, stages: int, frames: int, scale: bool = False, length: int | None = None) -> Codes:
    data = torch.arange(batch * stages * frames).view(batch, stages, frames)
    return Codes(data, torch.rand(batch, frames) if scale else None, length)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=5), st.booleans(), st.booleans())
def test_cat_undoes_a_split(frames, scaled, with_length):
    parts = [codes(2, 3, n, scaled, 10 * n if with_length else None) for n in frames]
    joined = Codes.cat(iter(parts))
    assert joined.data.shape == (2, 3, sum(frames))
    assert joined.length == (10 * sum(frames) if with_length else None)
    start = 0
    for part in parts:
        stop = start + part.data.shape[2]
        assert torch.equal(joined.data[:, :, start:stop], part.data)
        if scaled:
            assert torch.equal(joined.scale[:, start:stop], part.scale)
        start = stop
    assert scaled or joined.scale is None


def test_cat_refuses_what_does_not_fit():
    with pytest.raises(ShapeError, match="at least one"):
        Codes.cat([])
    for other in (codes(1, 3, 2), codes(2, 4, 2)):
        with pytest.raises(ShapeError, match="different batch or number of codebooks"):
            Codes.cat([codes(2, 3, 1), other])


def test_codes_are_a_value():
    one = codes(1, 2, 3, scale=True, length=30)
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.length = 3
    assert one.shape == (1, 2, 3)
    for same in (copy.deepcopy(one), pickle.loads(pickle.dumps(one)), one.to("cpu"), dataclasses.replace(one)):
        assert same == one
    others = [
        dataclasses.replace(one, data=one.data + 1),
        dataclasses.replace(one, data=one.data[:, :1]),
        dataclasses.replace(one, scale=None),
        dataclasses.replace(one, scale=one.scale * 2),
        dataclasses.replace(one, length=None),
    ]
    for other in others:
        assert other != one
        assert one != other
    assert one != one.data.tolist()
    with pytest.raises(TypeError, match="unhashable"):
        hash(one)


INTEGERS = [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.uint16, torch.uint32]


@pytest.mark.parametrize("dtype", [*INTEGERS, "<i2", ">i2", "uint16", "int32", "int64", "uint64"], ids=str)
def test_integers_of_any_type_become_the_same_codes(dtype):
    wanted = torch.arange(6).view(1, 2, 3)
    data = wanted.numpy().astype(dtype) if isinstance(dtype, str) else wanted.to(dtype)
    assert Codes(data) == Codes(wanted)
    assert Codes(data).data.dtype == torch.int64
    assert Codes.cat([data, Codes(wanted)]) == Codes(torch.cat([wanted, wanted], 2))


def test_scale_and_length_may_be_numpys():
    found = Codes(np.zeros((1, 2, 3), np.int16), np.ones((1, 3), np.float32), np.int64(30))
    assert found == Codes(torch.zeros(1, 2, 3, dtype=torch.int64), torch.ones(1, 3), 30)
    assert type(found.length) is int


@pytest.mark.parametrize(
    ("data", "kind", "message"),
    [
        (torch.zeros(1, 2, 3), DtypeError, "float32.*whole numbers"),
        (np.zeros((1, 2, 3)), DtypeError, "float64.*whole numbers"),
        (np.zeros((1, 2, 3), bool), DtypeError, "bool.*whole numbers"),
        ([[[0]]], InputError, "list; pass Codes, or a torch tensor or NumPy array"),
        (torch.zeros(3, dtype=torch.int64), ShapeError, r"\[3\].*\[None, :, None\] if it is one frame"),
        (torch.zeros(2, 3, dtype=torch.int64), ShapeError, r"\[2, 3\].*\[None\] if it is one signal"),
        (torch.zeros(1, 1, 2, 3, dtype=torch.int64), ShapeError, r"transformers.*\[chunks, B, K, T\].*\[0\]"),
    ],
)
def test_what_is_no_codes_is_refused_when_they_are_made(data, kind, message):
    for make in (Codes, lambda data: Codes.cat([data])):
        with pytest.raises(kind, match=message):
            make(data)
    with pytest.raises(InputError, match=r"length is 1.5"):
        Codes(torch.zeros(1, 1, 1, dtype=torch.int64), None, 1.5)
