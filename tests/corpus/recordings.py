"""Recordings and items that tests of corpora share; processes that they start import this, too."""

import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

import streamcodec
from streamcodec.audio import AudioReader
from streamcodec.corpus.items import Item

RATE = 600  # of the small codec


def write(path: Path, samples: int, seed: int = 0, rate: int = RATE) -> Path:
    """Noise whose level moves."""
    rng = np.random.default_rng(seed + samples)
    level = np.interp(np.arange(samples), np.arange(0, samples + 50, 50), rng.uniform(0, 0.3, -(-(samples + 50) // 50)))
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, rng.standard_normal(samples) * level, rate)
    return path


def codes_alone(codec: streamcodec.Codec, path: Path | Any, **options: Any) -> streamcodec.Codes:
    """What the codec makes of the file as a whole."""
    with AudioReader(path, codec.spec.sample_rate, codec.spec.channels, 10_000) as reader:
        return codec.encode(np.concatenate(list(reader), 1)[None], num_codebooks=codec.spec.num_codebooks, **options)


class Deadly(Item):
    """A recording that ends the process which reads it, as one does that makes a library crash."""

    def blocks(self, spec: Any) -> Iterator[Any]:
        os.kill(os.getpid(), signal.SIGKILL)
        yield


@dataclass(frozen=True)
class DeadlyOnce(Item):
    """A recording during which a process is killed, from outside, so that it is good the next time."""

    flag: str = ""

    def blocks(self, spec: Any) -> Iterator[Any]:
        try:
            Path(self.flag).touch(exist_ok=False)
        except FileExistsError:
            yield from super().blocks(spec)
        else:
            os.kill(os.getpid(), signal.SIGKILL)
