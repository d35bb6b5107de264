"""A small codec on disk, and a folder of recordings with a bad one among them."""

import sys
from pathlib import Path

import oracles
import pytest
import recordings
import torch

import streamcodec


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What `streamcodec.load` takes."""
    path = tmp_path_factory.mktemp("codec") / "small"
    streamcodec.save(oracles.small_codec(dtype=torch.float32), path)
    return str(path)


@pytest.fixture(scope="session")
def codec(source: str) -> streamcodec.Codec:
    return streamcodec.load(source)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Eight recordings in two folders, and a file that is none."""
    root = tmp_path / "recordings"
    for i in range(8):
        rate = recordings.RATE * (1 + i % 2)
        recordings.write(root / "ab"[i % 2] / f"{i}.take.wav", 130 + 60 * i, i, rate)
    (root / "b" / "broken.flac").write_bytes(b"fLaC and no more")
    (root / "notes.md").write_text("no audio")
    return root


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch):
    """Take a package away."""

    def take(name: str) -> None:
        monkeypatch.setitem(sys.modules, name, None)

    return take
