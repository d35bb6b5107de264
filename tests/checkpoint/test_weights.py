"""State dict entries: weight norm merges to torch's own bits, and nothing but plain finite tensors passes."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from streamcodec.checkpoint.weights import plain
from streamcodec.errors import CheckpointError

convolutions = st.builds(
    lambda kind, seed, *sizes: (torch.manual_seed(seed), kind(*sizes))[1],
    st.sampled_from([nn.Conv1d, nn.ConvTranspose1d]),
    st.integers(0, 2**32 - 1),
    *[st.integers(1, 5)] * 3,
)


@settings(max_examples=50, deadline=None)
@given(convolutions, st.sampled_from([torch.float32, torch.float64]))
@pytest.mark.parametrize(
    "weight_norm", [nn.utils.weight_norm, nn.utils.parametrizations.weight_norm], ids=["legacy", "parametrizations"]
)
@pytest.mark.filterwarnings("ignore:.*weight_norm.*deprecated")
def test_both_weight_norm_spellings_merge_to_the_modules_bits(
    weight_norm: Callable[..., nn.Module], convolution: nn.Module, dtype: torch.dtype
) -> None:
    module = weight_norm(convolution.to(dtype))
    with torch.no_grad():
        for parameter in module.parameters():  # so that the magnitude is no longer the norm of the direction
            parameter.add_(torch.randn_like(parameter))
    module(torch.zeros(1, module.in_channels, 8, dtype=dtype))  # the legacy hook computes the weight here
    merged = plain({f"a.b.{name}": tensor for name, tensor in module.state_dict().items()}, "f")
    assert set(merged) == {"a.b.weight", "a.b.bias"}
    assert merged["a.b.weight"].dtype == dtype
    assert torch.equal(merged["a.b.weight"], module.weight)
    assert torch.equal(merged["a.b.bias"], module.bias)


def test_plain_weights_pass_untouched_and_are_not_taken_for_halves_of_a_pair() -> None:
    tensors = {"weight": torch.randn(3, 2, 1), "x.weight": torch.randn(2), "weight_ih_l0": torch.randn(4, 1)}
    assert {name: id(tensor) for name, tensor in plain(tensors, "f").items()}.keys() == tensors.keys()
    for name, tensor in plain(tensors, "f").items():
        assert torch.equal(tensor, tensors[name])


def test_a_magnitude_along_the_last_axis_is_merged_as_torch_does() -> None:
    """HuBERT's positional convolution has one magnitude for every position of its kernel."""
    module = nn.utils.parametrizations.weight_norm(nn.Conv1d(4, 6, 8), dim=2)
    with torch.no_grad():
        module.parametrizations.weight.original0.mul_(1.7)
    merged = plain({f"pos_conv_embed.{name}": tensor for name, tensor in module.state_dict().items()}, "f")
    assert torch.equal(merged["pos_conv_embed.weight"], module.weight)


PAIRS = [("c.weight_g", "c.weight_v"), ("c.parametrizations.weight.original0", "c.parametrizations.weight.original1")]


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("kept", [0, 1])
def test_half_a_pair_is_reported_with_the_name_of_the_other(pair: tuple[str, str], kept: int) -> None:
    with pytest.raises(CheckpointError, match="other half") as caught:
        plain({pair[kept]: torch.ones(2, 1, 1)}, "some.file")
    assert pair[0] in str(caught.value)
    assert pair[1] in str(caught.value)
    assert "some.file" in str(caught.value)


@pytest.mark.parametrize("g_shape", [(), (3,), (2, 1, 1), (1, 4, 1), (3, 4, 1), (3, 1)])
def test_a_magnitude_of_the_wrong_shape_is_named(g_shape: tuple[int, ...]) -> None:
    with pytest.raises(CheckpointError, match=r"'c\.weight_g'.*'c\.weight_v'"):
        plain({"c.weight_g": torch.ones(g_shape), "c.weight_v": torch.ones(3, 4, 5)}, "f")


def test_a_weight_that_is_there_in_two_spellings_is_refused() -> None:
    both = {name: torch.ones(1, 1, 1) for name in (*PAIRS[0], *PAIRS[1])}
    with pytest.raises(CheckpointError, match=r"'c\.weight' is there twice"):
        plain(both, "f")
    with pytest.raises(CheckpointError, match=r"'c\.weight' is there twice"):
        plain({"c.weight": torch.ones(1, 1, 1), **{name: torch.ones(1, 1, 1) for name in PAIRS[0]}}, "f")


@pytest.mark.parametrize("stored", [torch.float16, torch.bfloat16])
def test_half_precision_is_widened_before_weight_norm_is_merged(stored: torch.dtype) -> None:
    g, v = torch.rand(3, 1, 1).to(stored), torch.randn(3, 4, 5).to(stored)
    merged = plain({"c.weight_g": g, "c.weight_v": v, "c.bias": g.flatten()}, "f")
    assert torch.equal(merged["c.weight"], torch._weight_norm(v.float(), g.float(), 0))
    assert torch.equal(merged["c.bias"], g.flatten().float())
    assert {tensor.dtype for tensor in merged.values()} == {torch.float32}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("name", ["a.bias", "a.weight_g", "a.weight_v"])
def test_one_bad_number_is_enough_and_is_named(name: str, value: float) -> None:
    tensors = {"a.weight_g": torch.ones(3, 1, 1), "a.weight_v": torch.ones(3, 2, 1), "a.bias": torch.ones(3)}
    tensors[name].view(-1)[1] = value
    expected = "a.bias" if name == "a.bias" else "a.weight"
    with pytest.raises(CheckpointError, match=rf"some\.file.*'{expected}' hold NaN or infinity"):
        plain(tensors, "some.file")


def test_a_direction_of_length_zero_is_reported() -> None:
    with pytest.raises(CheckpointError, match=r"'a\.weight'"):
        plain({"a.weight_g": torch.ones(3, 1, 1), "a.weight_v": torch.zeros(3, 2, 1)}, "f")


BAD_ENTRIES: dict[str, Any] = {
    "number": 3,
    "string": "x",
    "none": None,
    "nested": {"weight": torch.ones(1)},
    "sparse": torch.eye(3).to_sparse(),
    "meta": torch.ones(2, device="meta"),
    "complex": torch.ones(2, dtype=torch.complex64),
    "huge by stride 0": torch.ones(1).expand(1 << 50),
}


@pytest.mark.parametrize("bad", BAD_ENTRIES.values(), ids=BAD_ENTRIES.keys())
def test_a_value_that_is_no_plain_tensor_is_named(bad: Any) -> None:
    with pytest.raises(CheckpointError, match=r"some\.file.*'wrong\.entry'"):
        plain({"right": torch.ones(2), "wrong.entry": bad}, "some.file")


def test_a_name_that_is_no_string_is_reported() -> None:
    with pytest.raises(CheckpointError, match="entry 5"):
        plain({5: torch.ones(2)}, "f")


def test_nothing_at_all_is_reported() -> None:
    with pytest.raises(CheckpointError, match=r"some\.file holds no tensors"):
        plain({}, "some.file")


def test_integers_and_flags_keep_their_dtype() -> None:
    tensors: dict[str, Tensor] = {"steps": torch.tensor(7), "inited": torch.tensor([True])}
    assert all(torch.equal(plain(tensors, "f")[name], tensor) for name, tensor in tensors.items())
    assert all(plain(tensors, "f")[name].dtype == tensor.dtype for name, tensor in tensors.items())


def test_int8_weights_stand_for_their_scales_multiples() -> None:
    steps = torch.randint(-127, 128, (2, 3, 4), dtype=torch.int8, generator=torch.Generator().manual_seed(0))
    scale = torch.tensor([0.5, 1.0, 0.0, 2.0], dtype=torch.float16)
    merged = plain({"w": steps, "w_scale": scale, "v_scale": scale}, "f")
    assert torch.equal(merged["w"], steps.float() * scale.float())
    assert set(merged) == {"w", "v_scale"}  # what stands alone is a weight like any other


@pytest.mark.parametrize("scale", [torch.ones(3), torch.ones(()), torch.ones(4, dtype=torch.int32)])
def test_a_scale_of_the_wrong_kind_is_named(scale: Tensor) -> None:
    with pytest.raises(CheckpointError, match=r"f: 'w_scale' has shape .* a scale for each of the last dimension"):
        plain({"w": torch.zeros(3, 4, dtype=torch.int8), "w_scale": scale}, "f")


def test_parameters_come_out_as_tensors_without_gradient() -> None:
    (tensor,) = plain({"weight": nn.Parameter(torch.ones(2))}, "f").values()
    assert not tensor.requires_grad
