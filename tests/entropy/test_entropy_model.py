"""The file of a model: the same bytes for the same weights, and nothing else is taken for one."""

import numpy as np
import pytest
from entropy_models import random_model, random_tensors
from safetensors.numpy import load

from streamcodec.entropy import EntropyModel
from streamcodec.errors import CheckpointError


def test_a_model_comes_back_with_its_hash(tmp_path):
    model = random_model(fingerprint="ab")
    model.write(tmp_path / "model.safetensors")
    read = EntropyModel.read(tmp_path / "model.safetensors")
    assert (read.codec, read.fingerprint, read.hash) == ("test", "ab", model.hash)
    assert all((read.tensors[name] == model.tensors[name]).all() for name in model.tensors)
    assert (read.codebooks, read.codebook_size) == (3, 11)


def test_the_hash_is_that_of_the_file_and_of_every_weight():
    one = random_model()
    tensors = random_tensors()
    tensors["tanh"][0] += 1
    assert len({one.hash, EntropyModel("test", "", tensors).hash, random_model(fingerprint="ab").hash}) == 3


def test_others_read_the_file_as_safetensors():
    model = random_model()
    tensors = load(model.to_bytes())
    assert tensors.keys() == model.tensors.keys()
    assert all((tensors[name] == model.tensors[name]).all() for name in tensors)


def test_every_damaged_byte_changes_the_hash_or_is_refused():
    data = random_model(codebooks=1, size=4, width=1, state=1, stage=1).to_bytes()
    hashes = {random_model(codebooks=1, size=4, width=1, state=1, stage=1).hash}
    for at in range(0, len(data), 7):
        damaged = bytearray(data)
        damaged[at] ^= 0x41
        try:
            found = EntropyModel.parse(bytes(damaged)).hash
        except CheckpointError:
            continue
        assert found not in hashes
        hashes.add(found)


@pytest.mark.parametrize("cut", [0, 4, 100, -1])
def test_a_cut_file_is_refused(cut):
    with pytest.raises(CheckpointError, match="no entropy model"):
        EntropyModel.parse(random_model().to_bytes()[:cut], "m.safetensors")


@pytest.mark.parametrize(
    ("name", "value"),
    [("past.exponents", 30), ("sigmoid", 300), ("frequencies", 0), ("frequencies", 2**20), ("places", 60000)],
)
def test_numbers_for_which_nothing_is_proven_are_refused(name, value):
    tensors = random_tensors()
    tensors[name].flat[0] = value
    with pytest.raises(ValueError, match=name.split(".")[0]):
        EntropyModel("test", "", tensors)


def test_shapes_that_do_not_agree_are_refused():
    tensors = random_tensors()
    tensors["group.biases"] = np.zeros((3, 9), np.int32)
    with pytest.raises(ValueError, match=r"group\.biases"):
        EntropyModel("test", "", tensors)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"none\.safetensors"):
        EntropyModel.read(tmp_path / "none.safetensors")
