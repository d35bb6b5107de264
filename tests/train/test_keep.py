"""For some folders the target is what a codec makes of them, so that it is kept while others are learnt."""

from pathlib import Path
from typing import Any

import pytest
import torch
from train_small import run_of, small

from streamcodec import load
from streamcodec.checkpoint import save
from streamcodec.codecs.encodec import EncodecCodec
from streamcodec.errors import ConfigError
from streamcodec.train.data import TRAIN
from streamcodec.train.keep import Keeper
from streamcodec.train.loop import Run


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(2)
    codec = EncodecCodec(small().codec.to_huggingface())
    codec.quantizer.set_codebooks(0.1 * torch.randn_like(codec.quantizer.codebooks))
    return save(codec, tmp_path_factory.mktemp("kept"))


def keeping(source: Path, folder: Path, kept: Path, folders: list[str], **sections: dict[str, Any]) -> Run:
    given = {"codec": {"init_from": str(kept)}, "keep": {"codec": str(kept), "folders": folders}}
    return run_of(source, folder, **(given | sections))


def test_kept_folders_have_the_codecs_output_and_others_themselves(
    recordings: Path, tmp_path: Path, kept: Path
) -> None:
    trainer = keeping(recordings, tmp_path, kept, ["speech"]).trainer
    assert isinstance(trainer.keeper, Keeper)
    audio = trainer.crops.batch(TRAIN, 0, range(4))
    groups, books = ["speech", "speech", "music", "speech"], [1, 4, 2, 3]
    targets = trainer.keeper.targets(audio, torch.tensor(books), groups)
    codec = load(kept)
    for target, crop, group, count in zip(targets, audio, groups, books, strict=True):
        codes = codec.encode(crop[None, None], num_codebooks=count)
        expected = crop if group == "music" else codec.decode(codes)[0, 0]
        torch.testing.assert_close(target, expected[: len(target)], atol=1e-5, rtol=0)
    assert trainer.keeper.targets(audio, torch.tensor(books), ["music"] * 4) is audio


def test_a_codec_that_keeps_all_of_itself_has_nothing_to_learn(recordings: Path, tmp_path: Path, kept: Path) -> None:
    sections = {"loss": {"adversarial": 0.0, "feature": 0.0}, "optimizer": {"learning_rate": 1e-7}}
    all_kept, none_kept = (
        next(iter(keeping(recordings, tmp_path / name, kept, folders, **sections).updates()))
        for name, folders in (("all", ["speech", "music"]), ("none", ["noise"]))
    )
    assert all_kept["wave"] < 1e-5 < 0.01 < none_kept["wave"]


def test_mistakes_of_what_is_kept_are_told(recordings: Path, tmp_path: Path, kept: Path) -> None:
    fewer = {"target_bandwidths": [1.5], "default_bandwidth": 1.5}
    other = save(EncodecCodec(small(codec=fewer).codec.to_huggingface()), tmp_path / "other")
    with pytest.raises(ConfigError, match="has 2 codebooks"):
        keeping(recordings, tmp_path / "run", kept, ["speech"], keep={"codec": str(other)})
    shorter = {"upsampling_ratios": [8, 5, 4]}
    other = save(EncodecCodec(small(codec=shorter).codec.to_huggingface()), tmp_path / "shorter")
    with pytest.raises(ConfigError, match="frames of 160 samples"):
        keeping(recordings, tmp_path / "run", kept, ["speech"], keep={"codec": str(other)})
    with pytest.raises(ConfigError, match="use one of them"):
        small(keep={"codec": "one"}, teacher={"codec": "another", "answers": True})
