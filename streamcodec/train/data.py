"""Training audio: files -> one int16 cache -> random crops. Knows nothing of models.

Audio under a folder named ``holdout`` is for evaluation only and is refused here.
"""

import hashlib
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..audio import AudioReader
from ..errors import AudioError, InputError

__all__ = ["AUDIO_SUFFIXES", "AudioCache", "Crops", "find_audio", "read_mono", "refuse_holdout"]

AUDIO_SUFFIXES = frozenset({".flac", ".wav", ".ogg", ".mp3", ".opus", ".aiff", ".aif"})
HOLDOUT = "holdout"
BLOCK = 65536  # samples read at a time


def find_audio(source: str | Path) -> list[Path]:
    """Audio files of a folder (with its sub-folders), or those listed in a text file, one path a line.

    Raises AudioError where there is no such folder or list, or no audio in it.
    """
    source = Path(source)
    if source.is_dir():
        files = sorted(path for path in source.rglob("*") if path.suffix.lower() in AUDIO_SUFFIXES)
    elif source.is_file():
        lines = (line.strip() for line in source.read_text(encoding="utf-8").splitlines())
        # Relative paths are relative to the list, so that a list can travel with its audio.
        files = [source.parent / line for line in lines if line and not line.startswith("#")]
    else:
        raise AudioError(f"{source} is no folder and no file; give a folder of audio or a text file of paths")
    if not files:
        allowed = " ".join(sorted(AUDIO_SUFFIXES))
        raise AudioError(f"{source} holds no audio; files with these endings are looked for: {allowed}")
    return files


def refuse_holdout(files: list[Path]) -> None:
    """Raises InputError if a path has a component ``holdout``."""
    for path in files:
        if HOLDOUT in path.parts or HOLDOUT in path.resolve().parts:
            raise InputError(f"{path} is hold-out audio, kept for evaluation; train on a folder without it")


def read_mono(path: Path, sample_rate: int) -> np.ndarray:
    """Samples [N] float32 in [-1, 1], channels averaged, resampled to `sample_rate` Hz. Raises AudioError."""
    with AudioReader(path, sample_rate, 1, BLOCK) as reader:
        return np.concatenate(list(reader), axis=1)[0]


@dataclass(frozen=True)
class AudioCache:
    """All training audio in one memory-mapped file.

    samples: int16 [total]. starts, lengths: of each recording, in samples. groups: the name of each one's folder.
    """

    samples: np.ndarray
    starts: np.ndarray
    lengths: np.ndarray
    groups: tuple[str, ...]

    @classmethod
    def build(cls, source: str | Path, folder: Path, sample_rate: int) -> "AudioCache":
        """Read `source` (see `find_audio`) into `folder`, or reuse what an earlier call left there.

        A file that cannot be read is named on standard error and skipped. Raises AudioError if none can be read,
        InputError for hold-out audio.
        """
        files = find_audio(source)
        refuse_holdout(files)
        key = _fingerprint(files, sample_rate)
        data, index = folder / f"audio-{key}.pcm", folder / f"audio-{key}.json"
        if not index.exists():
            folder.mkdir(parents=True, exist_ok=True)
            _write_cache(files, sample_rate, data, index)
        entries = json.loads(index.read_text(encoding="utf-8"))
        lengths = np.array([entry["length"] for entry in entries], dtype=np.int64)
        return cls(
            samples=np.memmap(data, dtype=np.int16, mode="r"),
            starts=np.cumsum(lengths) - lengths,
            lengths=lengths,
            groups=tuple(entry["group"] for entry in entries),
        )


def _fingerprint(files: list[Path], sample_rate: int) -> str:
    """Names the cache of these files as they are now."""
    digest = hashlib.sha256(str(sample_rate).encode())
    for path in files:
        size = path.stat().st_size if path.exists() else -1
        digest.update(f"{path.resolve()}:{size}\n".encode())
    return digest.hexdigest()[:16]


def _write_cache(files: list[Path], sample_rate: int, data: Path, index: Path) -> None:
    entries = []
    with data.open("wb") as out:
        for path in files:
            try:
                audio = read_mono(path, sample_rate)
            except AudioError as error:
                print(f"skipped: {error}", file=sys.stderr)
                continue
            out.write((audio * 32768).round().clip(-32768, 32767).astype("<i2").tobytes())
            entries.append({"path": str(path), "group": path.parent.name, "length": len(audio)})
    if not entries:
        raise AudioError(f"none of the {len(files)} audio files could be read")
    # Written last: an index means a complete cache.
    index.write_text(json.dumps(entries), encoding="utf-8")


class Crops:
    """Draws random crops, a share of them from each group.

    shares: group name -> relative share; a group not named there counts with its share of the total duration.
    """

    def __init__(self, cache: AudioCache, length: int, shares: Mapping[str, float], rng: np.random.Generator):
        self.cache, self.length, self.rng = cache, length, rng
        groups = np.array(cache.groups)
        names = sorted(set(cache.groups))
        seconds = {name: float(cache.lengths[groups == name].sum()) for name in names}
        weights = np.array([shares.get(name, seconds[name] / sum(seconds.values())) for name in names])
        if weights.sum() <= 0:
            raise InputError(
                f"the shares {dict(shares)} leave nothing of the folders {names}; give one a share above 0"
            )
        self.chances = weights / weights.sum()
        self.members = [np.flatnonzero(groups == name) for name in names]
        self.within = [cache.lengths[m] / cache.lengths[m].sum() for m in self.members]

    def _crop(self) -> np.ndarray:
        """[length] float32: recordings by duration within the group, any place in them, random level and sign."""
        group = self.rng.choice(len(self.members), p=self.chances)
        item = self.rng.choice(self.members[group], p=self.within[group])
        start, total = self.cache.starts[item], self.cache.lengths[item]
        offset = self.rng.integers(max(1, total - self.length + 1))
        piece = self.cache.samples[start + offset : start + min(offset + self.length, total)]
        crop = np.zeros(self.length, dtype=np.float32)
        crop[: len(piece)] = piece.astype(np.float32) / 32768
        # Levels that live microphones give: from 10 dB under the recording to 6 dB above it, never past full scale.
        gain = 10 ** (self.rng.uniform(-10, 6) / 20)
        sign = 1 - 2 * int(self.rng.integers(2))
        return crop * np.float32(sign * gain / max(1.0, gain * float(np.abs(crop).max())))

    def batch(self, size: int) -> Tensor:
        """[size, length] float32."""
        return torch.from_numpy(np.stack([self._crop() for _ in range(size)]))
