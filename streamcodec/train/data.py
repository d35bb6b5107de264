"""Training audio: files -> one int16 cache -> random crops. Knows nothing of models.

Audio under a folder named ``holdout`` is for evaluation only and is refused here.
"""

import hashlib
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..audio import AudioReader
from ..errors import AudioError, InputError
from ..int16 import INT16_SCALE, rounded
from .augment import amplify, band_limit, mix, speed, stretch
from .config import AugmentSettings
from .pack import Packed, is_pack, read_pack
from .token_audio import is_tokens, read_tokens, token_files

__all__ = [
    "AUDIO_SUFFIXES",
    "PREVIEW",
    "START",
    "TRAIN",
    "AudioCache",
    "Batches",
    "Crops",
    "files_of",
    "find_audio",
    "read",
    "read_audio",
    "read_mono",
    "recordings",
    "refuse_holdout",
]

# Streams of random crops: for training, for the start of networks and codebooks, for listening to.
Stream = int
TRAIN, START, PREVIEW = 0, 1, 2

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


def files_of(source: Path) -> list[Path]:
    """The files of what `read` reads. Raises AudioError where there are none, InputError for hold-out audio."""
    if is_pack(source):
        files = sorted(source.glob("*.safetensors"))
    else:
        files = token_files(source) if is_tokens(source) else find_audio(source)
    refuse_holdout(files)
    return files


def read(source: Path, sample_rate: int, channels: int) -> Iterator[Packed]:
    """The recordings of a folder, a list, a pack or a data set of tokens, as a codec of that rate needs them.

    Raises AudioError, InputError, SampleRateError.
    """
    files = files_of(source)
    if is_pack(source):
        return read_pack(source, sample_rate, channels)
    if is_tokens(source):
        return read_tokens(source, sample_rate, channels)
    return recordings(files, sample_rate, channels)


def read_audio(path: Path, sample_rate: int, channels: int) -> np.ndarray:
    """Samples [C, N] float32 in [-1, 1], mixed and resampled as `AudioReader` does. Raises AudioError."""
    with AudioReader(path, sample_rate, channels, BLOCK) as reader:
        return np.concatenate(list(reader), axis=1)


def read_mono(path: Path, sample_rate: int) -> np.ndarray:
    """Samples [N] float32 in [-1, 1], channels averaged, resampled to `sample_rate` Hz. Raises AudioError."""
    audio: np.ndarray = read_audio(path, sample_rate, 1)[0]
    return audio


@dataclass(frozen=True)
class AudioCache:
    """All training audio in one memory-mapped file.

    samples: int16 [total, C]. starts, lengths: of each recording, in samples. groups: the name of each one's folder.
    """

    samples: np.ndarray
    starts: np.ndarray
    lengths: np.ndarray
    groups: tuple[str, ...]

    @classmethod
    def build(cls, source: str | Path, folder: Path, sample_rate: int, channels: int = 1) -> "AudioCache":
        """Read `source` (see `read`) into `folder`, or reuse what an earlier call left.

        A file that cannot be read is named on standard error and skipped. Raises AudioError if none can be read,
        InputError for hold-out audio.
        """
        key = _fingerprint(files_of(Path(source)), sample_rate, channels)
        data, index = folder / f"audio-{key}.pcm", folder / f"audio-{key}.json"
        if not index.exists():
            folder.mkdir(parents=True, exist_ok=True)
            _write_cache(read(Path(source), sample_rate, channels), data, index)
        entries = json.loads(index.read_text(encoding="utf-8"))
        lengths = np.array([entry["length"] for entry in entries], dtype=np.int64)
        return cls(
            samples=np.memmap(data, dtype=np.int16, mode="r").reshape(-1, channels),
            starts=np.cumsum(lengths) - lengths,
            lengths=lengths,
            groups=tuple(entry["group"] for entry in entries),
        )


def _fingerprint(files: list[Path], sample_rate: int, channels: int) -> str:
    """Names the cache of these files as they are now."""
    digest = hashlib.sha256((str(sample_rate) + (f"x{channels}" if channels > 1 else "")).encode())
    for path in files:
        size = path.stat().st_size if path.exists() else -1
        digest.update(f"{path.resolve()}:{size}\n".encode())
    return digest.hexdigest()[:16]


def recordings(files: list[Path], sample_rate: int, channels: int = 1) -> Iterator[Packed]:
    """Every readable file as int16; an unreadable one is named on standard error, and AudioError if all are."""
    read = 0
    for path in files:
        try:
            audio = rounded(read_audio(path, sample_rate, channels).T)
        except AudioError as error:
            print(f"skipped: {error}", file=sys.stderr)
            continue
        if len(audio):
            read += 1
            yield Packed(str(path), path.parent.name, audio)
    if not read:
        raise AudioError(f"none of the {len(files)} audio files could be read")


def _write_cache(heard: Iterable[Packed], data: Path, index: Path) -> None:
    entries = []
    with data.open("wb") as out:
        for path, group, samples in heard:
            out.write(samples.tobytes())  # in C's order: the channels of a sample lie together
            entries.append({"path": path, "group": group, "length": len(samples)})
    # Written last and at once: an index means a complete cache.
    part = index.with_suffix(".part")
    part.write_text(json.dumps(entries), encoding="utf-8")
    part.replace(index)


class Crops:
    """Draws random crops, a share of them from each group, and augments them.

    A crop depends on (seed, stream, step, row) alone, never on what was drawn before: a training that resumes hears
    what it would have heard, and processes that divide a batch hear together what one would.

    length: samples. shares: group name -> relative share; a group not named there counts with its share of the total
    duration. sample_rate: Hz, for the augmentation.
    """

    def __init__(
        self,
        cache: AudioCache,
        length: int,
        shares: Mapping[str, float],
        augment: AugmentSettings,
        sample_rate: int,
        seed: int,
    ):
        self.cache, self.length, self.augment = cache, length, augment
        self.sample_rate, self.seed = sample_rate, seed
        groups = np.array(cache.groups)
        names = sorted(set(cache.groups))
        seconds = {name: float(cache.lengths[groups == name].sum()) for name in names}
        weights = np.array([shares.get(name, seconds[name] / sum(seconds.values())) for name in names])
        if weights.min() < 0 or weights.sum() <= 0:
            raise InputError(
                f"the shares {dict(shares)} leave nothing of the folders {names}; give one a share above 0, none below"
            )
        self.chances = weights / weights.sum()
        self.members = [np.flatnonzero(groups == name) for name in names]
        self.within = [cache.lengths[m] / cache.lengths[m].sum() for m in self.members]

    def _crop(self, rng: np.random.Generator, length: int) -> np.ndarray:
        """[C, length] float32: recordings by duration within the group, any place in them; zeros after a short one."""
        group = rng.choice(len(self.members), p=self.chances)
        item = rng.choice(self.members[group], p=self.within[group])
        start, total = self.cache.starts[item], self.cache.lengths[item]
        offset = rng.integers(max(1, total - length + 1))
        piece = self.cache.samples[start + offset : start + min(offset + length, total)]
        crop = np.zeros((piece.shape[1], length), dtype=np.float32)
        crop[:, : len(piece)] = piece.T.astype(np.float32) * INT16_SCALE
        return crop

    def row(self, stream: Stream, step: int, row: int, length: int | None = None) -> np.ndarray:
        """One augmented crop, [C, length] float32 in [-1, 1]."""
        rng, length = np.random.default_rng([self.seed, stream, step, row]), length or self.length
        crop = self._crop(rng, round(length * speed(self.augment, rng)))
        crop = stretch(crop, length)
        if rng.random() < self.augment.mix:
            crop = mix(crop, self._crop(rng, length), self.augment, rng)
        if rng.random() < self.augment.band_limit:
            crop = band_limit(crop, self.sample_rate, self.augment, rng)
        return amplify(crop, self.augment, rng)

    def batch(self, stream: Stream, step: int, rows: Iterable[int], length: int | None = None) -> Tensor:
        """[rows * C, length] float32: these crops of the batch of one step, the channels of each one after the other.

        length: samples, None for the usual.
        """
        return torch.from_numpy(np.concatenate([self.row(stream, step, row, length) for row in rows]))


class Batches:
    """Batches of consecutive steps, prepared ahead in threads where asked, in pinned memory for a GPU.

    rows: of the global batch that this process hears.
    """

    def __init__(self, crops: Crops, rows: Sequence[int], device: torch.device, threads: int):
        self.crops, self.rows, self.device = crops, rows, device
        self.pool = ThreadPoolExecutor(threads, thread_name_prefix="batches") if threads > 0 else None
        self.ahead: dict[int, Future[Tensor]] = {}
        self.threads = threads

    def _prepare(self, step: int) -> Tensor:
        batch = self.crops.batch(TRAIN, step, self.rows)
        return batch.pin_memory() if self.device.type == "cuda" else batch

    def take(self, step: int) -> Tensor:
        """The batch of `step`, [rows * C, length], on the device."""
        if self.pool is None:
            return self._prepare(step).to(self.device)
        for later in range(step, step + 1 + self.threads):
            if later not in self.ahead:
                self.ahead[later] = self.pool.submit(self._prepare, later)
        self.ahead = {number: future for number, future in self.ahead.items() if number >= step}
        return self.ahead.pop(step).result().to(self.device, non_blocking=True)

    def close(self) -> None:
        """End the threads."""
        if self.pool is not None:
            self.pool.shutdown(cancel_futures=True)
