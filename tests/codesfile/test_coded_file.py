"""Codes files that are entropy coded: the same codes in fewer bytes, and damage costs one block."""

import dataclasses
import json
import struct

import numpy as np
import pytest
from entropy_models import likeliest, random_model
from hypothesis import given
from hypothesis import strategies as st

from streamcodec.codesfile import CodesBlock, CodesHeader, CodesReader, CodesWriter
from streamcodec.codesfile.coded import BLOCK
from streamcodec.entropy import Predictor
from streamcodec.errors import AudioError, CodesError

HEADER = CodesHeader("test", "nowhere", "ab", 6.0, 24000, 1, 480, 11, "exact")
MODEL = random_model("ab", most=60)


def frames(count, codebooks=3, seed=0):
    return np.random.default_rng(seed).integers(0, 11, (1, codebooks, count))


def written(path, *parts, scales=False, model=MODEL, header=HEADER):
    with CodesWriter(path, header, model) as writer:
        for codes in parts:
            count = codes.shape[2]
            scale = np.linspace(0.5, 1, count, dtype=np.float32)[None] if scales else None
            writer.write(CodesBlock(codes, scale, count * 480))
    return path


def read(path, size=77, model=MODEL):
    with CodesReader(path, model) as reader:
        blocks = list(reader.arrays(size))
        return np.concatenate([block.data for block in blocks], 2), blocks, reader


@given(st.lists(st.integers(0, 700), min_size=1, max_size=4), st.integers(1, 3), st.booleans(), st.integers(1, 900))
def test_codes_come_back_however_they_are_written_and_read(tmp_path_factory, counts, codebooks, scales, size):
    parts = [frames(count, codebooks, seed) for seed, count in enumerate(counts)]
    path = written(tmp_path_factory.mktemp("coded") / "c.safetensors", *parts, scales=scales)
    whole = np.concatenate(parts, 2)
    with CodesReader(path, MODEL) as reader:
        assert (reader.codebooks, reader.frames) == whole.shape[1:]
        assert reader.header == dataclasses.replace(HEADER, length=whole.shape[2] * 480)
        blocks = list(reader.arrays(size))
    if whole.shape[2]:
        np.testing.assert_array_equal(np.concatenate([block.data for block in blocks], 2), whole)
        assert sum(block.length for block in blocks) == whole.shape[2] * 480
        assert all((block.scale is not None) == scales for block in blocks)


def test_what_is_foreseen_takes_fewer_bytes(tmp_path):
    codes = likeliest(Predictor(MODEL), 1200, 3)[None].astype(int)
    coded, plain = written(tmp_path / "c.safetensors", codes), written(tmp_path / "p.safetensors", codes, model=None)
    assert coded.stat().st_size < plain.stat().st_size / 2
    np.testing.assert_array_equal(read(coded)[0], codes)


def changed(path, at, value):
    data = bytearray(path.read_bytes())
    data[at] ^= value
    path.write_bytes(bytes(data))


def test_a_flipped_bit_costs_its_block_alone(tmp_path):
    path = written(tmp_path / "c.safetensors", frames(3 * BLOCK))
    header = 8 + struct.unpack("<Q", path.read_bytes()[:8])[0]
    layout = json.loads(path.read_bytes()[8:header])
    start, end = layout["coded"]["data_offsets"]
    changed(path, header + (start + end) // 2, 8)  # in the second of three
    with CodesReader(path, MODEL) as reader:
        blocks = reader.arrays(BLOCK)
        np.testing.assert_array_equal(next(blocks).data, frames(3 * BLOCK)[..., :BLOCK])
        with pytest.raises(CodesError, match=r"c\.safetensors: frames 500\.\.999: .*damaged"):
            next(blocks)
        last = reader._block(2 * BLOCK, 3 * BLOCK, 0).data
        np.testing.assert_array_equal(last, frames(3 * BLOCK)[..., 2 * BLOCK :])


def test_a_cut_anywhere_is_told(tmp_path):
    path = written(tmp_path / "c.safetensors", frames(600))
    data = path.read_bytes()
    for size in (*range(0, len(data), 97), len(data) - 1):
        path.write_bytes(data[:size])
        with pytest.raises(AudioError):
            read(path)


def test_another_model_is_told_with_both_hashes(tmp_path):
    path = written(tmp_path / "c.safetensors", frames(10))
    other = random_model("ab", seed=5)
    with pytest.raises(AudioError, match=f"{MODEL.hash[:16]}, and this is {other.hash[:16]}"):
        read(path, model=other)
    with pytest.raises(AudioError, match="none lies beside the codec"):
        read(path, model=None)


def test_a_model_for_other_weights_or_fewer_entries_codes_nothing(tmp_path):
    with pytest.raises(AudioError, match="other weights"):
        written(tmp_path / "c.safetensors", frames(3), model=random_model("cd"))
    with pytest.raises(AudioError, match="entries"):
        written(tmp_path / "c.safetensors", frames(3), header=dataclasses.replace(HEADER, codebook_size=20))
    assert not (tmp_path / "c.safetensors").exists()


def test_damage_anywhere_in_the_header_is_an_error_or_changes_nothing(tmp_path):
    path = written(tmp_path / "c.safetensors", frames(20), scales=True)
    data = path.read_bytes()
    header = 8 + struct.unpack("<Q", data[:8])[0]
    rng = np.random.default_rng(0)
    for at in rng.integers(8, header + 8, 150).tolist():
        path.write_bytes(data)
        changed(path, at, int(1 << rng.integers(0, 7)))
        try:
            codes, _, _ = read(path)
        except (AudioError, CodesError):
            continue
        np.testing.assert_array_equal(codes, frames(20))
