"""Files behind URLs (s3://, gs://, https:// and more), by fsspec where it is installed."""

import importlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

from ..errors import MissingPackageError
from ..install import how_to_install

__all__ = ["find_files", "is_url", "open_url"]


def is_url(path: str) -> bool:
    """Whether a path names a protocol, such as s3://bucket/folder. (A Windows drive is no protocol.)"""
    return re.match(r"[a-zA-Z][\w+.-]+://", path) is not None


@contextmanager
def open_url(url: str) -> Iterator[BinaryIO]:
    """A file behind a URL, opened to be read. Raises MissingPackageError, and what the protocol raises."""
    with _fsspec().open(url, "rb") as file:
        yield file


def find_files(url: str) -> tuple[str, list[str]]:
    """A URL as its protocol writes it, and so those of all files below it, in order; itself where it is a file."""
    files, path = _fsspec().core.url_to_fs(url)
    return str(files.unstrip_protocol(path)), sorted(str(files.unstrip_protocol(name)) for name in files.find(path))


def _fsspec() -> Any:
    try:
        return importlib.import_module("fsspec")
    except ModuleNotFoundError as error:
        raise MissingPackageError(
            f"fsspec is missing, which opens URLs; install it with: {how_to_install('corpus')}", name="fsspec"
        ) from error
