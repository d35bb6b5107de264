"""Finds a codec's state dict in what a weight file holds: wrapped in dicts, under a prefix, or beside other models.

One rule for all of them, which knows no family: every codec has a quantizer, so its entries are those that share the
prefix of names that go on with "quantizer.", or, where its halves have each a quantizer, with "encoder.quantizer." and
"decoder.quantizer.".
"""

import io
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from torch import Tensor

from ..errors import CheckpointError

__all__ = ["Found", "find"]

_DEEPEST = 4  # dicts within each other; the files seen have 2
_QUANTIZER = re.compile(r"((?:[^.]+\.)*?)quantizer\.")
# What torch.compile, DistributedDataParallel and FSDP put into the names of what they wrap. No codec has such parts.
_WRAPPERS = ("_orig_mod", "module", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")


@dataclass(frozen=True)
class Found:
    """A codec's entries. prefix: what stood before their names; beside: what the dicts around them hold besides."""

    entries: Mapping[Any, Any]
    prefix: str = ""
    beside: Mapping[str, Any] = field(default_factory=dict)

    def config(self, config: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
        """The part of a larger model's configuration that is this codec's: what the prefix names in it, if anything."""
        for part in self.prefix.split("."):
            inner = None if config is None else config.get(part)
            if isinstance(inner, Mapping) and isinstance(inner.get("model_type"), str):
                config = inner
        return config


def find(entries: Mapping[Any, Any], origin: str) -> Found:
    """The codec's entries among those of the file `origin`, without prefix; all of them where there is no quantizer.

    Raises CheckpointError: two codecs, and dicts that hold none.
    """
    found = list(_candidates(entries))
    if len(found) > 1:
        places = ", ".join(sorted(one.place for one in found))
        raise CheckpointError(
            f"{origin}: there is more than one codec in this file: {places}; which one is wanted cannot be told. Save "
            "that one alone (its state dict, with torch.save or safetensors) and load the new file"
        )
    if not found:
        return _plain(entries, origin)
    return Found(_stripped(found[0], origin), found[0].prefix, found[0].beside)


class _Candidate(NamedTuple):
    path: tuple[str, ...]  # names of the dicts around `entries`
    entries: Mapping[Any, Any]
    prefix: str
    beside: Mapping[str, Any]

    @property
    def place(self) -> str:
        return "/".join((*self.path, f"{self.prefix}*"))


def _candidates(entries: Mapping[Any, Any]) -> Iterator[_Candidate]:
    """Every codec's place. A dict met twice counts once, so that one in itself or in many others takes no time."""
    seen: set[int] = set()
    waiting: list[tuple[tuple[str, ...], Mapping[Any, Any], dict[str, Any]]] = [((), entries, {})]
    while waiting:
        path, mapping, beside = waiting.pop()
        if id(mapping) in seen:
            continue
        seen.add(id(mapping))
        for prefix in _prefixes(mapping):
            yield _Candidate(path, mapping, prefix, beside)
        for name, inner in mapping.items():
            if isinstance(inner, Mapping) and len(path) < _DEEPEST:
                others = {str(key): value for key, value in mapping.items() if key != name}
                waiting.append(((*path, str(name)), inner, beside | others))


def _prefixes(mapping: Mapping[Any, Any]) -> list[str]:
    """What stands before "quantizer." in the names of tensors; a codec within a codec belongs to the outer one."""
    matches = (
        _QUANTIZER.match(name) for name, value in mapping.items() if isinstance(name, str) and isinstance(value, Tensor)
    )
    found = _with_halves_joined({match[1] for match in matches if match})
    return [one for one in found if not any(one != other and one.startswith(other) for other in found)]


def _with_halves_joined(prefixes: set[str]) -> set[str]:
    """A quantizer in the encoder and one in the decoder of the same codec are at one place."""
    halves = [(one, one.removesuffix("encoder.")) for one in prefixes if re.search(r"(^|\.)encoder\.$", one)]
    for encoder, codec in halves:
        if f"{codec}decoder." in prefixes:
            prefixes = prefixes - {encoder, f"{codec}decoder."} | {codec}
    return prefixes


def _stripped(found: _Candidate, origin: str) -> dict[Any, Any]:
    prefix, stripped = found.prefix, dict[Any, Any]()
    for name, value in found.entries.items():
        if isinstance(value, io.BytesIO) or (prefix and not str(name).startswith(prefix)):
            continue  # X-Codec's originals have some in-memory files among their weights
        if isinstance(name, str):
            parts = name.removeprefix(prefix).split(".")
            name = ".".join(part for part in parts if part not in _WRAPPERS)
        if name in stripped:
            raise CheckpointError(f"{origin}: the entry {name!r} is there twice, with and without a wrapper's prefix")
        stripped[name] = value
    return stripped


def _plain(entries: Mapping[Any, Any], origin: str) -> Found:
    others = {name: value for name, value in entries.items() if not isinstance(value, (Tensor, io.BytesIO))}
    if others and len(others) == len(entries):
        listed = ", ".join(f"{name!r} ({_shown(value)})" for name, value in list(others.items())[:8])
        raise CheckpointError(f"{origin}: no state dict of a codec is in this file; it holds {listed}")
    return Found({name: value for name, value in entries.items() if not isinstance(value, io.BytesIO)})


def _shown(value: Any) -> str:
    return repr(value) if isinstance(value, str) and len(value) < 60 else type(value).__name__
