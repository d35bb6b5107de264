"""Where the buffers of a step lie: what is needed at one time lies apart, and the rest shares memory."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import cuts
from sets import compiled, each_set, on
from stacks import Pair, conv, rows, sequence, stacks, stream
from test_native_steps import networks, runs

from streamcodec.native_executor import NativeExecutor, Workspace
from streamcodec.native_memory import LINE, Life, lives, placed
from streamcodec.program import Padding

stretches = st.lists(st.tuples(st.integers(0, 500), st.integers(0, 9), st.integers(0, 9)), max_size=12)


@given(stretches)
def test_what_lives_at_one_time_lies_apart(each):
    sizes = [size for size, _, _ in each]
    life = [Life(min(one, other), max(one, other)) for _, one, other in each]
    starts, end = placed(sizes, life)
    assert len(starts) == len(each)
    for i, start in enumerate(starts):
        assert start % LINE == 0
        assert 0 <= start <= start + sizes[i] <= end
        for j in range(i):
            together = life[i].first <= life[j].last and life[j].first <= life[i].last
            apart = start + sizes[i] <= starts[j] or starts[j] + sizes[j] <= start
            assert apart or not together
    assert end <= sum(-(-size // LINE) * LINE for size in sizes)


def test_layers_after_each_other_need_two_buffers():
    """One that is read, and one that is written."""
    _, net = networks(sequence([conv(3, 1, 1, Padding(2, 0)) for _ in range(10)]))
    life = lives(net.program)
    assert len(life) > 10
    starts, end = placed([LINE] * len(life), life)
    assert end == 2 * LINE
    assert {*starts} == {0, LINE}


@compiled
@each_set
@settings(max_examples=20)
@given(pair=stacks().filter(runs), length=st.integers(0, 60), sizes=st.lists(st.integers(0, 40), max_size=8))
def test_a_step_reads_nothing_that_another_left(name: str, pair: Pair, length: int, sizes: list[int]):
    """All memory is NaN before each step."""
    step = NativeExecutor.step

    def spoiled(self: NativeExecutor, work: Workspace, *of: Any) -> torch.Tensor:
        for memory in work.memory:
            memory.fill_(math.nan)
        return step(self, work, *of)

    _, net = networks(pair)
    x = rows(2, length, length).float()
    with on(name), pytest.MonkeyPatch.context() as patch:
        expected = stream(net, x, [(0, length)], 1000)
        patch.setattr(NativeExecutor, "step", spoiled)
        assert torch.equal(stream(net, x, cuts(length, sizes), 4), expected)
