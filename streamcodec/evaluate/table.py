"""Scores summed up by folder and system, as Markdown."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from .evaluation import Score
from .measures import MEASURES

__all__ = ["ALL_SPEECH", "NOTES", "Row", "Statistic", "summary", "table"]

ALL_SPEECH = "all speech"
# Where the errors of many recordings are counted over something else than recordings.
OVER = {"word_errors": "words", "character_errors": "characters"}
NOTES = (
    "Cells: the median over the files, and in brackets mean ± standard deviation. Word and character errors: all "
    "errors over all words or characters, and in brackets those of the files. Errors and the mel distance are best at "
    "0; of the other measures more is better. kbps: all bits that were sent over all seconds.\n\n"
    "SI-SDR stands last and decides nothing: it compares samples, and a codec that makes the same sound of other "
    "samples has a low one without being heard to differ."
)


class Statistic(NamedTuple):
    """Over `files` values: their median (of errors: all errors over all words), mean and standard deviation.

    deviation: of a sample, with files - 1; NaN for one file.
    """

    value: float
    mean: float
    deviation: float
    files: int


@dataclass(frozen=True)
class Row:
    """What a system got on the files of a folder. kbps: None where it is unknown. statistics: by a measure's field."""

    group: str
    system: str
    files: int
    kbps: float | None
    statistics: dict[str, Statistic]


def summary(scores: Sequence[Score]) -> list[Row]:
    """Rows by folder, and within it by system, in the order of the scores; all speech, if in several folders, first."""
    groups = {group: [s for s in scores if s.group == group] for group in sorted({s.group for s in scores})}
    speech = [score for score in scores if score.speech]
    if len({score.group for score in speech}) > 1:
        groups = {ALL_SPEECH: speech, **groups}
    return [row for group, members in groups.items() for row in _rows(group, members)]


def _rows(group: str, scores: Sequence[Score]) -> Iterable[Row]:
    for system in dict.fromkeys(score.system for score in scores):
        members = [score for score in scores if score.system == system]
        known = all(score.bits is not None for score in members)
        seconds = sum(score.seconds for score in members)
        kbps = sum(score.bits or 0 for score in members) / seconds / 1000 if known and seconds else None
        found = {measure.field: _statistic(measure.field, members) for measure in MEASURES}
        yield Row(group, system, len(members), kbps, {name: value for name, value in found.items() if value})


def _statistic(name: str, scores: Sequence[Score]) -> Statistic | None:
    """None where no score has a finite value."""
    held = [score for score in scores if math.isfinite(score.values.get(name, math.nan))]
    if not held:
        return None
    values = np.array([score.values[name] for score in held])
    if name in OVER:
        value = float(np.average(values, weights=[getattr(score, OVER[name]) for score in held]))
    else:
        value = float(np.median(values))
    return Statistic(value, float(values.mean()), float(values.std(ddof=1)) if len(held) > 1 else math.nan, len(held))


def _cell(statistic: Statistic | None, decimals: int) -> str:
    if statistic is None:
        return "-"
    if statistic.files == 1:
        return f"{statistic.value:.{decimals}f}"
    value, mean, deviation, _ = statistic
    return f"{value:.{decimals}f} ({mean:.{decimals}f} ± {deviation:.{decimals}f})"


def table(rows: Iterable[Row]) -> str:
    """Markdown: a table of the folders with speech and one of the others, each with the columns that have figures."""
    rows = list(rows)
    speech = {row.group for row in rows if any(m.speech and m.field in row.statistics for m in MEASURES)}
    parts = [[row for row in rows if (row.group in speech) == wanted] for wanted in (True, False)]
    return "\n\n".join(_table(part) for part in parts if part)


def _table(rows: Sequence[Row]) -> str:
    shown = [measure for measure in MEASURES if any(measure.field in row.statistics for row in rows)]
    head = ["folder", "files", "system", "kbps", *(measure.heading for measure in shown)]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row in rows:
        kbps = "-" if row.kbps is None else f"{row.kbps:.2f}"
        cells = [_cell(row.statistics.get(measure.field), measure.decimals) for measure in shown]
        lines.append("| " + " | ".join([row.group, str(row.files), row.system, kbps, *cells]) + " |")
    return "\n".join(lines)
