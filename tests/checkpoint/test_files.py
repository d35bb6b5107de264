"""Weight and configuration files: each kind of damage is one clear error, and no file's code is run."""

import json
import os
import pickle
import re
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from streamcodec.checkpoint import files
from streamcodec.errors import CheckpointError

WEIGHTS = {"a.weight": torch.arange(24.0).reshape(2, 3, 4), "a.bias": torch.ones(2), "b": torch.ones(3).half()}


def write(path: Path, kind: str) -> Path:
    """WEIGHTS in one of the formats that checkpoints come in."""
    if kind == "safetensors":
        save_file(WEIGHTS, path.with_suffix(".safetensors"))
        return path.with_suffix(".safetensors")
    path = path.with_suffix(".th")
    torch.save(OrderedDict(WEIGHTS), path, _use_new_zipfile_serialization=kind == "zip")
    return path


KINDS = ["safetensors", "zip", "legacy"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_format_reads_back_what_was_written(tmp_path: Path, kind: str) -> None:
    entries = files.read_weights(write(tmp_path / "w", kind))
    assert entries.keys() == WEIGHTS.keys()
    for name, tensor in WEIGHTS.items():
        assert torch.equal(entries[name], tensor)
        assert entries[name].dtype == tensor.dtype


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_cut_anywhere_is_reported_as_truncated(tmp_path: Path, kind: str) -> None:
    path = write(tmp_path / "w", kind)
    data = path.read_bytes()
    for length in [*range(0, len(data), max(1, len(data) // 60)), len(data) - 1]:
        path.write_bytes(data[:length])
        with pytest.raises(CheckpointError, match=f"{re.escape(str(path))}: not a whole .*truncated"):
            files.read_weights(path)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_altered_bytes_give_an_error_of_ours_or_tensors(tmp_path: Path, kind: str, data: st.DataObject) -> None:
    path = write(tmp_path / "w", kind)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        outcome = f"{path}: {len(files.read_weights(path))} entries"
    except CheckpointError as error:
        outcome = str(error)
    assert outcome.startswith(f"{path}: ")


class Bomb:
    """Unpickles by creating the file `path`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize(
    "how", ["zip", "legacy", *[f"pickle protocol {n}" for n in range(pickle.HIGHEST_PROTOCOL + 1)]]
)
def test_a_pickle_with_code_is_refused_and_not_run(tmp_path: Path, how: str) -> None:
    sprung, path = tmp_path / "sprung", tmp_path / "bomb.th"
    content = {"a.weight": torch.ones(2), "bomb": Bomb(sprung)}
    if how.startswith("pickle"):
        path.write_bytes(pickle.dumps(content["bomb"], protocol=int(how[-1])))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=how == "zip")
    with pytest.raises(CheckpointError, match=r"bomb\.th: refused.*mkdir.*not executed") as caught:
        files.read_weights(path)
    assert "weights_only" not in str(caught.value)  # no advice to load it unrestricted
    assert not sprung.exists()
    if how.startswith("pickle"):
        pickle.loads(path.read_bytes())  # the bomb is live: an unrestricted load would have set it off
        assert sprung.exists()


def test_the_environment_cannot_switch_the_restriction_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    sprung, path = tmp_path / "sprung", tmp_path / "bomb.pt"
    torch.save({"bomb": Bomb(sprung)}, path)
    with pytest.raises(CheckpointError, match="refused"):
        files.read_weights(path)
    assert not sprung.exists()


@pytest.mark.filterwarnings("ignore")
def test_a_whole_module_or_program_is_refused(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(2, 2), tmp_path / "module.pt")
    with pytest.raises(CheckpointError, match=r"module\.pt: refused.*torch\.nn\.modules\.linear\.Linear"):
        files.read_weights(tmp_path / "module.pt")
    torch.jit.script(torch.nn.Linear(2, 2)).save(tmp_path / "program.pt")
    with pytest.raises(CheckpointError, match=r"program\.pt: refused.*TorchScript"):
        files.read_weights(tmp_path / "program.pt")


@pytest.mark.parametrize("suffix", [".th", ".safetensors"])
@pytest.mark.parametrize(
    ("content", "hint"),
    [
        ("<!DOCTYPE html><html>Sign in</html>", "web page"),
        ("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 7\n", "git-lfs pointer"),
    ],
)
def test_what_lies_in_the_place_of_a_checkpoint_is_recognised(
    tmp_path: Path, suffix: str, content: str, hint: str
) -> None:
    path = tmp_path / f"model{suffix}"
    path.write_text(content)
    with pytest.raises(CheckpointError, match=hint):
        files.read_weights(path)


@pytest.mark.parametrize("content", [[torch.ones(1)], torch.ones(1), 5])
def test_a_torch_file_that_holds_no_dictionary_is_reported(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "m.pth")
    with pytest.raises(CheckpointError, match=rf"m\.pth.*state dict.*{type(content).__name__}"):
        files.read_weights(tmp_path / "m.pth")


@pytest.mark.parametrize("name", ["model.th", "model.safetensors", "model.safetensors.index.json"])
def test_a_file_that_is_not_there_is_reported(tmp_path: Path, name: str) -> None:
    with pytest.raises(CheckpointError, match=re.escape(str(tmp_path / name))):
        files.read_weights(tmp_path / name)


def test_a_suffix_that_is_no_weight_file_is_reported_with_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"speech\.wav.*\.safetensors.*\.th"):
        files.read_weights(tmp_path / "speech.wav")


BAD_CONFIGS = {
    "empty": ("", "not JSON"),
    "cut": ('{"model_type": "enc', "not JSON"),
    "binary": (b"\xff\xfe\x00", "not JSON"),
    "too deep": ("[" * 200_000, "not JSON"),
    "list": ("[1]", "JSON object.*list"),
    "string": ('"encodec"', "JSON object.*str"),
    "model_type of another type": ('{"model_type": 3}', "model_type"),
}


@pytest.mark.parametrize(("content", "message"), BAD_CONFIGS.values(), ids=BAD_CONFIGS.keys())
def test_a_bad_configuration_is_reported(tmp_path: Path, content: str | bytes, message: str) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(CheckpointError, match=f"{re.escape(str(path))}.*{message}"):
        files.read_config(path)


def shards(directory: Path, weight_map: Any) -> Path:
    """Two shards, one entry each, under an index that holds `weight_map`."""
    save_file({"a": torch.zeros(1)}, directory / "one.safetensors")
    torch.save({"b": torch.ones(2)}, directory / "two.bin")
    index = directory / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return index


def test_shards_are_read_as_one(tmp_path: Path) -> None:
    entries = files.read_weights(shards(tmp_path, {"a": "one.safetensors", "b": "two.bin"}))
    assert {name: tensor.tolist() for name, tensor in entries.items()} == {"a": [0.0], "b": [1.0, 1.0]}


BAD_MAPS: dict[str, tuple[Any, str]] = {
    "absent shard": ({"a": "three.safetensors"}, r"three\.safetensors: not there"),
    "entry in another shard": ({"a": "one.safetensors", "b": "one.safetensors"}, r"one\.safetensors: no entry 'b'"),
    "outside the directory": ({"a": "../one.safetensors"}, "no shard file beside"),
    "absolute": ({"a": "/one.safetensors"}, "no shard file beside"),
    "an index as a shard": ({"a": "model.safetensors.index.json"}, "no shard file beside"),
    "no string": ({"a": 3}, "no shard file beside"),
    "empty": ({}, "weight_map"),
    "a list": (["one.safetensors"], "weight_map"),
}


@pytest.mark.parametrize(("weight_map", "message"), BAD_MAPS.values(), ids=BAD_MAPS.keys())
def test_a_bad_index_is_reported(tmp_path: Path, weight_map: Any, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        files.read_weights(shards(tmp_path, weight_map))
