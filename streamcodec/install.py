"""What a person types to install this package with an extra: every message about a missing package says it so.

The package is on no index. When it is, `how_to_install` is the line to change.
"""

import contextlib
from collections.abc import Iterator

from .errors import MissingPackageError

__all__ = ["how_to_install", "needs_torch"]

TORCH = ("torch", "safetensors", "huggingface_hub")  # the extra "torch" of pyproject.toml


def how_to_install(extra: str) -> str:
    """The command for an extra of pyproject.toml, as a part of a sentence."""
    return f"pip install '.[{extra}]' in a checkout of streamcodec, or 'FILE.whl[{extra}]' with the file of its wheel"


@contextlib.contextmanager
def needs_torch() -> Iterator[None]:
    """Where what runs here finds one of the packages of the extra "torch" missing: MissingPackageError says so."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name not in TORCH:
            raise
        raise MissingPackageError(
            f"{error.name} is missing, which the codecs themselves need; install it with: {how_to_install('torch')}",
            name=error.name,
        ) from error
