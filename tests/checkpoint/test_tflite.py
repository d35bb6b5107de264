"""Weights from TensorFlow Lite files: as they stand there, int8 as what it stands for; damage is told."""

import contextlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tflite_writer import Constant, Operator, model

from streamcodec.checkpoint.tflite import read_folder
from streamcodec.errors import CheckpointError

RANDOM = np.random.default_rng(0)
FLOATS = Operator(
    "conv", Constant(RANDOM.normal(size=(4, 3, 1, 2)).astype("f4")), Constant(RANDOM.normal(size=4).astype("f4"))
)
WHOLE = Operator(
    "depthwise",
    Constant(RANDOM.integers(-128, 128, (1, 3, 1, 4)).astype("i1"), "", [0.5, 0.25, 2.0, 1.0], [0, 1, 0, -3], 3),
    Constant(RANDOM.integers(-9999, 9999, 4).astype("i4"), "", [0.01, 0.02, 0.03, 0.04], [0, 0, 0, 0], 0),
)
ONE_SCALE = Operator(
    "transposed",
    Constant(RANDOM.integers(-128, 128, (2, 4, 1, 3)).astype("i1"), "", [0.5], [2]),
    Constant(RANDOM.integers(-99, 99, 2).astype("i4"), "", [0.125], [0]),
)
TABLE = Constant(RANDOM.normal(size=(16, 8)).astype("f4"), "table_7")
FILE = model([FLOATS, WHOLE, ONE_SCALE], [TABLE])


def read(folder: Path, data: bytes) -> dict[str, torch.Tensor]:
    (folder / "net.tflite").write_bytes(data)
    return read_folder(folder)


def test_weights_are_read_as_what_they_stand_for(tmp_path: Path) -> None:
    found = read(tmp_path, FILE)
    scales = np.array([0.5, 0.25, 2.0, 1.0])
    expected = {
        "net.00.conv.weight": FLOATS.weight.values,
        "net.00.conv.bias": FLOATS.bias.values,
        "net.01.depthwise.weight": (WHOLE.weight.values - np.array([0.0, 1, 0, -3])) * scales,
        "net.01.depthwise.bias": WHOLE.bias.values * np.array([0.01, 0.02, 0.03, 0.04]),
        "net.02.transposed.weight": (ONE_SCALE.weight.values - 2.0) * 0.5,
        "net.02.transposed.bias": ONE_SCALE.bias.values * 0.125,
        "net.table_7": TABLE.values,
    }
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        assert found[name].dtype == torch.float32
        np.testing.assert_allclose(found[name].numpy(), values, rtol=1e-6)


@pytest.mark.parametrize("data", [b"", b"TFL3", bytes(100), FILE[:100], FILE[:-300], b"\xff" * 8 + FILE[8:]])
def test_what_is_no_such_file_is_refused(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(CheckpointError, match=r"net\.tflite: no TensorFlow Lite file, or a damaged one"):
        read(tmp_path, data)


@settings(max_examples=60)
@given(st.integers(0, len(FILE) - 1), st.integers(0, 255))
def test_damage_anywhere_is_an_error_of_ours_or_another_value(tmp_path_factory, place: int, value: int) -> None:
    folder = tmp_path_factory.getbasetemp() / "damaged"
    folder.mkdir(exist_ok=True)
    damaged = bytearray(FILE)
    damaged[place] = value
    with contextlib.suppress(CheckpointError):
        read(folder, bytes(damaged))


def test_a_file_that_names_its_bytes_many_times_over_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="many times over"):
        read(tmp_path, model([], [TABLE], networks=99))
