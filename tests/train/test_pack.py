from pathlib import Path

import numpy as np
import pytest
import soundfile

from streamcodec.errors import AudioError, SampleRateError
from streamcodec.train.data import AudioCache, find_audio, recordings
from streamcodec.train.pack import PART_SECONDS, Packed, is_pack, read_pack, write_pack

RATE = 8000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for group, name, seconds in (("speech", "b", 1.0), ("music", "a", 2.5), ("speech", "a", 0.3), ("music", "z", 0.7)):
        path = tmp_path / "audio" / group / f"{name}.flac"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, rng.uniform(-0.5, 0.5, round(seconds * RATE)), RATE)
    return tmp_path / "audio"


def test_reading_a_pack_is_reading_the_folder(folder: Path, tmp_path: Path) -> None:
    done = write_pack(recordings(find_audio(folder), RATE), tmp_path / "pack", RATE, 10**8)
    assert (done["recordings"], done["left_out"]) == (4, 0)
    assert is_pack(tmp_path / "pack")
    assert not is_pack(folder)
    one = AudioCache.build(folder, tmp_path / "cache", RATE)
    two = AudioCache.build(tmp_path / "pack", tmp_path / "cache", RATE)
    assert one.samples.tobytes() == two.samples.tobytes()
    assert (one.groups, one.lengths.tolist()) == (two.groups, two.lengths.tolist())


def test_long_recordings_are_parted_and_joined(tmp_path: Path) -> None:
    samples = np.random.default_rng(1).integers(-9, 9, (2 * PART_SECONDS + 7) * 100, dtype=np.int16)
    write_pack([Packed("x", "g", samples[:, None])], tmp_path, 100, 10**8)
    (back,) = read_pack(tmp_path, 100)
    assert back.samples.tobytes() == samples.tobytes()


def test_a_limit_takes_the_same_share_of_every_group(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    heard = [
        Packed(f"{group}{i}", group, rng.integers(-99, 99, (2000, 1), dtype=np.int16))
        for group, count in (("a", 40), ("b", 20))
        for i in range(count)
    ]
    whole = write_pack(heard, tmp_path / "whole", RATE, 10**8)["bytes"]
    done = write_pack(heard, tmp_path / "half", RATE, whole // 2)
    assert 0.45 * whole < done["bytes"] <= whole / 2
    assert done["recordings"] + done["left_out"] == 60
    kept = [packed.group for packed in read_pack(tmp_path / "half", RATE)]
    assert 18 <= kept.count("a") <= 20
    assert 9 <= kept.count("b") <= 10
    with pytest.raises(AudioError, match="no recording fits"):
        write_pack(heard, tmp_path / "none", RATE, 100)


def test_damage_and_another_rate_are_told(folder: Path, tmp_path: Path) -> None:
    write_pack(recordings(find_audio(folder), RATE), tmp_path / "pack", RATE, 10**8)
    with pytest.raises(SampleRateError, match="8000"):
        list(read_pack(tmp_path / "pack", 24000))
    shard = tmp_path / "pack" / "pack-000.safetensors"
    shard.write_bytes(shard.read_bytes()[:-100])
    with pytest.raises(AudioError, match="pack-000"):
        list(read_pack(tmp_path / "pack", RATE))
