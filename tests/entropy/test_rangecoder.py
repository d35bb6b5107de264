"""The range coder: what goes in comes out, in as many bytes as there is to tell, plus one."""

import math
from itertools import accumulate

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamcodec.entropy.rangecoder import MAX_TOTAL, RangeDecoder, RangeEncoder

SYMBOLS = st.lists(
    st.lists(st.integers(1, MAX_TOTAL // 8), min_size=1, max_size=8).flatmap(
        lambda table: st.tuples(st.just(table), st.integers(0, len(table) - 1))
    ),
    max_size=60,
)


def coded(symbols):
    encoder = RangeEncoder()
    for table, symbol in symbols:
        ends = list(accumulate(table))
        encoder.put(ends[symbol] - table[symbol], table[symbol], ends[-1])
    return encoder.finish()


@given(SYMBOLS)
def test_symbols_come_back(symbols):
    data = coded(symbols)
    decoder = RangeDecoder(data)
    assert [decoder.take(list(accumulate(table))) for table, _ in symbols] == [symbol for _, symbol in symbols]
    assert not data.endswith(b"\0")


@given(SYMBOLS)
def test_it_takes_the_bits_that_there_are_to_tell_and_at_most_a_byte_more(symbols):
    bits = sum(math.log2(sum(table) / table[symbol]) for table, symbol in symbols)
    assert 8 * len(coded(symbols)) <= bits * (1 + 2**-8) + 9


@pytest.mark.parametrize("table", [[1], [1, MAX_TOTAL - 1], [MAX_TOTAL - 1, 1], [MAX_TOTAL // 2] * 2])
@pytest.mark.parametrize("which", ["first", "last"])
def test_the_most_and_the_least_likely_a_thousand_times(table, which):
    symbol = 0 if which == "first" else len(table) - 1
    decoder = RangeDecoder(coded([(table, symbol)] * 1000))
    ends = list(accumulate(table))
    assert {decoder.take(ends) for _ in range(1000)} == {symbol}


@given(st.binary(max_size=40))
def test_any_bytes_give_symbols_of_the_table(data):
    decoder = RangeDecoder(data)
    table = [5, 1, 70000, 3]
    assert all(0 <= decoder.take(list(accumulate(table))) < 4 for _ in range(50))


def test_even_symbols_of_ten_bits_take_ten_bits():
    symbols = np.random.default_rng(0).integers(0, 1024, 400).tolist()
    assert len(coded([([7] * 1024, symbol) for symbol in symbols])) in (500, 501)
