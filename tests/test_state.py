"""State trees: every walk reaches every leaf, and touches nothing else."""

from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from streamcodec import state as states
from streamcodec.errors import StateError
from streamcodec.state import TensorSpec


class Pair(NamedTuple):
    first: Any
    second: Any


leaf = st.builds(
    TensorSpec,
    st.lists(st.integers(0, 3), max_size=2).map(tuple),
    st.sampled_from([torch.float32, torch.float64, torch.int64]),
)
trees = st.recursive(
    st.just(()) | leaf,
    lambda inner: st.lists(inner, max_size=3).map(tuple) | st.builds(Pair, inner, inner),
    max_leaves=6,
)


def tensors(tree: Any) -> list[Tensor]:
    return [tensor for _, tensor in states.leaves(tree)]


def filled(spec: Any, batch: int, seed: int) -> Any:
    """A state of random numbers."""
    generator = torch.Generator().manual_seed(seed)
    state = states.init(spec, batch)
    for tensor in tensors(state):
        tensor.copy_(torch.randint(-1000, 1000, tensor.shape, generator=generator))
    return state


def equal(one: Any, other: Any) -> bool:
    pairs = list(zip(states.leaves(one), states.leaves(other), strict=True))
    return all(a == b and x.dtype == y.dtype and torch.equal(x, y) for (a, x), (b, y) in pairs)


def structure(tree: Any) -> Any:
    """The tree without its leaves: types of the nodes included."""
    if isinstance(tree, (Tensor, TensorSpec)):
        return None
    return type(tree), [structure(child) for child in tree]


@given(trees, st.integers(1, 4))
def test_init_is_zeros_of_the_spec_and_nbytes_counts_them(spec, batch):
    state = states.init(spec, batch)
    assert structure(state) == structure(spec)
    for tensor, wanted in zip(tensors(state), tensors(spec), strict=True):
        assert tensor.shape == (batch, *wanted.shape)
        assert tensor.dtype == wanted.dtype
        assert not tensor.any()
    assert batch * states.nbytes(spec) == sum(tensor.untyped_storage().nbytes() for tensor in tensors(state))


@given(trees)
def test_paths_are_unique_and_lead_to_the_leaf(spec):
    paths = [path for path, _ in states.leaves(spec, "root")]
    assert len(set(paths)) == len(paths)
    for path, found in states.leaves(spec, "root"):
        node = spec
        for step in path.split(".")[1:]:
            node = getattr(node, step) if hasattr(node, "_fields") else node[int(step)]
        assert node is found


@given(trees, st.integers(1, 5), st.data())
def test_select_then_assign_moves_exactly_the_chosen_rows(spec, batch, data):
    rows = data.draw(st.lists(st.integers(0, batch - 1), unique=True))
    state = filled(spec, batch, 0)
    before = states.clone(state)
    part = states.select(state, rows)
    assert structure(part) == structure(spec)
    for tensor, whole in zip(tensors(part), tensors(state), strict=True):
        assert torch.equal(tensor, torch.stack([whole[row] for row in rows]) if rows else whole[:0])
        tensor.add_(1)
    assert equal(state, before), "select must copy"
    states.assign(state, rows, part)
    idle = [row for row in range(batch) if row not in rows]
    assert equal(states.select(state, idle), states.select(before, idle))
    assert equal(states.select(state, rows), part)


@given(trees, st.integers(1, 5), st.data())
def test_reset_gives_rows_the_initial_state_and_leaves_the_others(spec, batch, data):
    rows = data.draw(st.lists(st.integers(0, batch - 1), unique=True))
    state, initial = filled(spec, batch, 1), filled(spec, 1, 2)
    before = states.clone(state)
    states.reset(state, rows, initial)
    idle = [row for row in range(batch) if row not in rows]
    assert equal(states.select(state, idle), states.select(before, idle))
    assert equal(states.select(state, rows), states.expand(initial, len(rows)))


@given(trees, st.integers(1, 3))
def test_clone_and_expand_share_no_memory(spec, batch):
    state = filled(spec, 1, 3)
    before = states.clone(state)
    for copy in (states.clone(state), states.expand(state, batch), states.to(states.expand(state, batch), "cpu")):
        for tensor in tensors(copy):
            tensor.add_(1)
    assert equal(state, before)
    rows = states.expand(state, batch)
    for tensor in tensors(rows):
        tensor[:1].add_(1)
    assert equal(states.select(rows, range(1, batch)), states.expand(before, batch - 1))


@given(trees, st.integers(1, 3), st.sampled_from(["", "state"]))
def test_load_inverts_save(spec, batch, prefix):
    state = filled(spec, batch, 4)
    saved = states.save(state, prefix)
    assert all(tensor.is_contiguous() for tensor in saved.values())
    loaded = states.load(spec, saved, batch, "cpu", prefix)
    assert structure(loaded) == structure(spec)
    assert equal(loaded, state)
    for tensor in tensors(loaded):
        tensor.add_(1)
    assert equal(state, filled(spec, batch, 4)), "load must copy"


SPEC = Pair((TensorSpec((2, 3), torch.float32), ()), TensorSpec((1,), torch.int64))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda saved: saved.pop("first.0"), r"lacks the tensor 'first\.0'"),
        (lambda saved: saved.update(third=torch.zeros(1)), "unexpected tensor 'third'"),
        (lambda saved: saved.update({"first.0": torch.zeros(2, 2, 4)}), r"\[2, 2, 4\].*\[2, 2, 3\]"),
        (lambda saved: saved.update(second=torch.zeros(2, 1)), r"torch\.float32.*torch\.int64"),
        (lambda saved: saved.update(second=torch.zeros(3, 1, dtype=torch.int64)), r"\[3, 1\].*\[2, 1\]"),
    ],
)
def test_load_refuses_what_the_spec_does_not_say(change, message):
    saved = states.save(states.init(SPEC, 2))
    change(saved)
    with pytest.raises(StateError, match=message):
        states.load(SPEC, saved, 2)
