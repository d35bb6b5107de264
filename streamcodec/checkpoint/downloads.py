"""Fetches the files of codecs that are on no model hub: at a fixed commit, with their SHA-256 checked, into a cache."""

import hashlib
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from ..errors import HubError

__all__ = ["FOLDERS", "Folder", "fetch"]

TIMEOUT = 30  # seconds without a byte
LARGEST = 1 << 26  # bytes of one file


class Folder(NamedTuple):
    """address: what a file's name follows; files: their names, and the SHA-256 of each."""

    address: str
    files: Mapping[str, str]


FOLDERS: dict[str, Folder] = {
    "lyra_v2": Folder(
        "https://raw.githubusercontent.com/google/lyra/9cc2231473202761b91e1159d6b8d423b337b685/lyra/model_coeffs/",
        {
            "lyragan.tflite": "50e7839cda4f30599a3a34cfaddcd9c98449b049eee884e1a74295780448ad06",
            "quantizer.tflite": "841ee05989687d32d1f616a8ad1419fc7eda37599d3c05c7cf5a0d60ccf8ac5c",
            "soundstream_encoder.tflite": "237da0b16226fb0a68d49551c81bebf614e42142af72764448359f68581e88f1",
        },
    ),
}


def fetch(name: str) -> Path:
    """The folder with the files of `name`, one of `FOLDERS`: in the cache, or fetched into it.

    The cache is ``streamcodec`` in XDG_CACHE_HOME, or in ``~/.cache``. With HF_HUB_OFFLINE=1 nothing is fetched.
    Raises HubError: a file that cannot be fetched, or is another than the one that was published.
    """
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "streamcodec" / name
    for filename, digest in FOLDERS[name].files.items():
        if not _is(home / filename, digest):
            _download(FOLDERS[name].address + filename, home / filename, digest, name)
    return home


def _is(path: Path, digest: str) -> bool:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest() == digest
    except OSError:
        return False


def _download(address: str, path: Path, digest: str, name: str) -> None:
    aside = (
        f"To work offline, put {', '.join(FOLDERS[name].files)} from {FOLDERS[name].address} in a folder and pass it"
    )
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        raise HubError(f"HF_HUB_OFFLINE is set and the cache does not hold {path}. {aside}")
    try:
        data = _read(address)
        if hashlib.sha256(data).hexdigest() != digest:
            raise HubError(f"{address} gave another file than the published one (its SHA-256 differs). {aside}")
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
            file.write(data)
        Path(file.name).replace(path)
    except OSError as error:  # URLError is one
        raise HubError(f"{address} cannot be fetched into {path.parent} ({error}). {aside}") from error


def _read(address: str) -> bytes:
    """At most `LARGEST` bytes and one."""
    from urllib.request import urlopen

    with urlopen(address, timeout=TIMEOUT) as answer:
        data: bytes = answer.read(LARGEST + 1)
        return data
