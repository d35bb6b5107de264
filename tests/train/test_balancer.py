import pytest
import torch

from streamcodec.train.balancer import Balancer


def _output(rows: int = 3, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, 50, dtype=torch.float64, generator=generator).requires_grad_()


def _losses(x: torch.Tensor) -> dict[str, torch.Tensor]:
    """Means over rows, of wildly different scales, each on samples of its own so that their parts can be told apart."""
    return {
        "small": 1e-4 * x[:, :20].square().sum(1).mean(),
        "large": 1e5 * x[:, 20:40].abs().sum(1).mean(),
        "odd": (x[:, 40:] ** 4).sum(1).mean(),
    }


PARTS = {"small": slice(0, 20), "large": slice(20, 40), "odd": slice(40, 50)}


def test_weights_are_the_fractions_of_the_gradient_that_reach_the_output() -> None:
    x = _output()
    weights = {"small": 1.0, "large": 3.0, "odd": 4.0}
    gradient = Balancer(weights, total=2.0, decay=0.0)(_losses(x), x)
    for name, part in PARTS.items():
        # Rows of 3: a row's own gradient is 3 times what it gives to the mean.
        norm = (3 * gradient[:, part]).norm(dim=1).mean()
        assert float(norm) == pytest.approx(2.0 * weights[name] / 8.0, rel=1e-12)


def test_levels_weigh_rows() -> None:
    """Norms are those of gradients with respect to output / level, so a loss that divides by it is balanced by that."""
    x, level = _output(), torch.tensor([[0.01], [1.0], [5.0]], dtype=torch.float64)
    losses = {"relative": (x / level).square().sum(1).mean(), "other": (x / level).abs().sum(1).mean()}
    (one,) = torch.autograd.grad(losses["relative"], x, retain_graph=True)
    (two,) = torch.autograd.grad(losses["other"], x, retain_graph=True)
    gradient = Balancer({"relative": 1.0, "other": 3.0}, decay=0.0)(losses, x, level)
    parts = [part / (3 * level * part).norm(dim=1).mean() for part in (one, two)]
    torch.testing.assert_close(gradient, 0.25 * parts[0] + 0.75 * parts[1])


def test_the_direction_of_each_gradient_is_kept() -> None:
    x = _output()
    gradient = Balancer({"small": 1.0, "large": 3.0, "odd": 4.0}, decay=0.5)(_losses(x), x)
    for name, part in PARTS.items():
        (alone,) = torch.autograd.grad(_losses(x)[name], x)
        ratio = gradient[:, part] / alone[:, part]
        torch.testing.assert_close(ratio, ratio[:1, :1].expand_as(ratio))
        assert (ratio > 0).all()


def test_the_moving_average_is_the_one_of_the_docstring() -> None:
    """Two calls by hand: norms n1, n2 and decay b average to (b n1 + n2) / (b + 1)."""
    balancer, decay = Balancer({"only": 1.0}, decay=0.75), 0.75
    norms = []
    for scale in (1.0, 5.0):
        x = _output(rows=2)
        loss = scale * x.square().sum(1).mean()
        (alone,) = torch.autograd.grad(loss, x, retain_graph=True)
        norms.append((2 * alone).norm(dim=1).mean())
        gradient = balancer({"only": loss}, x)
    average = (decay * norms[0] + norms[1]) / (decay + 1)
    torch.testing.assert_close(gradient, alone / average)


def test_losses_that_are_absent_or_without_weight_do_not_count() -> None:
    x = _output()
    losses = _losses(x)
    balancer = Balancer({"small": 1.0, "large": 0.0, "odd": 5.0}, decay=0.0)
    gradient = balancer({"small": losses["small"], "large": losses["large"]}, x)
    assert not gradient[:, 20:].any()
    assert float((3 * gradient).norm(dim=1).mean()) == pytest.approx(1.0)


def test_a_loss_at_its_minimum_gives_nothing() -> None:
    x = torch.zeros(2, 5, requires_grad=True)
    gradient = Balancer({"a": 1.0}, decay=0.5)({"a": x.square().mean()}, x)
    assert gradient.equal(torch.zeros(2, 5))


def test_it_goes_on_from_its_state() -> None:
    weights = {"small": 1.0, "large": 3.0, "odd": 4.0}
    one, two = Balancer(weights), Balancer(weights)
    for seed in range(3):
        x = _output(seed=seed)
        one(_losses(x), x)
    two.load_state(one.state())
    x = _output(seed=9)
    assert one(_losses(x), x).equal(two(_losses(x), x))
