from pathlib import Path
from typing import Any

import pytest
import torch
from train_small import run_of, small

from streamcodec.checkpoint import load
from streamcodec.errors import CheckpointError, ConfigError
from streamcodec.train.build import export_run
from streamcodec.train.model import GAIN, install
from streamcodec.train.trainer import Trainer


@pytest.fixture
def make(recordings: Path, tmp_path: Path) -> Any:
    """Trainers that share nothing but the recordings."""

    def trainer(name: str, **sections: dict[str, Any]) -> Trainer:
        return run_of(recordings, tmp_path / name, **sections).trainer

    return trainer


def assert_equal(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> None:
    assert set(one) == set(two)
    assert not [name for name in one if not torch.equal(one[name], two[name])]


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "stops"), [("adamw", (1, 3, 5, 9)), ("muon", (5,))])
def test_a_resumed_training_ends_with_identical_numbers(make: Any, kind: str, stops: tuple[int, ...]) -> None:
    """Stops before, at and after the start of the codebooks, and after discriminators began to judge."""
    settings = {"run": {"steps": 12}, "quantizer": {"warm_share": 0.2}, "optimizer": {"kind": kind}}
    whole, first = make("whole", **settings), make("parts", **settings)
    figures = [whole.step() for _ in range(12)]
    assert whole.quantised
    assert any(name.startswith("muon") for name in whole.tensors()) == (kind == "muon")
    assert "adversarial" in figures[-1]
    for stop in stops:
        while first.step_count < stop:
            first.step()
        second = make(f"from {stop}", **settings)
        second.load({name: value.clone() for name, value in first.tensors().items()}, first.numbers())
        again = [second.step() for _ in range(12 - stop)]
        assert_equal(whole.tensors(), second.tensors())
        numbers = [{**trainer.numbers(), "elapsed": 0} for trainer in (whole, second)]
        assert numbers[0] == numbers[1]
        assert figures[stop:] == again


@pytest.mark.slow
def test_training_lowers_the_loss(make: Any) -> None:
    trainer = make("longer", run={"steps": 60}, optimizer={"learning_rate": 4e-3})
    totals = [trainer.step()["mel"] for _ in range(60)]
    assert sum(totals[-10:]) < 0.7 * sum(totals[:10])


def test_without_weights_there_are_no_discriminators(make: Any) -> None:
    trainer = make("plain", loss={"adversarial": 0.0, "feature": 0.0})
    assert trainer.adversary is None
    assert "discriminator" not in trainer.step()


def test_discriminators_learn_alone_at_first(make: Any) -> None:
    trainer = make("alone", discriminator={"alone": 3, "chance": 1.0})
    figures = [trainer.step() for _ in range(5)]
    assert ["adversarial" in row for row in figures] == [False, False, False, True, True]
    assert all("discriminator" in row for row in figures)


def test_discriminators_can_join_a_training(make: Any) -> None:
    """A checkpoint of a training without them goes on with them, and the reverse."""
    plain, both = make("plain", loss={"adversarial": 0.0, "feature": 0.0}), make("both")
    plain.step()
    both.load(plain.tensors(), plain.numbers())
    assert both.judged == 0
    for _ in range(3):
        both.step()
    again = make("again", loss={"adversarial": 0.0, "feature": 0.0})
    again.load(both.tensors(), both.numbers())
    assert again.step_count == 4


def test_the_schedule_rises_and_ends_annealed(make: Any) -> None:
    trainer = make("schedule", run={"steps": 100}, optimizer={"rise_steps": 10, "learning_rate": 1e-3})
    rates = []
    for trainer.step_count in range(101):
        rates.append(trainer.learning_rate())
    assert rates[0] == pytest.approx(1e-4, rel=0.01)
    assert max(rates) == pytest.approx(1e-3, rel=0.05)
    assert rates[-1] == pytest.approx(1e-5)
    assert rates[10:] == sorted(rates[10:], reverse=True)


def test_rows_use_the_numbers_of_codebooks_that_are_set(make: Any) -> None:
    trainer = make("books", data={"batch": 200}, quantizer={"chances": [0.25, 0.75]})
    drawn = trainer._books()
    assert set(drawn.tolist()) == {2, 4}
    assert 0.6 < float((drawn == 4).float().mean()) < 0.9


def test_unit_level_at_the_start(make: Any) -> None:
    assert 0.5 < make("fresh")._latents().std() < 2


def test_install_undoes_the_gain_of_training(make: Any) -> None:
    """The codec that comes out of training is the network that was trained, on audio at its own level."""
    from streamcodec.codecs.encodec import EncodecCodec

    trainer = make("gain")
    for _ in range(4):
        trainer.step()
    audio = trainer.crops.batch(0, 99, range(2))
    codec = EncodecCodec(small().codec.to_huggingface())
    install(codec, trainer.parameters, trainer.learner.codebooks)
    with torch.no_grad():
        inside = trainer.networks.encode(audio).values
        torch.testing.assert_close(codec.encoder(audio[..., None]), inside, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(codec.decoder(inside)[..., 0], trainer.networks.decode(inside), rtol=1e-4, atol=1e-5)
    assert torch.equal(codec.quantizer.codebooks, trainer.learner.codebooks)
    assert GAIN > 1


def test_bfloat16_is_close_to_float32(make: Any) -> None:
    one, two = make("one"), make("two", run={"precision": "bfloat16"})
    audio = one.crops.batch(0, 0, range(2))
    with torch.no_grad():
        wanted, got = one.networks.encode(audio).values, two.networks.encode(audio).values
    assert got.dtype == torch.float32
    error = (got - wanted).norm() / wanted.norm()
    assert 0 < error < 0.05  # bfloat16 has 8 bits: 0.4% a rounding


def test_a_state_of_other_networks_is_refused(make: Any) -> None:
    wide = make("wide", codec={"num_filters": 4})
    with pytest.raises(CheckpointError, match="another codec"):
        make("narrow").load(wide.tensors(), wide.numbers())


@pytest.mark.slow
def test_a_decoder_alone_learns_from_codes_that_stay(recordings: Path, tmp_path: Path) -> None:
    list(run_of(recordings, tmp_path / "run").updates())
    source = str(export_run(tmp_path / "run", tmp_path / "codec"))
    run = run_of(recordings, tmp_path / "more", codec={"init_from": source}, optimizer={"decoder_only": True})
    trainer = run.trainer
    audio = 0.1 * torch.randn(1, 1, 6400, generator=torch.Generator().manual_seed(0))
    before = {name: value.clone() for name, value in trainer.tensors().items()}
    figures = [trainer.step() for _ in range(3)]
    assert "commitment" not in figures[-1]
    after = trainer.tensors()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert not [name for name in changed if ".encoder." in name or name.startswith("learner.")]
    assert {name for name in before if name.startswith("networks.decoder.")} <= changed
    assert float(trainer.usage.sum()) > 0
    run.save()
    export = load(export_run(run.folder, tmp_path / "better"))
    assert torch.equal(export.encode(audio, 3.0).data, load(source).encode(audio, 3.0).data)


def test_codebooks_are_fitted_again_where_that_is_asked(make: Any, recordings: Path, tmp_path: Path) -> None:
    list(run_of(recordings, tmp_path / "run").updates())
    source = str(export_run(tmp_path / "run", tmp_path / "codec"))
    sections = {"codec": {"init_from": source}}
    as_it_is, again = make("as it is", **sections), make("again", **sections, quantizer={"refit": 3})
    latents = again._latents()
    errors = []
    for trainer in (as_it_is, again):
        quantised = trainer.learner(latents[None], torch.tensor([4])).latents
        errors.append(float((quantised - latents).square().mean()))
    assert errors[1] < errors[0]


def test_a_fresh_codec_has_no_decoder_to_train_alone() -> None:
    with pytest.raises(ConfigError, match="init_from"):
        small(optimizer={"decoder_only": True})
