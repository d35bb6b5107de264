"""A stereo codec in training: two channels that are heard, judged and exported as two."""

import math
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from train_small import run_of, small
from transformers import EncodecModel

from streamcodec import Codes
from streamcodec.checkpoint import load
from streamcodec.cli import main
from streamcodec.codecs.encodec import EncodecCodec
from streamcodec.errors import AudioError, ConfigError
from streamcodec.train.build import export_run
from streamcodec.train.config import AugmentSettings, to_toml
from streamcodec.train.data import TRAIN, AudioCache, Crops
from streamcodec.train.loop import Run
from streamcodec.train.model import Networks

STEREO = {"audio_channels": 2}
RATE = 24_000


@pytest.fixture(scope="module")
def sides(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tone on the left, another one on the right; and a mono recording."""
    folder = tmp_path_factory.mktemp("sides")
    time = np.arange(RATE) / RATE
    left, right = 0.2 * np.sin(2 * np.pi * 200 * time), 0.05 * np.sin(2 * np.pi * 1500 * time)
    for group, audio in (("both", np.stack([left, right], 1)), ("mono", left)):
        (folder / group).mkdir()
        soundfile.write(folder / group / "tone.wav", audio, RATE)
    return folder


@pytest.fixture(scope="module")
def run(sides: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished training; `heard` are its figures."""
    settings = {"run": {"steps": 40}, "optimizer": {"learning_rate": 4e-3}, "loss": {"mel": 6.0}}
    made = run_of(sides, tmp_path_factory.mktemp("stereo"), codec=STEREO, **settings)
    made.heard = list(made.updates())
    return made


def test_it_learns_in_seconds(run: Run) -> None:
    assert run.trainer.spec.channels == 2
    mel = [figures["mel"] for figures in run.heard]
    assert sum(mel[-10:]) / 10 < 0.6 * mel[0], (mel[0], mel[-10:])
    assert all(math.isfinite(value) for figures in run.heard for value in figures.values())


def test_the_export_gives_the_same_codes_here_and_in_transformers(run: Run, tmp_path: Path) -> None:
    folder = export_run(run.folder, tmp_path / "codec")
    ours, theirs = load(folder), EncodecModel.from_pretrained(folder).eval()
    wav = 0.1 * torch.randn(1, 2, 6400, generator=torch.Generator().manual_seed(0))
    codes = ours.encode(wav, 3.0)
    with torch.no_grad():
        expected = theirs.encode(wav, bandwidth=3.0)
        audio = theirs.decode(expected.audio_codes, expected.audio_scales).audio_values
    assert torch.equal(codes.data, expected.audio_codes[0])
    decoded = ours.decode(Codes(codes.data, None, 6400))
    torch.testing.assert_close(decoded, audio, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(decoded[:, 0], decoded[:, 1], atol=1e-3)


def test_training_sees_what_the_codec_computes() -> None:
    torch.manual_seed(0)
    codec, same = (EncodecCodec(small(codec=STEREO).codec_config()) for _ in range(2))
    same.load_state_dict(codec.state_dict())
    trained = Networks(same, torch.device("cpu"), bfloat16=False)
    audio = 0.1 * torch.randn(3, 2, 3200, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        latents = codec.encoder(audio.transpose(1, 2))
        torch.testing.assert_close(trained.encode(audio.flatten(0, 1)).values, latents, rtol=1e-4, atol=1e-5)
        wanted = codec.decoder(latents).transpose(1, 2).flatten(0, 1)
        torch.testing.assert_close(trained.decode(latents), wanted, rtol=1e-4, atol=1e-5)


def test_crops_have_both_sides_of_a_place_changed_together(sides: Path, tmp_path: Path) -> None:
    cache = AudioCache.build(sides / "both", tmp_path / "cache", RATE, 2)
    recorded, _ = soundfile.read(sides / "both" / "tone.wav", dtype="int16")
    np.testing.assert_array_equal(cache.samples, recorded)
    plain = AugmentSettings(mix=0.0, band_limit=0.0)
    crops = Crops(cache, 960, {}, plain, RATE, 0)
    batch = crops.batch(TRAIN, 3, range(4))
    assert batch.shape == (8, 960)
    assert crops.batch(TRAIN, 3, [2]).equal(batch[4:6])
    for left, right in batch.view(4, 2, 960):
        assert left.std() / right.std() == pytest.approx(4, rel=0.02)  # one gain for both
    for settings in (plain, AugmentSettings(speed=1.0, mix=1.0, band_limit=1.0)):
        changed = Crops(cache, 960, {}, settings, RATE, 1).batch(TRAIN, 0, range(4))
        assert changed.shape == (8, 960)
        spectrum = torch.fft.rfft(changed.view(4, 2, 960)).abs()
        assert (spectrum.argmax(2)[:, 0] < spectrum.argmax(2)[:, 1]).all()  # the higher tone stays on the right


def test_a_pack_of_both_sides_is_the_folder_and_one_of_another_kind_is_refused(sides: Path, tmp_path: Path) -> None:
    packs = {}
    for channels in (1, 2):
        packs[channels] = str(tmp_path / f"pack{channels}")
        assert main(["train", "pack", "--data", str(sides), "--out", packs[channels], "--channels", str(channels)]) == 0
    one = AudioCache.build(sides, tmp_path / "cache", RATE, 2)
    two = AudioCache.build(packs[2], tmp_path / "cache", RATE, 2)
    np.testing.assert_array_equal(one.samples, two.samples)
    mono = AudioCache.build(packs[1], tmp_path / "cache", RATE, 1)
    np.testing.assert_allclose(mono.samples[:, 0], one.samples.mean(1), atol=1)
    with pytest.raises(AudioError, match=r"of 1 channels, and the codec has 2; pack .* --channels 2"):
        AudioCache.build(packs[1], tmp_path / "cache", RATE, 2)


def test_mistakes_are_told(sides: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConfigError, match=r"codec\.audio_channels is 3"):
        small(codec={"audio_channels": 3})
    with pytest.raises(ConfigError, match="is for a mono encodec"):
        small(codec=STEREO | {"start": "transform"})
    config = tmp_path / "stereo.toml"
    config.write_text(to_toml(small(codec=STEREO, teacher={"codec": "bundled", "latents": 1.0})))
    assert main(["train", "run", "--data", str(sides), "--out", str(tmp_path / "out"), "--config", str(config)]) == 2
    assert "a mono codec can teach another" in capsys.readouterr().err
