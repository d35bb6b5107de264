"""Saving: what is written can be read back, and a failure leaves what was there."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from streamcodec.checkpoint import read, save, saving
from streamcodec.errors import CheckpointError


class Stored:
    """The one thing that `save` asks of a codec."""

    def __init__(self, tensors: dict[str, Tensor], **config: Any) -> None:
        self.content = {"model_type": "encodec", **config}, tensors

    def to_huggingface(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        return self.content


def files_in(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_what_is_saved_is_read_back_to_the_bit(tmp_path: Path) -> None:
    base = torch.randn(6, 4)
    tensors = {
        "a": base,
        "a view of the same memory": base[1:3],
        "transposed": base.t(),
        "expanded": torch.ones(1).expand(5),
        "needs gradient": torch.nn.Parameter(torch.randn(2)),
        "float64": torch.randn(3, dtype=torch.float64),
        "integers": torch.arange(4),
    }
    directory = save(Stored(tensors, ratios=[2, 3], scale=None), tmp_path / "new" / "codec")
    assert sorted(files_in(directory)) == ["config.json", "model.safetensors"]
    with safe_open(directory / "model.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt"}  # without it some versions of transformers refuse the file
    checkpoint = read(directory)
    assert checkpoint.config == {"model_type": "encodec", "ratios": [2, 3], "scale": None}
    assert checkpoint.name == "codec"
    assert checkpoint.tensors.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert torch.equal(checkpoint.tensors[name], tensor)
        assert checkpoint.tensors[name].dtype == tensor.dtype


def test_saving_again_replaces_both_files(tmp_path: Path) -> None:
    save(Stored({"a": torch.ones(1)}, x=1), tmp_path)
    save(Stored({"b": torch.zeros(2)}, x=2), str(tmp_path))
    assert read(tmp_path).tensors.keys() == {"b"}
    assert json.loads((tmp_path / "config.json").read_text())["x"] == 2
    assert sorted(files_in(tmp_path)) == ["config.json", "model.safetensors"]


def test_a_failed_write_leaves_the_old_files_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(Stored({"a": torch.ones(1)}), tmp_path)
    before = files_in(tmp_path)

    def disk_full(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
        path.write_bytes(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(saving, "save_file", disk_full)
    with pytest.raises(CheckpointError, match=f"{tmp_path}: cannot be written.*No space left"):
        save(Stored({"a": torch.zeros(1)}), tmp_path)
    assert files_in(tmp_path) == before
    with pytest.raises(CheckpointError):
        save(Stored({"a": torch.zeros(1)}), tmp_path / "new")
    assert files_in(tmp_path / "new") == {}


def test_a_directory_that_cannot_be_made_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(CheckpointError, match="file: cannot be written"):
        save(Stored({"a": torch.ones(1)}), tmp_path / "file")
