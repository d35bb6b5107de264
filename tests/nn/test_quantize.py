"""The residual vector quantizer: nearest entries, stage by stage."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from streamcodec.nn.quantize import ResidualVectorQuantizer


def quantizer(stages: int, size: int, dimension: int, seed: int) -> ResidualVectorQuantizer:
    torch.manual_seed(seed)
    return ResidualVectorQuantizer(stages, size, dimension).double()


sizes = {
    "stages": st.integers(1, 4),
    "size": st.integers(1, 12),
    "dimension": st.integers(1, 6),
    "seed": st.integers(0, 99),
}


@given(**sizes, rows=st.integers(0, 9), batch=st.integers(1, 3))
def test_every_stage_takes_the_entry_nearest_to_what_is_left(stages, size, dimension, seed, rows, batch):
    rvq = quantizer(stages, size, dimension, seed)
    latents = torch.randn(batch, rows, dimension, dtype=torch.float64)
    codes = rvq.encode(latents, stages)
    assert codes.shape == (batch, rows, stages)
    residual = latents
    for stage in range(stages):
        distance = (residual[:, :, None] - rvq.codebooks[stage]).square().sum(3)
        assert torch.equal(codes[:, :, stage], distance.argmin(2))
        residual = residual - rvq.codebooks[stage][codes[:, :, stage]]
    torch.testing.assert_close(rvq.decode(codes), latents - residual, rtol=0, atol=1e-12)


@given(**sizes)
def test_fewer_stages_are_a_prefix_of_more(stages, size, dimension, seed):
    rvq = quantizer(stages, size, dimension, seed)
    latents = torch.randn(1, 7, dimension, dtype=torch.float64)
    codes = rvq.encode(latents, stages)
    for used in range(1, stages + 1):
        assert torch.equal(rvq.encode(latents, used), codes[:, :, :used])


@given(**sizes)
def test_new_codebooks_are_taken_whole(stages, size, dimension, seed):
    """Whatever the search keeps beside the entries follows them, also through a change of dtype."""
    old, new = quantizer(stages, size, dimension, seed), quantizer(stages, size, dimension, seed + 1)
    latents = torch.randn(2, 5, dimension, dtype=torch.float64)
    expected = new.encode(latents, stages)
    old.set_codebooks(new.codebooks)
    assert torch.equal(old.encode(latents, stages), expected)
    assert torch.equal(old.decode(expected), new.decode(expected))
    entries = old.float().codebooks[0]
    found = old.encode(entries[None], 1)[0, :, 0]
    torch.testing.assert_close(entries[found], entries, rtol=0, atol=1e-2)  # entries may nearly coincide
