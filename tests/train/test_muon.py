"""Muon: torch's own updates on matrices, steps of AdamW's size, and matrices alone."""

import pytest
import torch
from torch import nn

from streamcodec.train.muon import Muon, is_matrix, orthogonal


@pytest.mark.parametrize("shape", [(64, 64), (40, 96), (96, 40), (1, 33)])
def test_singular_values_come_near_to_one(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(orthogonal(matrix).float())
    assert values.max() < 1.3
    assert values.median() > 0.6


def test_its_updates_are_those_of_torch() -> None:
    theirs = getattr(torch.optim, "Muon", None)
    if theirs is None:
        pytest.skip("this torch has no Muon; 2.9 has")
    generator = torch.Generator().manual_seed(1)
    weight = torch.randn(48, 80, generator=generator)
    one, other = nn.Parameter(weight.clone()[None]), nn.Parameter(weight.clone())
    ours = Muon([one], 1e-2)
    reference = theirs([other], lr=1e-2, weight_decay=0.01, adjust_lr_fn="match_rms_adamw")
    for _ in range(5):
        gradient = torch.randn(48, 80, generator=generator)
        one.grad, other.grad = gradient.clone()[None], gradient.clone()
        before = one.detach().clone()
        ours.step()
        reference.step()
        assert float((one.detach() - before).square().mean().sqrt()) == pytest.approx(0.2 * 1e-2, rel=0.25)
    moved = other.detach() - weight
    assert (one.detach()[0] - other.detach()).norm() < 0.03 * moved.norm()  # the rounds are in bfloat16, here and there


def test_it_is_for_matrices() -> None:
    assert is_matrix(torch.zeros(1, 64, 32))
    assert is_matrix(torch.zeros(7, 5, 40))  # a convolution's taps and inputs are its rows
    assert not any(is_matrix(torch.zeros(shape)) for shape in [(64,), (7, 1, 64), (1, 64, 1)])
