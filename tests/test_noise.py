"""Noise that is a function of seed and place: normal, white, and the same however it is asked for."""

import math

import pytest
import torch

from streamcodec.noise import normal_at, seed_of

PLACES = torch.arange(200_000)


def test_its_numbers_are_normal_and_white() -> None:
    noise = normal_at(seed_of(0, 0), PLACES)
    assert noise.dtype == torch.float64
    assert abs(float(noise.mean())) < 0.01
    assert abs(float(noise.var()) - 1) < 0.02
    assert abs(float((noise**4).mean()) - 3) < 0.1
    for limit, share in ((1, 0.3173), (2, 0.0455), (3, 0.0027)):
        assert abs(float((noise.abs() > limit).double().mean()) - share) < 0.003
    assert 3.5 < float(noise.abs().max()) < 7
    for lag in (1, 2, 3, 64, 2048):
        assert abs(float((noise[lag:] * noise[:-lag]).mean())) < 0.01


def test_a_place_has_its_number_whoever_asks() -> None:
    whole, seed = normal_at(7, PLACES), 7
    assert torch.equal(normal_at(seed, PLACES[1234:1240]), whole[1234:1240])
    assert torch.equal(normal_at(seed, PLACES[:6].view(2, 3)), whole[:6].view(2, 3))
    places = [0, 1, 5, 1 << 20, 1 << 40]
    expected = torch.tensor([by_definition(seed, place) for place in places], dtype=torch.float64)
    torch.testing.assert_close(normal_at(seed, torch.tensor(places)), expected, rtol=0, atol=1e-12)


def by_definition(seed: int, place: int) -> float:
    """In whole numbers of any size: saved streams go on with these on every machine and in every release."""
    bits = mixed(mixed(place) + seed)
    return math.sqrt(-2 * math.log(((bits >> 32) + 0.5) / 2**32)) * math.cos(math.tau * (bits % 2**32) / 2**32)


def mixed(number: int) -> int:
    bits = (number + 1) * 0x9E3779B97F4A7C15 % 2**64
    bits = (bits ^ bits >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    bits = (bits ^ bits >> 27) * 0x94D049BB133111EB % 2**64
    return bits ^ bits >> 31


@pytest.mark.parametrize("other", [(0, 1), (1, 0), ((1 << 31) - 1, 3)])
def test_other_seeds_and_streams_have_other_numbers(other: tuple[int, int]) -> None:
    product = normal_at(seed_of(0, 0), PLACES) * normal_at(seed_of(*other), PLACES)
    assert abs(float(product.mean())) < 0.01
