"""What a source means: nothing, a directory, a file, a name; and that a local path wins."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import EncodecConfig, EncodecModel

from streamcodec.checkpoint import ALIASES, read
from streamcodec.errors import CheckpointError, InputError, UnknownCodecError


@pytest.fixture(scope="module")
def model() -> EncodecModel:
    torch.manual_seed(0)
    config = EncodecConfig(
        num_filters=4, hidden_size=8, upsampling_ratios=[3, 2], codebook_size=16, target_bandwidths=[16.0, 48.0]
    )
    return EncodecModel(config).eval()


@pytest.fixture(scope="module")
def merged(model: EncodecModel) -> dict[str, Tensor]:
    """The tensors that every way of storing `model` must come to."""
    found: dict[str, Tensor] = {}
    for name, tensor in model.state_dict().items():
        module, _, rest = name.partition(".parametrizations.")
        found[f"{module}.weight" if rest else name] = model.get_submodule(module).weight.detach() if rest else tensor
    return found


@pytest.fixture
def directory(model: EncodecModel, tmp_path: Path) -> Path:
    """`model` as transformers saves it."""
    model.save_pretrained(tmp_path / "some_codec")
    return tmp_path / "some_codec"


def respell(directory: Path, g_suffix: str, v_suffix: str) -> None:
    path = directory / "model.safetensors"
    tensors = load_file(path)
    assert any(name.endswith(".parametrizations.weight.original0") for name in tensors)
    save_file(
        {
            name.replace(".parametrizations.weight.original0", g_suffix).replace(
                ".parametrizations.weight.original1", v_suffix
            ): tensor
            for name, tensor in tensors.items()
        },
        path,
    )


def check(source: Any, model: EncodecModel, merged: dict[str, Tensor], name: str) -> None:
    checkpoint = read(source)
    assert checkpoint.name == name
    assert checkpoint.config == json.loads(json.dumps(checkpoint.config))
    assert checkpoint.config is not None
    assert (
        EncodecConfig(**checkpoint.config).to_dict().items()
        >= {
            "upsampling_ratios": [3, 2],
            "codebook_size": 16,
            "num_filters": 4,
        }.items()
    )
    assert checkpoint.tensors.keys() == merged.keys()
    for key, tensor in merged.items():
        assert torch.equal(checkpoint.tensors[key], tensor), key


@pytest.mark.parametrize("spelling", ["parametrizations", "legacy", "plain"])
def test_a_directory_reads_the_same_in_all_three_spellings(
    directory: Path, model: EncodecModel, merged: dict[str, Tensor], spelling: str
) -> None:
    if spelling == "legacy":
        respell(directory, ".weight_g", ".weight_v")
    if spelling == "plain":
        save_file({name: tensor.contiguous() for name, tensor in merged.items()}, directory / "model.safetensors")
    check(directory, model, merged, "some_codec")
    check(str(directory), model, merged, "some_codec")


def test_a_sharded_directory(model: EncodecModel, merged: dict[str, Tensor], tmp_path: Path) -> None:
    model.save_pretrained(tmp_path / "sharded", max_shard_size="4KB")
    assert len(list((tmp_path / "sharded").glob("*.safetensors"))) > 2
    assert not (tmp_path / "sharded" / "model.safetensors").exists()
    check(tmp_path / "sharded", model, merged, "sharded")


def test_a_directory_with_a_torch_file(directory: Path, model: EncodecModel, merged: dict[str, Tensor]) -> None:
    (directory / "model.safetensors").unlink()
    torch.save(model.state_dict(), directory / "pytorch_model.bin")
    check(directory, model, merged, "some_codec")


def test_safetensors_are_preferred_to_a_pickle(directory: Path, model: EncodecModel, merged: dict[str, Tensor]) -> None:
    (directory / "pytorch_model.bin").write_bytes(b"not read")
    check(directory, model, merged, "some_codec")


@pytest.mark.parametrize("filename", ["model.safetensors", "pytorch_model.bin"])
def test_a_huggingface_weight_file_is_read_with_the_config_beside_it(
    directory: Path, model: EncodecModel, merged: dict[str, Tensor], filename: str
) -> None:
    torch.save(model.state_dict(), directory / "pytorch_model.bin")
    check(directory / filename, model, merged, "some_codec")


@pytest.mark.parametrize("suffix", [".th", ".pt", ".pth", ".bin", ".safetensors"])
def test_a_bare_file_has_no_config(merged: dict[str, Tensor], tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"my.model-1{suffix}"
    if suffix == ".safetensors":
        save_file({name: tensor.contiguous() for name, tensor in merged.items()}, path)
    else:
        torch.save(merged, path)
    checkpoint = read(path)
    assert checkpoint.config is None
    assert checkpoint.name == "my.model-1"
    assert checkpoint.filename == path.name
    assert checkpoint.tensors.keys() == merged.keys()


def test_an_original_file_does_not_take_the_config_of_its_neighbour(directory: Path, merged: dict[str, Tensor]) -> None:
    torch.save(merged, directory / "other.th")
    assert read(directory / "other.th").config is None


def hashed(path: Path, stem: str) -> Path:
    """A torch file under the name that its hash gives it."""
    torch.save({"a": torch.arange(1000.0)}, path / "raw")
    digest = hashlib.sha256((path / "raw").read_bytes()).hexdigest()
    return (path / "raw").rename(path / f"{stem}-{digest[:8]}.th")


@pytest.mark.parametrize("stem", sorted(ALIASES))
def test_the_hash_in_a_published_files_name_is_verified(tmp_path: Path, stem: str) -> None:
    path = hashed(tmp_path, stem)
    checkpoint = read(path)
    assert checkpoint.name == stem
    assert checkpoint.filename == path.name
    content = path.read_bytes()
    middle = len(content) // 2
    for damaged in (content[:-100], content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]):
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError, match=f"{path.name}: the SHA-256.*download"):
            read(path)


def test_the_published_names_carry_the_hash_that_is_checked(tmp_path: Path) -> None:
    for name in ("encodec_24khz-d7cc33bc.th", "encodec_48khz-7e698e3e.th"):
        torch.save({"a": torch.ones(1)}, tmp_path / name)
        with pytest.raises(CheckpointError, match=f"{name}: the SHA-256.*{name[-11:-3]}"):
            read(tmp_path / name)


def test_a_hash_like_ending_of_any_other_name_means_nothing(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(1)}, tmp_path / "mine-0123abcd.th")
    assert read(tmp_path / "mine-0123abcd.th").name == "mine-0123abcd"


def test_a_local_path_wins_over_a_name_and_a_hub_id(
    directory: Path, tmp_path: Path, model: EncodecModel, merged: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("encodec_24khz", "facebook/encodec_48khz", "anything at all"):
        shutil.copytree(directory, tmp_path / name)
        check(name, model, merged, Path(name).name)


def test_home_is_understood(
    directory: Path, model: EncodecModel, merged: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(directory.parent))
    monkeypatch.setenv("USERPROFILE", str(directory.parent))
    check("~/some_codec", model, merged, "some_codec")


def test_the_current_directory_is_named_after_itself(
    directory: Path, model: EncodecModel, merged: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(directory)
    check(".", model, merged, "some_codec")
    check("model.safetensors", model, merged, "some_codec")


@pytest.mark.parametrize("source", ["nonsense", "", "a/b/c", "encodec 24", "x" * 300, "encodec\n24khz"])
def test_a_name_that_is_nothing_is_answered_with_what_is_possible(source: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        read(source)
    if len(source) < 256:  # a longer one cannot even be looked up on most file systems
        assert isinstance(caught.value, UnknownCodecError)
        for allowed in (*ALIASES, "config.json", "owner/name", ".th", ".safetensors"):
            assert allowed in str(caught.value)


@pytest.mark.parametrize("source", ["gone.th", "./gone", "~/gone/gone", "/gone/gone", "sub/model.safetensors"])
def test_a_path_that_is_not_there_is_reported_as_such(source: str, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    for given in (source, Path(source)):
        with pytest.raises(CheckpointError, match="no such file or directory"):
            read(given)


def test_a_missing_path_object_is_never_looked_for_on_the_hub(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match="facebook/encodec_24khz: no such file or directory"):
        read(Path("facebook/encodec_24khz"))


def test_a_directory_without_its_parts_is_reported(directory: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match=r"empty: no config\.json"):
        read(tmp_path / "empty")
    (directory / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"some_codec.*no weights.*model\.safetensors.*pytorch_model\.bin"):
        read(directory)


@pytest.mark.parametrize("source", [3, b"encodec_24khz", ["encodec_24khz"]])
def test_a_source_of_another_type_is_an_input_error(source: Any) -> None:
    with pytest.raises(InputError, match=type(source).__name__):
        read(source)


def test_a_revision_of_something_local_is_an_input_error(directory: Path) -> None:
    with pytest.raises(InputError, match="revision"):
        read(directory, revision="main")


def test_damage_is_reported_with_the_file_it_is_in(directory: Path) -> None:
    weights = directory / "model.safetensors"
    tensors = load_file(weights)
    name = next(name for name in tensors if name.endswith("bias"))
    tensors[name] = torch.full_like(tensors[name], float("nan"))
    save_file(tensors, weights)
    with pytest.raises(CheckpointError, match=rf"{weights}.*'{name}'"):
        read(directory)
    weights.write_bytes(weights.read_bytes()[:-4])
    with pytest.raises(CheckpointError, match=f"{weights}: .*truncated"):
        read(directory)
