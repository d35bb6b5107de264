"""A recording of a corpus, what became of it, and how its audio is read."""

import contextlib
import io
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..audio import AudioReader
from ..codecs import CodecSpec
from ..errors import AudioError
from ..sources import SourceFile
from .remote import is_url, open_url

__all__ = ["AUDIO_SUFFIXES", "Failure", "Item", "Tokens", "plain"]

AUDIO_SUFFIXES = frozenset(
    f".{name}"
    for name in (
        "wav", "flac", "ogg", "oga", "opus", "mp3", "mp2", "aiff", "aif", "aifc", "au", "snd", "caf", "w64", "rf64",
        "voc", "sph", "nist",
    )
)  # fmt: skip
# Read and encoded at a time. Long recordings take no more memory than this, and what a step of a second writes is
# still in the cache when it is read: SNAC needs two thirds more time with 4 s.
BLOCK_SECONDS = 1


@dataclass(frozen=True)
class Item:
    """A recording.

    key: its name, the only one of the corpus; audio: a path, a URL, the bytes of an audio file, or what gives those;
    fields: what else is known of it, by name, to be carried through; start, seconds: the part of the file that it is,
    None for all that follows.
    """

    key: str
    audio: str | bytes | Callable[[], bytes]
    fields: dict[str, Any] = field(default_factory=dict)
    start: float = 0.0
    seconds: float | None = None

    def loaded(self) -> "Item":
        """The same, ready for another process: with a path or bytes."""
        if isinstance(self.audio, (str, bytes)):
            return self
        return Item(self.key, self.audio(), self.fields, self.start, self.seconds)

    def blocks(self, spec: CodecSpec) -> Iterator[NDArray[np.float32]]:
        """The audio [C, n] as the codec takes it, a few seconds at a time. Raises StreamcodecError, OSError."""
        rate = spec.sample_rate
        first = round(self.start * rate)
        stop = None if self.seconds is None else first + round(self.seconds * rate)
        place = 0
        with self._opened(spec) as reader:
            for block in reader:
                part = block[:, max(0, first - place) : None if stop is None else max(0, stop - place)]
                place += block.shape[1]
                if part.shape[1]:
                    yield part
                if stop is not None and place >= stop:
                    return
        if place <= first and (self.start or self.seconds):
            raise AudioError(f"it ends after {place / rate:.3f} s, before its part begins at {self.start} s")

    @contextlib.contextmanager
    def _opened(self, spec: CodecSpec) -> Iterator[AudioReader]:
        block = BLOCK_SECONDS * spec.sample_rate
        with contextlib.ExitStack() as stack:
            source: Any = self.loaded().audio
            if isinstance(source, bytes):
                source = io.BytesIO(source)
                source.name = self.key
            elif is_url(source):
                url, source = source, stack.enter_context(SourceFile(stack.enter_context(open_url(source))))
                source.name = url
            yield stack.enter_context(AudioReader(source, spec.sample_rate, spec.channels, block))


class Tokens(NamedTuple):
    """A recording as codes.

    codes: [K, T] int16, int32 where the codebooks need it; scale: [T] float32 or None; length: samples; silence: the
    share of its time that is below -60 dBFS; fields: as the item had them.
    """

    key: str
    codes: NDArray[Any]
    scale: NDArray[np.float32] | None
    length: int
    silence: float
    fields: dict[str, Any]


class Failure(NamedTuple):
    """A recording that could not be made codes of, and why."""

    key: str
    reason: str


def plain(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Values that every format keeps: text, numbers, truth values and None; of anything else its JSON."""
    return {str(name): _plain(value) for name, value in fields.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, (np.generic,)):
        value = value.item()
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return json.dumps(value, ensure_ascii=False, default=str)
