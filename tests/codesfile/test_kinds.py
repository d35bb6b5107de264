"""Which format a file has."""

import pytest

from streamcodec.codesfile import kind_of


@pytest.mark.parametrize(
    ("name", "content", "found", "by_name"),
    [
        ("a.dac", b"\x93NUMPY\x01", "dac", "dac"),
        ("a.ecdc", b"\x93NUMPY\x01", "dac", "ecdc"),
        ("codes", b"ECDC\x00", "ecdc", "safetensors"),
        ("a.safetensors", b"ECDC\x00", "ecdc", "safetensors"),
        ("a.DAC", b"", "dac", "dac"),
        ("a.ecdc", b"EC", "ecdc", "ecdc"),
        ("a.wav", b"RIFF", "safetensors", "safetensors"),
    ],
)
def test_content_comes_before_the_suffix(tmp_path, name, content, found, by_name):
    path = tmp_path / name
    assert kind_of(path) == by_name
    path.write_bytes(content)
    assert kind_of(path) == found
    assert kind_of(tmp_path) == "safetensors"
