"""The value between encoder and decoder."""

import dataclasses

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from streamcodec import Codes
from streamcodec.errors import ShapeError


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
    with pytest.raises(dataclasses.FrozenInstanceError):
        codes(1, 1, 1).length = 3
