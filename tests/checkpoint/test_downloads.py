"""Files that are on no hub: fetched once, checked, kept; refused where they are others."""

import hashlib
from pathlib import Path

import pytest

from streamcodec.checkpoint import downloads
from streamcodec.checkpoint.downloads import Folder, fetch
from streamcodec.errors import HubError


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder from which two files can be fetched, and a cache of the test's own."""
    source = tmp_path / "published"
    source.mkdir()
    for name in ("one", "two"):
        (source / name).write_bytes(name.encode())
    digests = {name: hashlib.sha256(name.encode()).hexdigest() for name in ("one", "two")}
    monkeypatch.setitem(downloads.FOLDERS, "some", Folder(f"{source.as_uri()}/", digests))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    return source


def test_files_are_fetched_once_and_kept(published: Path, tmp_path: Path) -> None:
    folder = fetch("some")
    assert folder == tmp_path / "cache" / "streamcodec" / "some"
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {"one": b"one", "two": b"two"}
    for path in published.iterdir():
        path.unlink()
    assert fetch("some") == folder


def test_a_file_that_was_damaged_in_the_cache_is_fetched_again(published: Path) -> None:
    (fetch("some") / "one").write_bytes(b"on")
    assert (fetch("some") / "one").read_bytes() == b"one"


def test_another_file_than_the_published_one_is_refused(published: Path) -> None:
    (published / "two").write_bytes(b"three")
    with pytest.raises(HubError, match="SHA-256 differs"):
        fetch("some")


def test_what_cannot_be_fetched_says_what_to_do(published: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (published / "one").unlink()
    with pytest.raises(HubError, match="put one, two from"):
        fetch("some")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(HubError, match="HF_HUB_OFFLINE is set"):
        fetch("some")


def test_a_published_name_is_loaded_from_the_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from streamcodec import load

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(HubError, match=r"soundstream_encoder\.tflite"):
        load("lyra_v2")
