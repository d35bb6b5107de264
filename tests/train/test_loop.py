import csv
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from train_small import SETTINGS, SMALL

from streamcodec.codecs.encodec import EncodecCodec
from streamcodec.errors import CheckpointError, ConfigError
from streamcodec.train.build import build_trainer
from streamcodec.train.loop import GAIN, TrainConfig, Trainer, install


@pytest.fixture
def make(recordings: Path, tmp_path: Path) -> Any:
    """Trainers that share nothing but the recordings."""
    config = tmp_path / "small.json"
    config.write_text(json.dumps(SMALL))

    def trainer(name: str, **settings: Any) -> Trainer:
        return build_trainer(recordings, tmp_path / name, SETTINGS | settings, config)

    return trainer


def _weights(trainer: Trainer) -> dict[str, torch.Tensor]:
    state = {**trainer.networks.state_dict(), **{f"average.{n}": v for n, v in trainer.averages.items()}}
    return state | {f"learner.{name}": value for name, value in trainer.learner.state_dict().items()}


def _assert_equal(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> None:
    different = [name for name in one if not torch.equal(one[name], two[name])]
    assert not different


@pytest.mark.parametrize("stop", [1, 3, 5])
def test_a_resumed_training_ends_with_identical_weights(make: Any, tmp_path: Path, stop: int) -> None:
    """Stops before, at and after the start of the codebooks."""
    whole = make("whole")
    for _ in range(6):
        whole.step()
    first = make("parts")
    for _ in range(stop):
        first.step()
    first.save(tmp_path / "parts" / "checkpoint.pt")
    second = make("parts")
    assert second.step_count == stop
    for _ in range(6 - stop):
        second.step()
    assert whole.quantised
    _assert_equal(_weights(whole), _weights(second))


def test_training_lowers_the_loss(make: Any) -> None:
    trainer = make("longer", steps=60, learning_rate=2e-3)
    totals = [trainer.step()["mel"] for _ in range(60)]
    assert sum(totals[-10:]) < 0.7 * sum(totals[:10])


def test_the_number_of_workers_does_not_change_the_gradient(make: Any) -> None:
    """Without a quantiser each row's loss is its own, but for the level that a worker's rows share."""
    one, two = make("one", workers=1, warm_share=1.0), make("two", workers=2, warm_share=1.0)
    assert torch.equal(*(trainer.crops.batch(2) for trainer in (one, two)))
    target = one.crops.batch(1).repeat(2, 1)
    used = torch.tensor([2, 2])
    whole = one._part(target, used)
    halves = [two._part(target[i : i + 1], used[i : i + 1]) for i in range(2)]
    for gradient, *parts in zip(whole.gradients, *(half.gradients for half in halves), strict=True):
        torch.testing.assert_close(gradient, parts[0] + parts[1], rtol=1e-3, atol=1e-5)


def test_the_schedule_rises_and_ends_annealed(make: Any) -> None:
    trainer = make("schedule", steps=100, rise_steps=10, learning_rate=1e-3)
    rates = []
    for trainer.step_count in range(101):
        rates.append(trainer.learning_rate())
    assert rates[0] == pytest.approx(1e-4, rel=0.01)
    assert max(rates) == pytest.approx(1e-3, rel=0.05)
    assert rates[-1] == pytest.approx(1e-5)
    assert rates[10:] == sorted(rates[10:], reverse=True)


def test_a_budget_of_minutes_ends_by_the_clock(make: Any, tmp_path: Path) -> None:
    trainer = make("clock", steps=None, minutes=0.01)
    list(trainer.run(tmp_path / "clock"))
    assert trainer.elapsed >= 0.6
    assert trainer.learning_rate() == pytest.approx(0.01 * trainer.config.learning_rate)


def test_the_log_has_a_row_for_every_interval(make: Any, tmp_path: Path) -> None:
    rows = list(make("log").run(tmp_path / "log"))
    with (tmp_path / "log" / "log.csv").open() as file:
        logged = list(csv.DictReader(file))
    assert [float(row["step"]) for row in logged] == [2, 4, 6] == [row["step"] for row in rows]
    assert all(float(row["total"]) > 0 for row in logged)
    # No codebook is in use in the stage without quantiser; all are at the end.
    assert float(logged[0]["perplexity_0"]) == 1
    assert all(float(logged[-1][f"perplexity_{k}"]) > 1.5 for k in range(4))


def test_install_undoes_the_gain_of_training(make: Any) -> None:
    """The codec that comes out of training is the network that was trained, on audio at its own level."""
    trainer = make("gain")
    for _ in range(4):
        trainer.step()
    audio = trainer.crops.batch(2)
    codec = EncodecCodec(SMALL)
    install(codec, trainer.networks.state_dict(), trainer.learner.codebooks)
    with torch.no_grad():
        inside = trainer.codec.encoder(GAIN * audio[..., None])
        outside = codec.encoder(audio[..., None])
        torch.testing.assert_close(outside, inside, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(codec.decoder(inside), trainer.codec.decoder(inside) / GAIN, rtol=1e-4, atol=1e-5)
    assert torch.equal(codec.quantizer.codebooks, trainer.learner.codebooks)


def test_settings_are_checked() -> None:
    TrainConfig.from_dict({"minutes": 1, "books": [1], "chances": [1.0]})
    for settings, message in (
        ({}, "exactly one"),
        ({"steps": 1, "minutes": 1}, "exactly one"),
        ({"steps": 1, "speed": 2}, "speed"),
        ({"steps": 1, "books": [2]}, "one chance"),
        ({"steps": 1, "precision": "float8"}, "float8"),
        ({"steps": 1, "workers": 9}, "workers"),
    ):
        with pytest.raises(ConfigError, match=message):
            TrainConfig.from_dict(settings)


def test_a_damaged_checkpoint_is_refused(make: Any, tmp_path: Path) -> None:
    trainer = make("damaged")
    path = tmp_path / "damaged" / "checkpoint.pt"
    trainer.save(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="cannot be read"):
        trainer.load(path)


def test_unit_level_at_the_start(make: Any) -> None:
    trainer = make("fresh")
    latents = trainer._latents()
    assert 0.5 < latents.std() < 2
