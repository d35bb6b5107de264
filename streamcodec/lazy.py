"""Names that are imported when first used, so that what needs no torch does not wait for it, or lack it."""

import importlib
from collections.abc import Callable, Mapping
from typing import Any

from .install import needs_torch

__all__ = ["late", "resolve"]


def resolve(package: str, homes: Mapping[str, str], name: str) -> Any:
    """What a package's ``__getattr__`` returns for `name`. homes: the package's names and the module that has each.

    Raises AttributeError for another name, and MissingPackageError where its module needs torch and that is missing.
    """
    if name not in homes:
        raise AttributeError(f"module {package!r} has no attribute {name!r}")
    with needs_torch():
        return getattr(importlib.import_module(f".{homes[name]}", package), name)


def late(module: str, name: str) -> Callable[..., Any]:
    """A function or class of `module`, which is imported when it is first called."""

    def call(*parts: Any) -> Any:
        return getattr(importlib.import_module(module), name)(*parts)

    return call
