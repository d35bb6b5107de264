"""Runs recordings through systems and measures what comes out."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from ..train.data import find_audio, read_mono
from .measures import WORDS, Measure, available
from .recording import ORIGINAL, Decoded, Recording, System
from .words import Words

__all__ = ["Evaluation", "Results", "Score"]


@dataclass(frozen=True)
class Score:
    """One recording through one system.

    seconds, bits: of the recording, and of what was sent (None: unknown). words, characters: of the recording's
    transcript; 0 where word errors are not counted. values: by a measure's field; NaN for what cannot be judged.
    """

    group: str
    name: str
    speech: bool
    system: str
    seconds: float
    bits: int | None
    words: int
    characters: int
    values: Mapping[str, float]


@dataclass(frozen=True)
class Results:
    """A recording, and what each system made of it."""

    recording: Recording
    decoded: tuple[Decoded, ...]


@dataclass
class Evaluation:
    """Runs every recording of `sources` at `sample_rate` Hz through the systems.

    speech: a recording is speech if its folder's name begins so. english: patterns of the names of English recordings;
    without any, Whisper finds out. every: only each Nth recording of a folder. measures: those that are installed.
    """

    systems: Sequence[System]
    sources: Sequence[Path]
    sample_rate: int
    speech: Sequence[str] = ("speech", "alsa")
    english: Sequence[str] = ()
    every: int = 1
    measures: Sequence[Measure] = field(default_factory=available)
    scores: list[Score] = field(default_factory=list)

    def files(self) -> list[Path]:
        """The recordings, in order. Raises AudioError where there is no audio."""
        found = [path for source in self.sources for path in find_audio(source)]
        by_group: dict[str, list[Path]] = {}
        for path in found:
            by_group.setdefault(path.parent.name, []).append(path)
        return [path for group in sorted(by_group) for path in by_group[group][:: self.every]]

    def run(self) -> Iterator[Results]:
        """Measure one recording after the other; `scores` grows by the way. Raises AudioError and InputError."""
        for path in self.files():
            yield self._one(self._read(path))

    def _read(self, path: Path) -> Recording:
        group, name = path.parent.name, path.stem
        english = any(fnmatchcase(name, pattern) for pattern in self.english) if self.english else None
        return Recording(
            group=group,
            name=name,
            sample_rate=self.sample_rate,
            audio=read_mono(path, self.sample_rate),
            speech=group.startswith(tuple(self.speech)),
            english=english,
        )

    def _one(self, recording: Recording) -> Results:
        counts_words = recording.speech and any(measure in WORDS for measure in self.measures)
        words = Words(recording) if counts_words else None
        # The recording itself shows where each measure ends.
        itself = [Decoded(ORIGINAL, recording.audio, None)] if recording.speech else []
        decoded = (*itself, *(result for system in self.systems for result in system(recording)))
        self.scores += [self._score(recording, words, result) for result in decoded]
        return Results(recording, decoded)

    def _score(self, recording: Recording, words: Words | None, result: Decoded) -> Score:
        values = {
            measure.field: measure.compute(recording.audio, result.audio, recording.sample_rate)
            if measure.compute is not None and (recording.speech or not measure.speech)
            else math.nan
            for measure in self.measures
        }
        if words is not None and words.words:
            values |= words.errors(result.audio, recording.sample_rate)._asdict()
        return Score(
            group=recording.group,
            name=recording.name,
            speech=recording.speech,
            system=result.system,
            seconds=recording.seconds,
            bits=result.bits,
            words=words.words if words is not None else 0,
            characters=words.characters if words is not None else 0,
            values=values,
        )
