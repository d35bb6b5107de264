"""How good a codec is on recordings that it was not trained on, beside Opus: the tables of a model card."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..metrics import mel_distance, si_sdr
from .data import find_audio, read_mono
from .opus import missing_tools, opus
from .quantizer import perplexity
from .scores import missing_metrics, pesq, stoi

__all__ = ["METRICS", "OURS", "Evaluation", "Heard", "Score", "Usage", "skipped", "table", "usage_line"]

OURS, OPUS = "codec", "Opus"
# Field of a score, and its heading and decimals.
METRICS = {"mel": ("mel distance", 3), "si_sdr": ("SI-SDR (dB)", 2), "stoi": ("STOI", 3), "pesq": ("PESQ", 2)}
USE_WANTED = 0.6  # of a codebook's entries, as perplexity: below it bits are wasted


@dataclass(frozen=True)
class Score:
    """One recording through one system at one nominal bitrate (kbps).

    seconds, bits: of the recording and of what was sent. mel: distance, 0 is best; si_sdr: dB; stoi: 0..1 and pesq:
    1..4.6, NaN for what is no speech or cannot be judged.
    """

    group: str
    name: str
    system: str
    nominal: float
    seconds: float
    bits: int
    mel: float
    si_sdr: float
    stoi: float
    pesq: float


@dataclass(frozen=True)
class Heard:
    """A recording and what each system made of it: (system, nominal kbps) to [N] float32 at `sample_rate`."""

    group: str
    name: str
    sample_rate: int
    original: np.ndarray
    results: dict[tuple[str, float], np.ndarray]


@dataclass(frozen=True)
class Usage:
    """Perplexity of each codebook (entries in effective use) of `entries` on the codes of some recordings."""

    frames: int
    entries: int
    perplexities: tuple[float, ...]

    @property
    def shares(self) -> tuple[float, ...]:
        """Of the entries."""
        return tuple(value / self.entries for value in self.perplexities)


def skipped(opus_rates: Sequence[float]) -> list[str]:
    """What an evaluation leaves out on this machine, a sentence each."""
    sentences = [f"{name} is left out: the package {package} is missing" for name, package in missing_metrics().items()]
    if opus_rates and (tools := missing_tools()):
        columns = ", ".join(f"{rate:g}" for rate in opus_rates)
        sentences.append(f"Opus at {columns} kbps is left out: {' and '.join(tools)} (opus-tools) not installed")
    return sentences


@dataclass
class Evaluation:
    """Runs every recording of `sources` through `codec` at each of its bandwidths, and through Opus.

    opus_rates: nominal kbps; left out where opus-tools is missing. speech: STOI and PESQ are for recordings whose
    folder's name begins so. every: only each Nth recording of a folder. A mono codec hears the channels' mean.
    """

    codec: Any
    sources: Sequence[Path]
    opus_rates: Sequence[float] = ()
    speech: Sequence[str] = ("speech", "alsa")
    every: int = 1
    scores: list[Score] = field(default_factory=list)

    def __post_init__(self) -> None:
        spec = self.codec.spec
        self.counts = torch.zeros(spec.num_codebooks, spec.codebook_size, dtype=torch.float64)
        self.missing = missing_metrics()
        if missing_tools():
            self.opus_rates = ()

    def files(self) -> list[Path]:
        """The recordings, in order. Raises AudioError where there is no audio."""
        found = [path for source in self.sources for path in find_audio(source)]
        by_group: dict[str, list[Path]] = {}
        for path in found:
            by_group.setdefault(path.parent.name, []).append(path)
        return [path for group in sorted(by_group) for path in by_group[group][:: self.every]]

    def run(self) -> Iterator[Heard]:
        """Measure one recording after the other; `scores` grows by the way. Raises AudioError."""
        for path in self.files():
            yield self._one(path)

    def _one(self, path: Path) -> Heard:
        rate, group = self.codec.spec.sample_rate, path.parent.name
        original = read_mono(path, rate)
        heard = Heard(group, path.stem, rate, original, {})
        for system, nominal, audio, bits in (*self._ours(original), *self._opus(original, rate)):
            heard.results[system, nominal] = audio
            self.scores.append(self._score(heard, (system, nominal), bits))
        return heard

    def _ours(self, original: np.ndarray) -> Iterator[tuple[str, float, np.ndarray, int]]:
        spec = self.codec.spec
        wav = torch.from_numpy(original)[None, None].expand(1, spec.channels, -1)
        bits_per_code = (spec.codebook_size - 1).bit_length()
        for bandwidth in spec.bandwidths:
            codes = self.codec.encode(wav, bandwidth)
            if bandwidth == spec.bandwidths[-1]:
                for k, used in enumerate(codes.data[0]):
                    self.counts[k] += torch.bincount(used.cpu(), minlength=spec.codebook_size)
            audio = self.codec.decode(codes)[0].mean(0).cpu().numpy()
            yield OURS, bandwidth, audio[: len(original)], codes.data.numel() * bits_per_code

    def _opus(self, original: np.ndarray, rate: int) -> Iterator[tuple[str, float, np.ndarray, int]]:
        for nominal in self.opus_rates:
            audio, bits = opus(original, rate, nominal)
            yield OPUS, nominal, audio, bits

    def _score(self, heard: Heard, which: tuple[str, float], bits: int) -> Score:
        rate, original, result = heard.sample_rate, heard.original, heard.results[which]
        is_speech = any(heard.group.startswith(name) for name in self.speech)

        def judged(name: str, metric: Any) -> float:
            return metric(original, result, rate) if is_speech and name not in self.missing else math.nan

        return Score(
            group=heard.group,
            name=heard.name,
            system=which[0],
            nominal=which[1],
            seconds=len(original) / rate,
            bits=bits,
            mel=mel_distance(original, result, rate),
            si_sdr=si_sdr(original, result),
            stoi=judged("STOI", stoi),
            pesq=judged("PESQ", pesq),
        )

    def usage(self) -> Usage:
        """Of the codebooks, over all recordings measured so far."""
        return Usage(int(self.counts[0].sum()), self.counts.shape[1], tuple(perplexity(self.counts).tolist()))


def _mean(values: list[float], decimals: int) -> str:
    finite = [value for value in values if math.isfinite(value)]
    return f"{sum(finite) / len(finite):.{decimals}f}" if finite else "-"


def table(scores: Iterable[Score]) -> str:
    """Means by folder, system and nominal bitrate as a Markdown table; kbps: all bits over all seconds."""
    scores = list(scores)
    head = ["folder", "files", "system", "kbps", *(heading for heading, _ in METRICS.values())]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for group in sorted({score.group for score in scores}):
        # The codec first, then Opus, each by bitrate.
        for system, nominal in sorted({(s.system, s.nominal) for s in scores}, key=lambda key: (key[0] == OPUS, key)):
            rows = [s for s in scores if (s.group, s.system, s.nominal) == (group, system, nominal)]
            if not rows:
                continue
            kbps = sum(row.bits for row in rows) / sum(row.seconds for row in rows) / 1000
            cells = [_mean([getattr(row, name) for row in rows], decimals) for name, (_, decimals) in METRICS.items()]
            lines.append(f"| {group} | {len(rows)} | {system} {nominal:g} | {kbps:.2f} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def usage_line(usage: Usage) -> str:
    """A sentence on the codebooks, and a warning where one is hardly used."""
    shown = ", ".join(f"{share:.0%}" for share in usage.shares)
    low = [str(k) for k, share in enumerate(usage.shares) if share <= USE_WANTED]
    if usage.frames < 4 * usage.entries:
        verdict = "too few frames to judge"
    else:
        verdict = f"not above {USE_WANTED:.0%}: codebook {', '.join(low)}" if low else f"all above {USE_WANTED:.0%}"
    return f"Codebook use (perplexity over {usage.entries} entries, {usage.frames} frames): {shown}; {verdict}."
