"""Which engine a session goes to: directions gather, and no engine is far ahead of another."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamcodec.engine.placement import AHEAD, place
from streamcodec.engine.session import DIRECTIONS

KINDS = st.tuples(st.sampled_from(["a", "b"]), st.sampled_from(list(DIRECTIONS)))
# Sessions that come, and those that go: a number says which of those that are there.
EVENTS = st.lists(st.one_of(KINDS, st.integers(0, 1000)), max_size=80)


def load(sessions):
    return sum(sum(DIRECTIONS[direction]) for _, direction in sessions)


def begin(engines, *kinds):
    for kind in kinds:
        engines[place(kind, engines)].append(kind)
    return engines


def empty(count):
    return [[] for _ in range(count)]


def directions(codec="a"):
    return (codec, "encode"), (codec, "decode")


@given(st.integers(1, 5), EVENTS)
def test_no_session_goes_to_an_engine_that_is_far_ahead(count, events):
    engines = empty(count)
    for event in events:
        there = [(engine, kind) for engine in engines for kind in engine]
        if not isinstance(event, int):
            loads = [load(engine) for engine in engines]
            chosen = place(event, engines)
            assert loads[chosen] + load([event]) <= min(loads) + max(AHEAD, load([event]))
            begin(engines, event)
        elif there:
            engine, kind = there[event % len(there)]
            engine.remove(kind)


@given(st.integers(1, 5), st.lists(KINDS, max_size=80))
def test_while_none_goes_all_engines_have_as_much_to_do_but_for_a_few_sessions(count, kinds):
    loads = [load(engine) for engine in begin(empty(count), *kinds)]
    assert max(loads) - min(loads) <= AHEAD


@pytest.mark.parametrize("together", [1, 2, AHEAD])
@pytest.mark.parametrize("count", [2, 4])
def test_each_engine_has_one_direction_of_conversations_that_begin_together_few_at_a_time(count, together):
    encode, decode = directions()
    engines = begin(empty(count), *([encode] * together + [decode] * together) * 10)
    if together == 1 or count == 2:
        assert all(len(set(engine)) == 1 for engine in engines)
    assert {kind for engine in engines for kind in engine} == {encode, decode}


def test_sessions_that_all_do_the_same_are_spread_evenly():
    for kind in (("a", "encode"), ("a", "roundtrip")):
        assert [len(engine) for engine in begin(empty(3), *[kind] * 30)] == [10, 10, 10]


def test_a_roundtrip_goes_to_the_least_loaded():
    encode, decode = directions()
    engines = [[encode] * 3, [decode] * 2, [("b", "roundtrip")] * 2]
    assert place(("a", "roundtrip"), engines) == 1
    assert place(("b", "roundtrip"), engines) == 1


def test_an_engine_without_sessions_is_taken_before_one_that_does_as_much_else():
    encode, decode = directions()
    assert place(encode, [[("a", "roundtrip")], []]) == 1
    assert place(encode, [[encode], []]) == 0
    assert place(encode, [[decode], []]) == 1


def test_a_session_goes_where_most_is_done_with_its_weights_and_not_to_another_codecs():
    encode, decode = directions()
    engines = [[encode] * 4 + [decode], [decode] * 5, [("b", "decode")] * 3]
    assert place(decode, engines) == 1
    assert place(encode, engines) == 0
    assert place(("b", "decode"), engines) == 2


@pytest.mark.parametrize("seed", range(3))
def test_what_was_mixed_is_gathered_as_conversations_come_and_go(seed):
    random = Random(seed)
    encode, decode = directions()
    engines = [[encode, decode] * 5, [encode, decode] * 5]
    homes = [{encode: engine, decode: engine} for engine in engines for _ in range(5)]  # of a conversation's sessions
    for _ in range(200):
        for kind, engine in homes.pop(random.randrange(10)).items():
            engine.remove(kind)
        homes.append({})
        for kind in random.sample((encode, decode), 2):
            homes[-1][kind] = engines[place(kind, engines)]
            homes[-1][kind].append(kind)
    assert max(min(map(engine.count, (encode, decode))) for engine in engines) <= 1
