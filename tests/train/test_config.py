from pathlib import Path

import pytest

from streamcodec.checkpoint import load
from streamcodec.codecs.spectral import SpectralCodec
from streamcodec.errors import ConfigError
from streamcodec.train.config import Settings, parse_settings, read_settings, to_toml


def test_the_printed_defaults_are_the_defaults(tmp_path: Path) -> None:
    path = tmp_path / "all.toml"
    path.write_text(to_toml(Settings()))
    assert read_settings(path) == Settings()
    assert "commitment = 0.25  # " in path.read_text()


@pytest.mark.parametrize("recipe", ["train_cpu.toml", "train_spectral.toml", "train_default.toml"])
def test_the_recipes_can_be_read(recipe: str) -> None:
    assert read_settings(Path(__file__).parents[2] / "docs" / recipe) != Settings()


def test_the_bundled_codec_has_the_sizes_of_its_recipe() -> None:
    settings = read_settings(Path(__file__).parents[2] / "docs" / "train_default.toml")
    made, bundled = SpectralCodec(settings.codec_config()), load()
    assert made.spec.bandwidths == bundled.spec.bandwidths
    shapes = [{name: p.shape for name, p in codec.named_parameters()} for codec in (made, bundled)]
    assert shapes[0] == shapes[1]


def test_every_kind_of_value_survives(tmp_path: Path) -> None:
    changed = parse_settings(
        {
            "run": {"steps": 7, "device": 'a "b"', "tensorboard": False},
            "data": {"shares": {"speech": 1, "16k": 0.25}},
            "loss": {"windows": [128]},
        }
    )
    path = tmp_path / "some.toml"
    path.write_text(to_toml(changed))
    assert read_settings(path) == changed
    assert changed.data.shares == {"speech": 1.0, "16k": 0.25}


def test_settings_can_be_changed_one_by_one(tmp_path: Path) -> None:
    path = tmp_path / "some.toml"
    path.write_text("[loss]\nmel = 3\n")
    changed = ["run.steps=9", "codec.init_from=bundled", "discriminator.windows=[256]", "loss.wave = 0.5"]
    settings = read_settings(path, changed)
    assert (settings.loss.mel, settings.loss.wave, settings.run.steps) == (3.0, 0.5, 9)
    assert (settings.codec.init_from, settings.discriminator.windows) == ("bundled", (256,))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"speed": {}}, "speed"),
        ({"run": {"sped": 1}}, "sped"),
        ({"run": 3}, "section"),
        ({"run": {"steps": 1.5}}, r"run\.steps"),
        ({"run": {"steps": True}}, r"run\.steps"),
        ({"run": {"steps": -1}}, r"run\.steps"),
        ({"run": {"minutes": 0}}, r"run\.minutes"),
        ({"run": {"precision": "float8"}}, "float8"),
        ({"data": {"batch": 0}}, r"data\.batch"),
        ({"data": {"crop_samples": 1024}}, "longest window"),
        ({"data": {"shares": [1]}}, r"data\.shares"),
        ({"quantizer": {"books": [2]}}, "one chance"),
        ({"loss": {"windows": []}}, r"loss\.windows"),
        ({"loss": {"mel": -1}}, "below 0"),
        ({"loss": {"mel": 0, "linear": 0, "wave": 0}}, "above 0"),
        ({"augment": {"gain_low": 7}}, "gain_low"),
    ],
)
def test_mistakes_are_told(values: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_settings(values)


def test_files_and_changes_that_are_no_settings(tmp_path: Path) -> None:
    (tmp_path / "broken.toml").write_text("[run\n")
    with pytest.raises(ConfigError, match="TOML"):
        read_settings(tmp_path / "broken.toml")
    with pytest.raises(ConfigError, match="missing"):
        read_settings(tmp_path / "missing.toml")
    for text in ("loss.mel", "mel=2", ".mel=2"):
        with pytest.raises(ConfigError, match=r"section\.name=value"):
            read_settings(None, [text])
