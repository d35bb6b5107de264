"""What a convolution sees beyond the ends, from no more than a stream still has in hand."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from stacks import MODES, padded, rows

from streamcodec.errors import ConfigError
from streamcodec.nn.padding import Padding, encodec_padding, rows_after, rows_before

paddings = st.builds(Padding, st.integers(0, 6), st.integers(0, 6), MODES, st.booleans())


@given(pad=paddings, length=st.integers(1, 20), stride=st.integers(1, 5))
def test_rows_before_and_after_make_the_padded_signal(pad, length, stride):
    x = rows(2, length)
    right = pad.right_total(length, stride)
    whole = torch.cat([rows_before(x, pad, length, right), x, rows_after(x, pad, length, right)], 1)
    assert torch.equal(whole, padded(x.transpose(1, 2), pad, stride).transpose(1, 2))
    assert not pad.extend or (length + right - pad.right) % stride == 0


@given(pad=paddings, extra=st.integers(0, 9))
def test_the_start_needs_no_more_than_rows_needed(pad, extra):
    """Once the signal is longer than the padding, its first rows alone decide, whatever follows."""
    needed = pad.rows_needed()
    length = max(pad.left, pad.right) + 1 + extra
    x = rows(1, length)
    assert torch.equal(rows_before(x[:, :needed], pad, length, pad.right), rows_before(x, pad, length, pad.right))
    assert (needed > 0) == pad.mirrored


@given(pad=paddings, length=st.integers(1, 20), stride=st.integers(1, 5), kept=st.integers(1, 20))
def test_the_end_needs_one_row_more_than_it_mirrors(pad, length, stride, kept):
    x = rows(1, length)
    right = pad.right_total(length, stride)
    tail = x[:, -max(kept, right + 1) :]
    assert torch.equal(rows_after(tail, pad, length, right), rows_after(x, pad, length, right))


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
