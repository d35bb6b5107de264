"""The factorised residual quantizer: nearest directions in few dimensions, stage by stage."""

import copy
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import excess_of_directions
from streamcodec_kernels.factorised_reference import NEAR_TIE
from torch import Tensor

from streamcodec.errors import InputError
from streamcodec.nn.factorised import FactorisedQuantizer


def quantizer(stages: int, size: int, codebook_dim: int, dimension: int, seed: int) -> FactorisedQuantizer:
    torch.manual_seed(seed)
    rvq = FactorisedQuantizer(stages, size, codebook_dim, dimension).double()
    with torch.no_grad():
        for bias in (rvq.in_bias, rvq.out_bias):
            bias.copy_(0.3 * torch.randn_like(bias))
    return rvq


sizes = {
    "stages": st.integers(1, 4),
    "size": st.integers(1, 12),
    "codebook_dim": st.integers(2, 4),
    "dimension": st.integers(1, 6),
    "seed": st.integers(0, 99),
}


@given(**sizes, rows=st.integers(0, 9), batch=st.integers(1, 3))
@torch.no_grad()
def test_every_stage_takes_the_direction_nearest_to_what_is_left(
    stages, size, codebook_dim, dimension, seed, rows, batch
):
    rvq = quantizer(stages, size, codebook_dim, dimension, seed)
    latents = torch.randn(batch, rows, dimension, dtype=torch.float64)
    codes = rvq.encode(latents, stages)
    assert codes.shape == (batch, rows, stages)
    assert codes.dtype == torch.int64
    residual = latents
    for stage in range(stages):
        projected = residual @ rvq.in_weight[stage] + rvq.in_bias[stage]
        cosine = torch.cosine_similarity(projected[:, :, None], rvq.codebooks[stage], dim=3)
        assert torch.equal(codes[:, :, stage], cosine.argmax(2))
        entries = rvq.codebooks[stage][codes[:, :, stage]]
        residual = residual - (entries @ rvq.out_weight[stage] + rvq.out_bias[stage])
    torch.testing.assert_close(rvq.decode(codes), latents - residual, rtol=0, atol=1e-12)


@given(**sizes)
@torch.no_grad()
def test_fewer_stages_are_a_prefix_of_more(stages, size, codebook_dim, dimension, seed):
    rvq = quantizer(stages, size, codebook_dim, dimension, seed)
    latents = torch.randn(1, 7, dimension, dtype=torch.float64)
    codes = rvq.encode(latents, stages)
    for used in range(1, stages + 1):
        assert torch.equal(rvq.encode(latents, used), codes[:, :, :used])
        assert rvq.decode(codes[:, :, :used]).shape == latents.shape


@torch.no_grad()
def test_ties_go_to_the_lowest_index():
    """Entries of one direction are equally near, whatever their lengths."""
    rvq = quantizer(1, 8, 4, 5, 0)
    directions = torch.randn(4, 4, dtype=torch.float64)
    rvq.set_codebooks(torch.cat([directions, 2 * directions])[None])
    codes = rvq.encode(torch.randn(1, 50, 5, dtype=torch.float64), 1)
    assert codes.max() < 4
    assert len(codes.unique()) == 4


@given(**sizes)
@torch.no_grad()
def test_new_codebooks_are_taken_whole(stages, size, codebook_dim, dimension, seed):
    rvq = quantizer(stages, size, codebook_dim, dimension, seed)
    rvq.set_codebooks(torch.randn_like(rvq.codebooks))
    torch.testing.assert_close(rvq.directions.norm(dim=2), torch.ones(stages, size).double(), rtol=0, atol=1e-14)
    torch.testing.assert_close(rvq.directions * rvq.codebooks.norm(dim=2, keepdim=True), rvq.codebooks)


@torch.no_grad()
def test_directions_have_the_precision_of_their_element_type():
    rvq = FactorisedQuantizer(2, 64, 8, 16).double()
    assert (rvq.directions.norm(dim=2) - 1).abs().max() < 1e-14
    assert rvq.float().directions.dtype == torch.float32


# -- in the projected space ----------------------------------------------------------------------------------------


def fitted(stages: int, size: int, codebook_dim: int, dimension: int, seed: int) -> tuple[FactorisedQuantizer, Tensor]:
    """A float64 quantizer whose entries are projected residuals of latents [1, T, D], all of them in use."""
    rvq = quantizer(stages, size, codebook_dim, dimension, seed)
    residual = torch.randn(1, 3 * size + 20, dimension, dtype=torch.float64)
    latents, codebooks = residual, rvq.codebooks.clone()
    with torch.no_grad():
        rvq.out_weight.copy_(0.5 * torch.linalg.pinv(rvq.in_weight))
        for stage in range(stages):
            projected = (residual @ rvq.in_weight[stage] + rvq.in_bias[stage])[0]
            codebooks[stage] = projected[torch.randperm(len(projected))[:size]] + 0.1 * torch.randn(size, codebook_dim)
            rvq.set_codebooks(codebooks)
            residual = latents - rvq.decode(rvq.encode_reference(latents, stage + 1))
    return rvq, latents


def excess(rvq: FactorisedQuantizer, latents: Tensor, codes: Tensor) -> Tensor:
    """How much worse than the nearest directions codes [B, T, K] of float32 latents [B, T, D] are."""
    return excess_of_directions(rvq, latents.flatten(0, 1), codes.flatten(0, 1))


shapes = [(1, 16, 8, 64), (9, 64, 8, 256), (32, 32, 8, 64), (5, 50, 3, 12), (4, 7, 5, 5), (3, 40, 16, 32)]


@pytest.mark.parametrize("shape", shapes)
@torch.no_grad()
def test_codes_in_float64_are_the_reference_s_without_exception(shape):
    rvq, latents = fitted(*shape, seed=1)
    for rows in (latents, torch.randn(2, 63, shape[3], dtype=torch.float64), 30 * latents[:, :1], latents[:, :0]):
        for used in {1, shape[0] // 2 or 1, shape[0]}:
            assert torch.equal(rvq.encode(rows, used), rvq.encode_reference(rows, used))
    if shape[1] > 1:
        assert min(len(stage.unique()) for stage in rvq.encode(latents, shape[0]).unbind(2)) > shape[1] // 3


@given(**sizes, rows=st.integers(0, 9))
@torch.no_grad()
def test_codes_in_float64_equal_the_reference_s(stages, size, codebook_dim, dimension, seed, rows):
    rvq = quantizer(stages, size, codebook_dim, dimension, seed)
    latents = torch.randn(2, rows, dimension, dtype=torch.float64)
    for used in range(1, stages + 1):
        assert torch.equal(rvq.encode(latents, used), rvq.encode_reference(latents, used))


@pytest.mark.parametrize("shape", shapes)
@torch.no_grad()
def test_codes_in_float32_are_nearest_but_for_near_ties(shape):
    rvq, latents = fitted(*shape, seed=2)
    rvq, latents = rvq.float(), latents.float()
    fast, reference = rvq.encode(latents, shape[0]), rvq.encode_reference(latents, shape[0])
    assert excess(rvq, latents, fast).max() < NEAR_TIE
    assert excess(rvq, latents, reference).max() < NEAR_TIE
    assert (fast != reference).any(2).double().mean() < 0.01
    one_by_one = torch.cat([rvq.encode(latents[:, t : t + 1], shape[0]) for t in range(latents.shape[1])], 1)
    assert excess(rvq, latents, one_by_one).max() < NEAR_TIE
    wrong = fast.clone()
    wrong[0, 3, 0] = (wrong[0, 3, 0] + 1) % shape[1]
    assert excess(rvq, latents, wrong).max() > 100 * NEAR_TIE


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@torch.no_grad()
def test_narrow_element_types_quantize_as_well_as_the_reference(dtype):
    """Here codes often differ, but what they stand for is as near."""
    rvq, latents = fitted(4, 64, 8, 64, 3)
    narrow, rows = copy.deepcopy(rvq).to(dtype), latents.to(dtype)

    def error(codes: Tensor) -> float:
        return float((rvq.decode(codes) - latents).square().mean())

    exact = error(rvq.encode(latents, 4))
    assert error(narrow.encode(rows, 4)) < 1.02 * exact
    assert error(narrow.encode_reference(rows, 4)) < 1.02 * exact


def test_a_change_of_any_weight_is_seen_at_once():
    rvq, latents = fitted(3, 30, 4, 16, 4)
    rvq.encode(latents, 3)
    for name in ("in_weight", "in_bias", "out_weight", "out_bias", "codebooks"):
        before = rvq.encode(latents, 3)
        tensor = getattr(rvq, name)
        with torch.no_grad():
            tensor.add_(0.5 * torch.randn_like(tensor))
        assert not torch.equal(rvq.encode(latents, 3), before), name
        assert torch.equal(rvq.encode(latents, 3), rvq.encode_reference(latents, 3)), name
        tensor.data = tensor + 0.5 * torch.randn_like(tensor)
        assert torch.equal(rvq.encode(latents, 3), rvq.encode_reference(latents, 3)), name


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW])
@pytest.mark.parametrize("options", [{}, {"foreach": True}, {"fused": True}])
def test_an_optimizer_step_is_seen(optimizer, options):
    rvq, latents = fitted(3, 30, 4, 16, 5)
    steps = optimizer(rvq.parameters(), lr=0.3, **options)
    codes = rvq.encode(latents, 3)
    for _ in range(3):
        steps.zero_grad()
        (sum(parameter.square().sum() for parameter in rvq.parameters())).backward()
        steps.step()
        new = rvq.encode(latents, 3)
        assert torch.equal(new, rvq.encode_reference(latents, 3))
        assert not torch.equal(new, codes)
        codes = new


def test_loaded_moved_and_copied_weights_are_seen():
    rvq, latents = fitted(3, 30, 4, 16, 6)
    other, _ = fitted(3, 30, 4, 16, 7)
    expected = {id(q): q.encode_reference(latents, 3) for q in (rvq, other)}
    assert torch.equal(rvq.encode(latents, 3), expected[id(rvq)])
    twin = copy.deepcopy(rvq)
    twin.load_state_dict(other.state_dict())
    assert torch.equal(twin.encode(latents, 3), expected[id(other)])
    assert torch.equal(rvq.encode(latents, 3), expected[id(rvq)])
    twin.set_codebooks(rvq.codebooks)
    assert torch.equal(twin.encode(latents, 3), twin.encode_reference(latents, 3))
    # There and back: coarser numbers, perhaps at the old addresses.
    twin.to(torch.bfloat16).to(torch.float64)
    coarse = copy.deepcopy(twin)
    assert torch.equal(twin.encode(latents, 3), coarse.encode_reference(latents, 3))
    assert not torch.equal(twin.directions, other.directions)


def test_streams_in_inference_mode_and_training_share_the_tables():
    rvq, latents = fitted(2, 30, 4, 16, 8)
    with torch.inference_mode():
        codes = rvq.encode(latents, 2)
        rvq.set_codebooks(rvq.codebooks + 1)
        assert torch.equal(rvq.encode(latents, 2), rvq.encode_reference(latents, 2))
    assert not torch.equal(rvq.encode(latents, 2), codes)
    rvq.decode(codes).sum().backward()
    assert rvq.out_weight.grad is not None


def test_what_is_derived_is_no_part_of_the_state():
    rvq, latents = fitted(2, 30, 4, 16, 9)
    before = set(rvq.state_dict())
    rvq.encode(latents, 2)
    assert set(rvq.state_dict()) == before == {"in_weight", "in_bias", "out_weight", "out_bias", "codebooks"}
    assert len(list(rvq.buffers())) == 1


@torch.no_grad()
def test_entries_without_a_direction_leave_it_to_the_reference():
    """Upstream gives an entry of zeros a distance like any other's, and may choose it."""
    rvq, latents = fitted(2, 4, 4, 16, 10)
    rvq.codebooks[0] = rvq.codebooks[0, :1] + 0.01 * torch.randn(4, 4)
    rvq.codebooks[0, 2] = 0  # what points away from the three others has it for the nearest
    codes = rvq.encode(latents, 2)
    assert (codes[:, :, 0] == 2).any()
    assert torch.equal(codes, rvq.encode_reference(latents, 2))


def test_a_number_of_stages_that_there_is_not_is_refused():
    rvq, latents = fitted(2, 4, 4, 16, 11)
    for count in (0, 3, -1):
        for encode in (rvq.encode, rvq.encode_reference):
            with pytest.raises(InputError, match=f"num_codebooks is {count}; there are 1 to 2"):
                encode(latents, count)


@torch.no_grad()
def test_what_the_tables_hold():
    """The numbers that docs/kernels.md and the class name, for the published sizes."""
    for stages, kib in ((32, 256), (9, 20.25)):
        rvq = FactorisedQuantizer(stages, 16, 8, 32)
        rvq.encode(torch.randn(1, 1, 32), stages)
        assert math.isclose(rvq._tables._kept[2].cross.nbytes / 1024, kib)
