"""Checks of the values in a config.json that several families share."""

from collections.abc import Container
from typing import Any

from ..errors import ConfigError

__all__ = ["check_type", "numbers"]


def numbers(name: str, value: Any) -> tuple[Any, ...]:
    """A list of numbers as a tuple. Raises ConfigError for anything else."""
    if not isinstance(value, (list, tuple)) or not all(_is_number(item) for item in value):
        raise ConfigError(f"{name} is {value!r}; it must be a list of numbers")
    return tuple(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def check_type(name: str, value: Any, default: Any, may_be_zero: Container[str] = ()) -> None:
    """Raises ConfigError for a value of another type than the field's default, and for a number that is not positive.

    A field whose default is None takes any number, or nothing. may_be_zero: fields that may.
    """
    if default is None:
        if value is not None and not _is_number(value):
            raise ConfigError(f"{name} is {value!r}; it must be a number or null")
    elif isinstance(default, (bool, str)):
        if not isinstance(value, type(default)):
            raise ConfigError(f"{name} is {value!r}; it must be a {type(default).__name__}")
    elif isinstance(default, int) and (not isinstance(value, int) or isinstance(value, bool)):
        raise ConfigError(f"{name} is {value!r}; it must be a whole number")
    for item in value if isinstance(value, tuple) else (value,):
        if _is_number(item) and (item < 0 or (item == 0 and name not in may_be_zero)):
            raise ConfigError(f"{name} is {value!r}; it must be positive")
