"""What a convolution sees beyond the ends, from no more than a stream still has in hand."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from stacks import MODES, padded, rows

from streamcodec.errors import ConfigError
from streamcodec.nn.padding import encodec_padding, rows_outside
from streamcodec.program import Padding

paddings = st.builds(Padding, st.integers(0, 6), st.integers(0, 6), MODES, st.booleans())


@given(pad=paddings, length=st.integers(1, 20), stride=st.integers(1, 5))
def test_rows_outside_make_the_padded_signal(pad, length, stride):
    x = rows(2, length)
    before, after = rows_outside(x, pad, stride) if pad.mode != "constant" else zeros_outside(x, pad, stride)
    whole = torch.cat([before, x, after], 1)
    assert torch.equal(whole, padded(x.transpose(1, 2), pad, stride).transpose(1, 2))
    assert not pad.extend or (length + after.shape[1] - pad.right) % stride == 0


def zeros_outside(x, pad, stride):
    return x.new_zeros(2, pad.left, 3), x.new_zeros(2, pad.right_total(x.shape[1], stride), 3)


@given(pad=paddings, extra=st.integers(0, 9))
def test_the_start_needs_no_more_than_rows_needed(pad, extra):
    """Once the signal is longer than the padding, its first rows alone decide, whatever follows."""
    index, length = torch.arange(-pad.left, 0), torch.tensor(max(pad.left, pad.right) + 1 + extra)
    if pad.mirrored:
        source, zero = pad.source(index, length, 1)
        assert int(source.max()) == pad.rows_needed() - 1
        assert not zero.any()
    assert (pad.rows_needed() > 0) == pad.mirrored


@given(pad=paddings, length=st.integers(1, 20), stride=st.integers(1, 5))
def test_the_end_needs_no_more_than_its_memory(pad, length, stride):
    right = pad.right_total(length, stride)
    index = torch.arange(length, length + right)
    if pad.mode != "constant" and right:
        source, _ = pad.source(index, torch.tensor(length), stride)
        assert int((index - source).max()) <= pad.memory(stride)


@given(kernel=st.integers(1, 9), stride=st.integers(1, 4), dilation=st.integers(1, 3), causal=st.booleans(), mode=MODES)
def test_encodec_padding_gives_one_row_per_stride(kernel, stride, dilation, causal, mode):
    kernel = max(kernel, stride)
    pad = encodec_padding(kernel, stride, dilation, causal=causal, mode=mode)
    span = (kernel - 1) * dilation + 1
    assert pad.left + pad.right == span - stride
    assert 0 <= pad.right <= pad.left
    assert not (causal and pad.right)
    for length in range(1, 12):
        total = length + pad.left + pad.right_total(length, stride)
        assert (total - span) // stride + 1 == -(-length // stride)


def test_an_unknown_mode_is_refused():
    with pytest.raises(ConfigError, match=r"circular.*constant, reflect, replicate"):
        encodec_padding(3, 1, 1, causal=True, mode="circular")
