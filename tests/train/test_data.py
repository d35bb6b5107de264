import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from streamcodec.errors import AudioError, InputError
from streamcodec.train.config import AugmentSettings
from streamcodec.train.data import START, TRAIN, AudioCache, Batches, Crops, find_audio, refuse_holdout


def _write(path: Path, level: float, seconds: float = 0.5, rate: int = 24000) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.full(round(seconds * rate), level, dtype=np.float32), rate)
    return path


def test_holdout_is_refused(tmp_path: Path) -> None:
    kept = _write(tmp_path / "holdout" / "speech" / "a.wav", 0.1)
    _write(tmp_path / "train" / "speech" / "b.wav", 0.1)
    listed = tmp_path / "list.txt"
    listed.write_text(f"train/speech/b.wav\n{kept}\n")
    for source in (tmp_path, tmp_path / "holdout", tmp_path / "holdout" / "speech", listed):
        with pytest.raises(InputError, match="hold-out"):
            AudioCache.build(source, tmp_path / "cache", 24000)
    link = tmp_path / "innocent"
    link.symlink_to(tmp_path / "holdout")
    with pytest.raises(InputError, match="hold-out"):
        AudioCache.build(link, tmp_path / "cache", 24000)
    AudioCache.build(tmp_path / "train", tmp_path / "cache", 24000)
    refuse_holdout([tmp_path / "not_holdout" / "holdout.wav"])


def test_a_folder_without_audio_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises(AudioError, match="holds no audio"):
        find_audio(tmp_path)
    with pytest.raises(AudioError, match="no folder"):
        find_audio(tmp_path / "missing")


def test_an_unreadable_file_is_named_and_skipped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _write(tmp_path / "speech" / "good.wav", 0.1)
    (tmp_path / "speech" / "bad.wav").write_bytes(b"not audio")
    cache = AudioCache.build(tmp_path, tmp_path / "cache", 24000)
    assert len(cache.lengths) == 1
    assert "bad.wav" in capsys.readouterr().err
    (tmp_path / "speech" / "good.wav").unlink()
    with pytest.raises(AudioError, match="none of the 1"):
        AudioCache.build(tmp_path, tmp_path / "cache", 24000)


def test_a_list_names_files_relative_to_itself(tmp_path: Path) -> None:
    path = _write(tmp_path / "a" / "x.wav", 0.1)
    listed = tmp_path / "list.txt"
    listed.write_text("# a comment\n\na/x.wav\n")
    assert find_audio(listed) == [path]


def test_the_cache_holds_the_audio_at_the_wanted_rate(tmp_path: Path) -> None:
    _write(tmp_path / "speech" / "a.wav", 0.25, rate=24000)
    _write(tmp_path / "speech16k" / "b.wav", -0.5, rate=16000)
    cache = AudioCache.build(tmp_path, tmp_path / "cache", 24000)
    assert cache.groups == ("speech", "speech16k")
    assert cache.lengths.tolist() == [12000, 12000]
    middle = [cache.samples[start + 6000, 0] / 32768 for start in cache.starts]
    np.testing.assert_allclose(middle, [0.25, -0.5], atol=1e-3)
    again = AudioCache.build(tmp_path, tmp_path / "cache", 24000)
    assert again.lengths.tolist() == cache.lengths.tolist()
    assert len(list((tmp_path / "cache").glob("*.pcm"))) == 1


def _crops(cache: AudioCache, length: int = 1000, shares: dict[str, float] | None = None, seed: int = 0) -> Crops:
    return Crops(cache, length, shares or {}, AugmentSettings(), 24000, seed)


def test_shares_decide_how_often_a_group_is_heard(tmp_path: Path) -> None:
    _write(tmp_path / "speech" / "a.wav", 0.1, seconds=1)
    _write(tmp_path / "noise" / "b.wav", 0.1, seconds=9)
    cache = AudioCache.build(tmp_path, tmp_path / "cache", 24000)
    seen = {}
    for shares in ({"speech": 0.75, "noise": 0.25}, {"speech": 0.0}, {}):
        crops = _crops(cache, 100, shares)
        names = [sorted(set(cache.groups))[i] for i in range(len(crops.chances))]
        seen[str(shares)] = dict(zip(names, crops.chances, strict=True))
    assert seen["{'speech': 0.75, 'noise': 0.25}"]["speech"] == pytest.approx(0.75)
    assert seen["{'speech': 0.0}"]["speech"] == 0
    assert seen["{}"]["speech"] == pytest.approx(0.1)
    for bad in ({"speech": 0.0, "noise": 0.0}, {"speech": -1.0}):
        with pytest.raises(InputError, match="leave nothing"):
            _crops(cache, 100, bad)


@pytest.fixture
def cache(tmp_path: Path) -> AudioCache:
    path = tmp_path / "speech" / "a.wav"
    path.parent.mkdir()
    soundfile.write(path, np.random.default_rng(0).uniform(-1, 1, 5000), 24000)
    _write(tmp_path / "speech" / "short.wav", 0.5, seconds=0.01)
    return AudioCache.build(tmp_path, tmp_path / "cache", 24000)


def test_crops_are_finite_within_full_scale_and_depend_on_their_place_alone(cache: AudioCache) -> None:
    batch = _crops(cache, seed=1).batch(TRAIN, 5, range(64))
    assert batch.shape == (64, 1000)
    assert batch.abs().max() <= 1 + 1e-6
    assert batch.isfinite().all()
    assert len(batch.unique(dim=0)) == 64
    # In parts, in another order, after other draws: the same rows.
    crops = _crops(cache, seed=1)
    later = crops.batch(TRAIN, 6, range(64))
    assert crops.batch(TRAIN, 5, range(32, 64)).equal(batch[32:])
    assert crops.batch(TRAIN, 5, [3, 1]).equal(batch[[3, 1]])
    assert not later.equal(batch)
    assert not crops.batch(START, 5, range(64)).equal(batch)
    assert not _crops(cache, seed=2).batch(TRAIN, 5, range(64)).equal(batch)


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_batches_prepared_ahead_are_the_same(cache: AudioCache, threads: int) -> None:
    crops = _crops(cache)
    batches = Batches(crops, range(4, 8), torch.device("cpu"), threads)
    for step in (0, 1, 2, 7, 8):
        assert batches.take(step).equal(crops.batch(TRAIN, step, range(4, 8)))
    batches.close()


def test_the_training_audio_excludes_the_holdout() -> None:
    """By name and content, of the audio that this project is measured on; test_training_set checks the list of it."""
    audio = Path(os.environ.get("STREAMCODEC_AUDIO", Path(__file__).parents[3] / "shared" / "audio"))
    if not (audio / "train").is_dir():
        pytest.skip(f"no audio at {audio}; STREAMCODEC_AUDIO may name a folder with train/ and holdout/")
    heard, kept = find_audio(audio / "train"), find_audio(audio / "holdout")
    refuse_holdout(heard)
    assert not {path.name for path in heard} & {path.name for path in kept}
    assert not {path.read_bytes() for path in kept} & {path.read_bytes() for path in heard}
    with pytest.raises(InputError, match="hold-out"):
        refuse_holdout(find_audio(audio))
