"""States: whatever is done to one reaches every leaf, and touches nothing else."""

import copy
import io

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from streamcodec.errors import StateError
from streamcodec.state import Spec, State, TensorSpec, nbytes

leaf = st.builds(
    TensorSpec,
    st.lists(st.integers(1, 3), max_size=2).map(tuple),
    st.sampled_from([torch.float32, torch.float64, torch.int64]),
)
specs = st.dictionaries(st.sampled_from(["0.history", "1.branch.2.history", "1.delay", "hidden.0", "cell.0"]), leaf)


def filled(spec: Spec, batch: int, seed: int) -> State:
    """A state of random numbers."""
    generator = torch.Generator().manual_seed(seed)
    state = State(spec, batch)
    for tensor in state.tensors:
        tensor.copy_(torch.randint(-1000, 1000, tensor.shape, generator=generator))
    return state


def equal(one: State, other: State) -> bool:
    assert one.leaves.keys() == other.leaves.keys()
    return all(torch.equal(tensor, other.leaves[name]) for name, tensor in one.leaves.items())


@given(specs, st.integers(1, 4))
def test_a_new_state_is_zeros_of_the_spec_and_nbytes_counts_them(spec, batch):
    state = State(spec, batch)
    assert list(state.leaves) == list(spec)
    for name, tensor in state.leaves.items():
        assert tensor.shape == (batch, *spec[name].shape)
        assert tensor.dtype == spec[name].dtype
        assert not tensor.any()
    assert state.batch == batch
    assert batch * nbytes(spec) == state.bytes.untyped_storage().nbytes()
    assert nbytes(spec) >= sum(wanted.nbytes for wanted in spec.values())


@given(specs, st.integers(1, 4))
def test_leaves_are_the_bytes_and_share_none_of_them(spec, batch):
    state = filled(spec, batch, 0)
    for tensor in state.tensors:
        before = state.clone()
        tensor.add_(1)
        changed = [name for name in spec if not torch.equal(state.leaves[name], before.leaves[name])]
        assert len(changed) == 1
    assert equal(State.of(spec, state.bytes), state)


@given(specs, st.integers(1, 5), st.data())
def test_select_then_assign_moves_exactly_the_chosen_rows(spec, batch, data):
    rows = data.draw(st.lists(st.integers(0, batch - 1), unique=True))
    state = filled(spec, batch, 0)
    before = state.clone()
    part = state.select(rows)
    for name, tensor in part.leaves.items():
        whole = state.leaves[name]
        assert torch.equal(tensor, torch.stack([whole[row] for row in rows]) if rows else whole[:0])
        tensor.add_(1)
    assert equal(state, before), "select must copy"
    state.assign(rows, part)
    idle = [row for row in range(batch) if row not in rows]
    assert equal(state.select(idle), before.select(idle))
    assert equal(state.select(rows), part)


@given(specs, st.integers(1, 5), st.data())
def test_one_stream_can_be_assigned_to_many_rows(spec, batch, data):
    rows = data.draw(st.lists(st.integers(0, batch - 1), unique=True))
    state, initial = filled(spec, batch, 1), filled(spec, 1, 2)
    before = state.clone()
    state.assign(rows, initial)
    idle = [row for row in range(batch) if row not in rows]
    assert equal(state.select(idle), before.select(idle))
    assert equal(state.select(rows), initial.expand(len(rows)))


@given(specs, st.integers(1, 3))
def test_copies_share_no_memory_and_rows_do(spec, batch):
    state = filled(spec, 1, 3)
    before = state.clone()
    for other in (state.clone(), state.expand(batch), state.expand(batch).to("cpu"), state.to("cpu")):
        for tensor in other.tensors:
            tensor.add_(1)
    assert equal(state, before)
    many = state.expand(batch)
    for tensor in many.rows(slice(0, 1)).tensors:
        tensor.add_(1)
    assert equal(many.select(range(1, batch)), before.expand(batch - 1))
    assert all(torch.equal(many.leaves[name][0], tensor[0] + 1) for name, tensor in before.leaves.items())


@given(specs, st.integers(1, 3), st.sampled_from(["", "state."]))
def test_load_inverts_save(spec, batch, prefix):
    state = filled(spec, batch, 4)
    saved = state.save(prefix)
    assert all(tensor.is_contiguous() for tensor in saved.values())
    loaded = State.load(spec, saved, batch, "cpu", prefix)
    assert equal(loaded, state)
    for tensor in loaded.tensors:
        tensor.add_(1)
    for tensor in saved.values():
        tensor.add_(2)
    assert equal(state, filled(spec, batch, 4)), "save and load must copy"


@given(specs, st.integers(1, 3))
def test_a_state_can_be_written_by_torch_and_deeply_copied(spec, batch):
    state, file = filled(spec, batch, 5), io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    for other in (torch.load(file, weights_only=False), copy.deepcopy(state)):
        assert equal(other, state)
        for tensor in other.tensors:
            tensor.add_(1)
        assert torch.equal(State.of(spec, other.bytes).bytes, other.bytes)
    assert equal(state, filled(spec, batch, 5))


SPEC = {"0.history": TensorSpec((2, 3), torch.float32), "1.cell": TensorSpec((1,), torch.int64)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda saved: saved.pop("0.history"), r"lacks the tensor '0\.history'"),
        (lambda saved: saved.update(third=torch.zeros(1)), "unexpected tensor 'third'"),
        (lambda saved: saved.update({"0.history": torch.zeros(2, 2, 4)}), r"\[2, 2, 4\].*\[2, 2, 3\]"),
        (lambda saved: saved.update({"1.cell": torch.zeros(2, 1)}), r"torch\.float32.*torch\.int64"),
        (lambda saved: saved.update({"1.cell": torch.zeros(3, 1, dtype=torch.int64)}), r"\[3, 1\].*\[2, 1\]"),
    ],
)
def test_load_refuses_what_the_spec_does_not_say(change, message):
    saved = State(SPEC, 2).save()
    change(saved)
    with pytest.raises(StateError, match=message):
        State.load(SPEC, saved, 2)
