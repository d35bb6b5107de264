"""The factorised residual quantizer: nearest directions in few dimensions, stage by stage."""

import torch
from hypothesis import given
from hypothesis import strategies as st

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
