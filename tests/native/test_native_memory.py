"""Where the buffers of a step lie: what is needed at one time lies apart, and the rest shares memory."""

import gc
import math
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import cuts
from sets import compiled, each_set, on
from stacks import Pair, conv, rows, sequence, stacks, stream
from streamcodec_kernels.native.memory import HUGE, SHARED, Scratch
from test_native_steps import networks, runs

from streamcodec.native_executor import NativeExecutor, Workspace
from streamcodec.native_memory import LINE, Life, lives, placed
from streamcodec.nn.transducer import Transducer
from streamcodec.program import Padding

T = TypeVar("T")

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


def in_a_thread(what: Callable[[], T]) -> T:
    """In a new one, which has no memory yet."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(what).result()


def test_what_runs_after_each_other_shares_memory_by_thread_and_part():
    """And the memory is let go of with the last that uses it."""

    def check() -> weakref.ref[object]:
        one, other = Scratch(100), Scratch(HUGE)
        first = one.take(100).data_ptr()
        assert first % HUGE == 0
        assert other.take(1).data_ptr() == first
        assert one.take(1).data_ptr() == first + 128, "from a line of the caches on"
        assert not first <= one.take(HUGE).data_ptr() < first + HUGE, "no more are left"
        apart = [Scratch(1, 1), in_a_thread(lambda: Scratch(1)), Scratch(SHARED + 1), Scratch(HUGE + 1)]
        places = [scratch.take(1).data_ptr() for scratch in apart]
        assert len({first, *places}) == 5
        assert Scratch(1).take(1).data_ptr() == places[-1], "the larger one, from now on"
        return weakref.ref(apart[-1]._kept)

    kept = in_a_thread(check)
    gc.collect()
    assert kept() is None


@compiled
@settings(max_examples=10, deadline=None)
@given(
    pairs=st.lists(stacks().filter(runs), min_size=2, max_size=2),
    sizes=st.lists(st.integers(1, 12), min_size=1, max_size=8),
)
def test_networks_whose_steps_share_memory_do_not_disturb_each_other(pairs: list[Pair], sizes: list[int]):
    nets = [networks(pair)[1] for pair in pairs]
    each = [rows(2, sum(sizes), i).float() for i in range(2)]
    expected = [stream(net, x, cuts(sum(sizes), sizes), 4) for net, x in zip(nets, each, strict=True)]
    streams = [Transducer(net, 2, torch.device("cpu"), torch.float32, 4) for net in nets]
    made: list[list[torch.Tensor]] = [[], []]
    for first, last in cuts(sum(sizes), sizes):
        for i, of in enumerate(streams):
            made[i].append(of.push(each[i][:, first:last]))
    for i, of in enumerate(streams):
        assert torch.equal(torch.cat([*made[i], of.flush()], 1), expected[i])
