"""A codec that another one learns from: its latents are the encoder's target, its answers the decoder's."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from train_small import run_of

from streamcodec.checkpoint import save
from streamcodec.codecs.encodec import EncodecCodec
from streamcodec.errors import ConfigError
from streamcodec.train.config import Settings
from streamcodec.train.loop import Run
from streamcodec.train.teacher import Teacher, resampled

# The teacher: 16 kHz, 50 frames a second; the student: 24 kHz, as many.
TEACHER: dict[str, Any] = Settings().codec.to_huggingface() | {
    "sampling_rate": 16_000,
    "target_bandwidths": [0.5],
    "streamcodec_default_bandwidth": 0.5,
    "hidden_size": 8,
    "codebook_dim": 8,
    "num_filters": 2,
}
STUDENT = {
    "architecture": "spectral",
    "hidden_size": 8,
    "codebook_size": 16,
    "target_bandwidths": [0.4, 0.8],
    "default_bandwidth": 0.8,
}
SIZES = {
    "hop_length": 480,
    "encoder_width": 32,
    "encoder_blocks": 1,
    "decoder_width": 32,
    "decoder_blocks": 1,
    "bands": 16,
}


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(5)
    return save(EncodecCodec(TEACHER), tmp_path_factory.mktemp("teacher"))


def taught(source: Path, folder: Path, teacher: Path, answers: bool = True, **run: Any) -> Run:
    return run_of(
        source,
        folder,
        run=run,
        data={"crop_samples": 4800},
        codec=STUDENT,
        spectral=SIZES,
        loss={"adversarial": 0.0, "feature": 0.0},
        teacher={"codec": str(teacher), "latents": 1.0, "answers": answers},
        optimizer={"learning_rate": 4e-3, "average": 0.9},
    )


def tone(frequency: float, rate: int, seconds: float = 0.5) -> torch.Tensor:
    time = torch.arange(round(rate * seconds), dtype=torch.float64) / rate
    return torch.sin(2 * math.pi * frequency * time)[None].float()


@pytest.mark.parametrize(("rate", "other"), [(24_000, 16_000), (16_000, 24_000), (24_000, 24_000)])
def test_a_tone_is_the_same_tone_at_another_rate(rate: int, other: int) -> None:
    torch.testing.assert_close(resampled(tone(440, rate), other // 2), tone(440, other), atol=2e-4, rtol=0)


def test_what_lies_above_the_new_band_goes() -> None:
    assert resampled(tone(9_000, 24_000), 8_000).abs().max() < 1e-3


def test_its_answer_has_the_recordings_own_sound_above_its_band(
    recordings: Path, tmp_path: Path, teacher: Path
) -> None:
    trainer = taught(recordings, tmp_path, teacher).trainer
    assert isinstance(trainer.teacher, Teacher)
    low, high = 0.1 * tone(440, 24_000, 0.4), 0.1 * tone(10_000, 24_000, 0.4)
    latents = trainer.teacher.latents(low)
    assert latents.shape == (1, 20, 8)
    answers = [trainer.teacher.answer(latents, audio) for audio in (low, low + high)]
    torch.testing.assert_close(answers[1] - answers[0], high, atol=1e-4, rtol=0)
    codec = trainer.teacher.codec
    own = codec.decode_latents(codec.encode_latents(resampled(low, 6_400)[:, None]))[:, 0]
    torch.testing.assert_close(resampled(answers[0], 6_400), own, atol=1e-4, rtol=0)


def test_the_student_learns_both_in_seconds(recordings: Path, tmp_path: Path, teacher: Path) -> None:
    run = taught(recordings, tmp_path, teacher, steps=120)
    figures = list(run.updates())
    first, last = (
        {name: sum(row[name] for row in rows) / 10 for name in ("latents", "wave")}
        for rows in (figures[:10], figures[-10:])
    )
    assert last["latents"] < 0.8 * first["latents"]
    assert last["latents"] < 0.95  # 1 is what their mean alone would have
    assert last["wave"] < 0.95 * first["wave"]
    assert run.trainer.teacher is not None
    assert all(p.grad is None for p in run.trainer.teacher.parameters())


def test_the_encoder_hears_nothing_of_the_decoder(recordings: Path, tmp_path: Path, teacher: Path) -> None:
    first, other = (taught(recordings, tmp_path / name, teacher).trainer for name in "ab")
    for parameter in other.networks.modules["decoder"].parameters():
        parameter.data.mul_(2)
    for trainer in (first, other):
        trainer.settings = taught(recordings, tmp_path / "c", teacher).trainer.settings
        trainer._backward()
    pairs = zip(first.parameters.items(), other.parameters.items(), strict=True)
    equal = {name: torch.equal(one.grad, two.grad) for (name, one), (_, two) in pairs if one.grad is not None}
    assert all(equal[name] for name in equal if name.startswith("encoder"))
    assert not all(equal.values())


def test_its_measure_is_kept(recordings: Path, tmp_path: Path, teacher: Path) -> None:
    first, again = (taught(recordings, tmp_path / name, teacher).trainer for name in "ab")
    assert first.teacher is not None
    assert again.teacher is not None
    first.step()
    first.teacher.mean += 1
    again.load(first.tensors(), first.numbers())
    assert torch.equal(again.teacher.mean, first.teacher.mean)
    plain = {name: value for name, value in first.tensors().items() if not name.startswith("teacher")}
    again.load(plain, first.numbers())
    torch.testing.assert_close(again.teacher.mean + 1, first.teacher.mean)


def test_mistakes_are_told(recordings: Path, tmp_path: Path, teacher: Path) -> None:
    for codec, spectral, message in (
        (
            STUDENT,
            SIZES | {"hop_length": 240},
            "has 50 frames a second; a mono codec can teach another, .* 100",
        ),
        (STUDENT | {"hidden_size": 6}, SIZES, r"set codec\.hidden_size = 8, which is 6"),
    ):
        bandwidths = {"target_bandwidths": [0.4 * 480 / spectral["hop_length"]], "default_bandwidth": None}
        bandwidths["default_bandwidth"] = bandwidths["target_bandwidths"][0]
        with pytest.raises(ConfigError, match=message):
            run_of(
                recordings,
                tmp_path / "a",
                data={"crop_samples": 4800},
                codec=codec | bandwidths,
                spectral=spectral,
                quantizer={"books": [1, 1]},
                teacher={"codec": str(teacher), "latents": 1.0},
            )
    with pytest.raises(ConfigError, match=r"name it: teacher\.codec"):
        run_of(recordings, tmp_path / "b", teacher={"answers": True})
    with pytest.raises(ConfigError, match=r"teacher\.latents is -1"):
        run_of(recordings, tmp_path / "b", teacher={"codec": str(teacher), "latents": -1.0})
