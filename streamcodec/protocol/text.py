"""JSON that a stranger sent: bounded in bytes, depth and digits, every key once, numbers finite."""

import json
import math
import re
from typing import Any, NoReturn

from .faults import ProtocolError

__all__ = ["MAX_SAFE", "dump", "parse"]

MAX_SAFE = 2**53 - 1  # RFC 8259, section 6: whole numbers that every reader takes for the same
MAX_DEPTH = 8
MAX_DIGITS = 32  # of one number: before Python turns it into an integer of any size
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"?', re.DOTALL)
_BRACKETS = re.compile(r"[\[\]{}]")


def parse(text: str, max_bytes: int) -> dict[str, Any]:
    """The object that the text is. Raises ProtocolError "too_large" or "bad_message"."""
    size = len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
    if size > max_bytes:
        raise ProtocolError("too_large", f"a text message of {size} bytes; the limit is {max_bytes}", allowed=max_bytes)
    _check_depth(text)
    try:
        value = _DECODER.decode(text)
    except ValueError as error:
        raise ProtocolError("bad_message", f"text that is not JSON as it must be: {error}") from None
    if not isinstance(value, dict):
        raise ProtocolError("bad_message", f"JSON that is {_name(value)}; a message is an object with a 'type'")
    return value


def _check_depth(text: str) -> None:
    """Before parsing, since the parser recurses. Where the text is no JSON the count may be off: parsing refuses it."""
    depth = 0
    for bracket in _BRACKETS.findall(_STRING.sub("", text)):
        depth += 1 if bracket in "[{" else -1
        if depth > MAX_DEPTH:
            raise ProtocolError("bad_message", f"JSON nested more than {MAX_DEPTH} deep", allowed=MAX_DEPTH)


def dump(values: dict[str, Any]) -> str:
    """The message's text: ASCII, no spaces, keys in the order given."""
    return _ENCODER.encode(values)


def _integer(digits: str) -> int:
    value = int(digits) if len(digits) <= MAX_DIGITS else MAX_SAFE + 1
    if abs(value) > MAX_SAFE:
        raise ValueError(f"the number {digits[:MAX_DIGITS]} is past 2**53 - 1")
    return value


def _number(digits: str) -> float:
    value = float(digits) if len(digits) <= MAX_DIGITS else math.inf
    if not math.isfinite(value):
        raise ValueError(f"the number {digits[:MAX_DIGITS]} is too large or has too many digits")
    return value


def _constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError("a key occurs twice in one object")
    return values


def _name(value: object) -> str:
    names = {list: "an array", str: "a string", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


_ENCODER = json.JSONEncoder(separators=(",", ":"), allow_nan=False)
_DECODER = json.JSONDecoder(
    parse_int=_integer, parse_float=_number, parse_constant=_constant, object_pairs_hook=_object
)
