import pytest
import torch
import torch.nn.functional as F

from streamcodec.train.adversary import Adversary
from streamcodec.train.config import DiscriminatorSettings
from streamcodec.train.discriminator import (
    Discriminators,
    PeriodDiscriminator,
    StftDiscriminator,
    Verdict,
    adversarial_loss,
    discriminator_loss,
    feature_loss,
)
from streamcodec.train.distributed import World

OFF = torch.autocast("cpu", torch.bfloat16, enabled=False)


def _audio(seed: int, rows: int = 2) -> torch.Tensor:
    return torch.randn(rows, 4000, generator=torch.Generator().manual_seed(seed))


def test_each_layer_halves_the_frequencies_and_keeps_the_frames() -> None:
    verdicts = Discriminators((1024, 256), 4)(_audio(0))
    for window, verdict in zip((1024, 256), verdicts, strict=True):
        frames = (4000 - window) // (window // 4) + 1
        bins = window // 2 + 1
        widths = [bins]
        for _ in range(3):  # three layers halve the frequencies
            widths.append(-(-widths[-1] // 2))
        shapes = [tuple(feature.shape) for feature in verdict.features]
        assert shapes == [(2, 4, frames, width) for width in (*widths, widths[-1])]
        assert verdict.logits.shape == (2, 1, frames, widths[-1])


def test_the_spectrogram_is_that_of_torch() -> None:
    scale, audio = StftDiscriminator(256, 2), _audio(1)
    window = torch.hann_window(256)
    wanted = torch.stft(audio, 256, 64, window=window, center=False, return_complex=True) / window.norm()
    got = scale.spectrogram(audio)
    torch.testing.assert_close(got, torch.stack([wanted.real, wanted.imag], 1).transpose(2, 3), rtol=1e-4, atol=1e-5)


def test_hinge_losses_by_hand() -> None:
    real = [Verdict(torch.tensor([2.0, 0.5]), [])]
    fake = [Verdict(torch.tensor([-3.0, 0.0]), [])]
    # Real: 0 and 0.5; fake: 0 and 1; the codec's side: 4 and 1.
    assert float(discriminator_loss(real, fake)) == pytest.approx(0.25 + 0.5)
    assert float(adversarial_loss(fake)) == pytest.approx(2.5)


def test_feature_matching_by_hand_and_row_by_row() -> None:
    wanted = torch.tensor([1.0, 4.0]).view(2, 1, 1, 1).expand(2, 3, 2, 2)
    real, fake = [Verdict(torch.zeros(1), [wanted])], [Verdict(torch.zeros(1), [wanted + 2])]
    # A distance of 2 is twice the first row's size and half of the second's.
    assert float(feature_loss(real, fake)) == pytest.approx((2.0 + 0.5) / 2)
    assert float(feature_loss(real, real)) == 0


def _adversary(seed: int = 0) -> Adversary:
    settings = DiscriminatorSettings(windows=(512, 128), filters=4, learning_rate=1e-2)
    return Adversary(settings, World(), seed)


def test_a_step_lowers_the_discriminators_loss() -> None:
    adversary, real = _adversary(), _audio(2)
    fake = torch.cumsum(_audio(3), 1) * 0.1  # noise of another colour
    losses = []
    for _ in range(8):
        own = adversary.judge(real, fake, learns=True, judges=False, autocast=OFF).own
        assert own is not None
        losses.append(float(own.detach()))
        adversary.step(adversary.gradients(own), 1.0)
    assert losses[1] < losses[0]
    assert losses[-1] < 0.9 * losses[0]


def test_the_codecs_losses_reach_its_output_and_leave_the_discriminators_alone() -> None:
    adversary, fake = _adversary(), _audio(4).requires_grad_()
    judged = adversary.judge(_audio(5), fake, learns=True, judges=True, autocast=OFF)
    assert set(judged.losses) == {"adversarial", "feature"}
    for loss in judged.losses.values():
        (gradient,) = torch.autograd.grad(loss, fake, retain_graph=True)
        assert gradient.abs().sum() > 0
    assert judged.own is not None
    adversary.gradients(judged.own)
    assert all(parameter.grad is None for parameter in adversary.parameters.values())
    (nothing,) = torch.autograd.grad(judged.own, fake, allow_unused=True)
    assert nothing is not None  # the graph is shared; the trainer asks for the weights' gradients alone


def test_discriminators_that_do_not_judge_do_not_reach_the_codec() -> None:
    fake = _audio(6).requires_grad_()
    judged = _adversary().judge(_audio(7), fake, learns=True, judges=False, autocast=OFF)
    assert judged.losses == {}
    assert judged.own is not None
    assert torch.autograd.grad(judged.own, fake, allow_unused=True) == (None,)


def test_their_start_depends_on_the_seed_alone() -> None:
    before = torch.random.get_rng_state()
    one, two, other = _adversary(1), _adversary(1), _adversary(2)
    assert torch.random.get_rng_state().equal(before)
    assert all(a.equal(b) for a, b in zip(one.parameters.values(), two.parameters.values(), strict=True))
    assert not all(a.equal(b) for a, b in zip(one.parameters.values(), other.parameters.values(), strict=True))


def test_periodic_ones_see_what_lies_a_period_apart_and_nothing_else() -> None:
    period, (audio,) = 5, _audio(6, 1)
    judge = PeriodDiscriminator(period, 2)
    verdict = judge(audio[None])
    rows, shapes = 4000 // period, []
    for width in (2, 8, 32, 64):
        rows = -(-rows // 3)
        shapes.append((1, width, rows, period))
    assert [tuple(feature.shape) for feature in verdict.features] == [*shapes, shapes[-1]]
    assert verdict.logits.shape == (1, 1, rows, period)
    changed = audio.clone()
    changed[3::period] += 1
    moved = (judge(changed[None]).logits != verdict.logits).any(2).flatten()
    assert moved.tolist() == [False, False, False, True, False]
    # What does not fill a period is heard beside zeros.
    torch.testing.assert_close(judge(audio[None, :3998]).logits, judge(F.pad(audio[:3998], (0, 2))[None]).logits)


def test_periodic_ones_judge_beside_the_others_and_learn() -> None:
    settings = DiscriminatorSettings(windows=(128,), filters=2, periods=(2, 3), period_filters=2, learning_rate=1e-2)
    adversary, real = Adversary(settings, World(), 0), _audio(7)
    fake = torch.cumsum(_audio(8), 1) * 0.1
    assert len(adversary.scales(real)) == 3
    losses = []
    for _ in range(8):
        own = adversary.judge(real, fake, learns=True, judges=False, autocast=OFF).own
        assert own is not None
        losses.append(float(own.detach()))
        adversary.step(adversary.gradients(own), 1.0)
    assert losses[-1] < 0.9 * losses[0]
    fresh = Adversary(settings, World(), 0).parameters
    assert not any(torch.equal(weight, fresh[name]) for name, weight in adversary.parameters.items())
