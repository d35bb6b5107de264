"""Rules for the fields of messages: a dataclass whose fields carry rules reads itself from JSON and writes itself.

A rule takes a value of parsed JSON and the name of its place, and gives what the message holds or raises ProtocolError.
Exact types: true is no integer, 1.0 is no integer, and nothing is converted but an integer where a number is asked for.
"""

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from .faults import ProtocolError

__all__ = [
    "Rule",
    "array",
    "boolean",
    "choice",
    "integer",
    "nested",
    "number",
    "optional",
    "read",
    "rule",
    "text",
    "write",
]

Rule = Callable[[Any, str], Any]
T = TypeVar("T")
_MISSING: Any = dataclasses.MISSING
_FIELDS: dict[type, list[tuple[str, Any, bool]]] = {}  # dataclasses.fields takes longer than all else of a message


def rule(check: Rule, default: Any = _MISSING) -> Any:
    """A field of a message. default: where the key is missing; without one the key must be there."""
    return dataclasses.field(default=default, metadata={"rule": check})


def read(cls: type[T], values: Mapping[str, Any], place: str) -> T:
    """The message, from parsed JSON. Keys that it does not have are ignored: later versions may add some.

    null is as no key where the field has a default.
    """
    found = {}
    for name, check, needed in _fields(cls):
        if name in values and (needed or values[name] is not None):
            found[name] = check(values[name], f"{place}.{name}")
        elif needed:
            raise ProtocolError("bad_message", f"{place}.{name} is missing")
    return cls(**found)


def _fields(cls: Any) -> list[tuple[str, Any, bool]]:
    """Of each field of a message its name, its rule, and whether it has no default."""
    if cls not in _FIELDS:
        fields = dataclasses.fields(cls)
        _FIELDS[cls] = [(field.name, field.metadata.get("rule"), field.default is _MISSING) for field in fields]
    return _FIELDS[cls]


def write(message: Any) -> dict[str, Any]:
    """The inverse of `read`: JSON values, without keys that are None."""
    values = ((name, getattr(message, name)) for name, _, _ in _fields(type(message)))
    return {name: _plain(value) for name, value in values if value is not None}


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return write(value)
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def _refuse(value: Any, place: str, wanted: str, allowed: object, code: str = "bad_message") -> ProtocolError:
    shown = repr(value)
    shown = shown if len(shown) <= 40 else shown[:37] + "..."
    return ProtocolError(code, f"{place} is {ascii(shown)[1:-1]}; it must be {wanted}", allowed=allowed)


def integer(low: int, high: int, code: str = "bad_message") -> Rule:
    def check(value: Any, place: str) -> int:
        if type(value) is not int or not low <= value <= high:
            wrong = "bad_message" if type(value) is not int else code
            raise _refuse(value, place, f"an integer from {low} to {high}", [low, high], wrong)
        return value

    return check


def number(low: float, high: float, code: str = "bad_message") -> Rule:
    def check(value: Any, place: str) -> float:
        if type(value) not in (int, float) or not low <= value <= high:
            wrong = "bad_message" if type(value) not in (int, float) else code
            raise _refuse(value, place, f"a number from {low:g} to {high:g}", [low, high], wrong)
        return float(value)

    return check


def boolean(value: Any, place: str) -> bool:
    if type(value) is not bool:
        raise _refuse(value, place, "true or false", [True, False])
    return value


def choice(*options: str) -> Rule:
    def check(value: Any, place: str) -> str:
        if type(value) is not str or value not in options:
            raise _refuse(value, place, "one of " + ", ".join(options), list(options))
        return value

    return check


def text(pattern: str, meaning: str, code: str = "bad_message") -> Rule:
    """A string that is the pattern from end to end."""
    compiled = re.compile(pattern)

    def check(value: Any, place: str) -> str:
        if type(value) is not str or not compiled.fullmatch(value):
            raise _refuse(value, place, meaning, meaning, "bad_message" if type(value) is not str else code)
        return value

    return check


def optional(inner: Rule) -> Rule:
    def check(value: Any, place: str) -> Any:
        return None if value is None else inner(value, place)

    return check


def nested(cls: type[T]) -> Rule:
    def check(value: Any, place: str) -> T:
        if type(value) is not dict:
            raise _refuse(value, place, "an object", None)
        return read(cls, value, place)

    return check


def array(inner: Rule, most: int) -> Rule:
    def check(value: Any, place: str) -> Sequence[Any]:
        if type(value) is not list or len(value) > most:
            raise _refuse(value, place, f"an array of at most {most}", None)
        return tuple(inner(item, f"{place}[{i}]") for i, item in enumerate(value))

    return check


def anything(value: Any, place: str) -> Any:
    """What is only shown to a person."""
    return value
