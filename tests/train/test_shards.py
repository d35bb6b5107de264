from pathlib import Path

import pytest
import torch

from streamcodec.errors import CheckpointError
from streamcodec.train.shards import newest, read_folder, write_folder


def _tensors() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "large": torch.randn(70, 50, generator=generator),
        "small": torch.arange(5),
        "number": torch.tensor(3.5),
        "half": torch.randn(300, generator=generator).half(),
        "turned": torch.randn(20, 30, generator=generator).T,
    }


@pytest.mark.parametrize("limit", [1000, 3000, 100_000])
def test_tensors_come_back_from_files_under_the_limit(tmp_path: Path, limit: int) -> None:
    write_folder(tmp_path / "step-1", _tensors(), {"a": [1, "b"]}, limit)
    found, state = read_folder(tmp_path / "step-1")
    assert state == {"a": [1, "b"]}
    assert set(found) == set(_tensors())
    assert all(found[name].equal(value) and found[name].dtype == value.dtype for name, value in _tensors().items())
    header = 2000  # names, shapes and offsets of a shard
    assert max(path.stat().st_size for path in (tmp_path / "step-1").glob("*.safetensors")) <= limit + header


def test_the_newest_complete_one_counts(tmp_path: Path) -> None:
    assert newest(tmp_path) is None
    for step in (9, 10):
        write_folder(tmp_path / "checkpoints" / f"step-{step:08d}", _tensors(), {})
    # What a crash leaves behind: a folder that was never renamed, and one whose last file is missing.
    (tmp_path / "checkpoints" / "step-00000011.part").mkdir()
    (tmp_path / "checkpoints" / "step-00000011.part" / "state.json").write_text("{}")
    (tmp_path / "checkpoints" / "step-00000012").mkdir()
    assert newest(tmp_path) == tmp_path / "checkpoints" / "step-00000010"


@pytest.mark.parametrize("damage", ["cut", "gone", "state", "empty"])
def test_damage_is_told(tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "step-1"
    write_folder(folder, _tensors(), {}, 1000)
    shard = folder / "shard-001.safetensors"
    if damage == "cut":
        shard.write_bytes(shard.read_bytes()[:-10])
    elif damage == "gone":
        shard.unlink()
    else:
        (folder / "state.json").write_text("{" if damage == "state" else "{}")
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_folder(folder)
