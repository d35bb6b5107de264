"""Numbers from callers: those of Python, NumPy and torch alike."""

import operator
from collections.abc import Iterable
from typing import SupportsFloat, SupportsIndex

from .errors import InputError

__all__ = ["meant", "real", "whole"]

# kbps. Bandwidths are stated to the bit per second: DAC's 0.312 stands for 312.5 bit/s, and 0.3125 means it.
STATED_TO = 0.001


def real(value: SupportsFloat, name: str) -> float:
    """`value` as a float: a number of Python or NumPy, or a torch tensor or NumPy array without dimensions.

    name: what the message calls it. Raises InputError for anything else, bool and str too.
    """
    try:
        if isinstance(value, (bool, str, bytes)) or _dimensions(value):
            raise TypeError
        return float(value)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        raise InputError(f"{name} is {value!r}; it must be one number") from None


def whole(value: SupportsIndex, name: str, least: int = 1) -> int:
    """`value` as an int of at least `least`; it may come from Python, NumPy or torch, as for `real`.

    Raises InputError for anything else, such as a bool, or a float even if it has no fraction.
    """
    try:
        if isinstance(value, bool) or _dimensions(value):
            raise TypeError
        number = operator.index(value)
    except (TypeError, ValueError, RuntimeError):
        number = least - 1
    if number < least:
        raise InputError(f"{name} is {value!r}; it must be a whole number of at least {least}")
    return number


def meant(bandwidth: float, offered: Iterable[float]) -> float | None:
    """The bandwidth on offer, in kbps, that `bandwidth` means: it, or the only one less than 1 bit per second away.

    None where there is no such one, or several.
    """
    near = [one for one in offered if abs(one - bandwidth) < STATED_TO]
    exact = [one for one in near if one == bandwidth] or near
    return exact[0] if len(exact) == 1 else None


def _dimensions(value: object) -> int:
    return int(getattr(value, "ndim", 0))
