"""Training audio packed for a journey: FLAC-coded int16 in safetensors shards, read as a folder is read.

A pack is a folder of ``pack-000.safetensors`` ...: one uint8 tensor per part of a recording, a whole FLAC file each,
and in the metadata the sample rate, the channels and the list of recordings. FLAC is lossless, so training on a pack is
training on the audio that was packed, to the bit.
"""

import io
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from ..errors import AudioError, SampleRateError
from .shards import SHARD_BYTES

__all__ = ["Packed", "is_pack", "read_pack", "write_pack"]

PART_SECONDS = 60  # longer recordings are packed in parts, none of them near the size of a shard


class Packed(NamedTuple):
    """A recording: where it came from, its folder's name, int16 samples [N, C]."""

    path: str
    group: str
    samples: np.ndarray


def is_pack(source: Path) -> bool:
    """Whether `source` is a folder that `write_pack` wrote."""
    return source.is_dir() and (source / "pack-000.safetensors").is_file()


def _flac(samples: np.ndarray, sample_rate: int) -> np.ndarray:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, sample_rate, format="FLAC", subtype="PCM_16")
    return np.frombuffer(buffer.getvalue(), dtype=np.uint8)


class _Writer:
    """Collects parts and writes a shard whenever the next one would be too large."""

    def __init__(self, folder: Path, sample_rate: int):
        self.folder, self.sample_rate, self.channels = folder, sample_rate, 1
        self.parts: dict[str, np.ndarray] = {}
        self.entries: list[dict[str, object]] = []
        self.size = self.count = self.recordings = self.written = 0
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob("pack-*.safetensors"):
            old.unlink()

    def add(self, path: str, group: str, parts: list[np.ndarray]) -> None:
        size = _bytes(parts)
        if self.parts and self.size + size > SHARD_BYTES:
            self.flush()
        names = [f"{self.recordings:06d}.{number:03d}" for number in range(len(parts))]
        self.entries.append({"path": path, "group": group, "parts": names})
        self.parts |= dict(zip(names, parts, strict=True))
        self.size += size
        self.recordings += 1

    def flush(self) -> None:
        metadata = {
            "sample_rate": str(self.sample_rate),
            "channels": str(self.channels),
            "recordings": json.dumps(self.entries),
        }
        save_file(self.parts, self.folder / f"pack-{self.count:03d}.safetensors", metadata)
        self.count, self.written = self.count + 1, self.written + self.size
        self.parts, self.entries, self.size = {}, [], 0


def write_pack(heard: Iterable[Packed], folder: Path, sample_rate: int, limit: int, seed: int = 0) -> dict[str, int]:
    """Pack recordings until `limit` bytes are full; returns recordings, bytes and left_out.

    Where not all fit, every group gives the same share of its recordings, drawn at random. A recording with more FLAC
    than a shard holds (some ten minutes) is cut into several. Raises AudioError if not even one recording fits.
    """
    items: list[tuple[str, str, list[np.ndarray]]] = []
    writer = _Writer(folder, sample_rate)
    for path, group, samples in heard:
        writer.channels = samples.shape[1]
        step = PART_SECONDS * sample_rate
        parts = [_flac(samples[start : start + step], sample_rate) for start in range(0, len(samples), step)]
        items += [(path, group, chunk) for chunk in _chunks(parts)]
    kept = _chosen([(group, _bytes(parts)) for _, group, parts in items], limit, seed)
    for place in kept:  # in the order of the recordings: a pack of all of them is read as they are
        writer.add(*items[place])
    left_out = len(items) - len(kept)
    if not writer.recordings:
        raise AudioError(f"no recording fits into {limit} bytes; give the pack more room")
    writer.flush()
    return {"recordings": writer.recordings, "bytes": writer.written, "left_out": left_out}


def _bytes(parts: Iterable[np.ndarray]) -> int:
    return sum(part.nbytes for part in parts)


def _chosen(items: list[tuple[str, int]], limit: int, seed: int) -> list[int]:
    """Places of the items (group, bytes) to keep within `limit` bytes: of every group the same share, at random."""
    total = sum(size for _, size in items)
    if total <= limit:
        return list(range(len(items)))
    rng, kept = np.random.default_rng(seed), []
    for group in sorted({group for group, _ in items}):
        places = [place for place, item in enumerate(items) if item[0] == group]
        budget = limit * sum(items[place][1] for place in places) // total
        for place in rng.permutation(places):
            if items[place][1] <= budget:
                budget -= items[place][1]
                kept.append(int(place))
    return sorted(kept)


def _chunks(parts: list[np.ndarray]) -> Iterator[list[np.ndarray]]:
    """Consecutive parts that fit into a shard together."""
    chunk: list[np.ndarray] = []
    for part in parts:
        if chunk and _bytes(chunk) + part.nbytes > SHARD_BYTES:
            yield chunk
            chunk = []
        chunk.append(part)
    if chunk:
        yield chunk


def read_pack(folder: Path, sample_rate: int, channels: int = 1) -> Iterator[Packed]:
    """The recordings of a pack in order.

    Raises AudioError for a damaged one or one of other channels, SampleRateError for another rate.
    """
    for path in sorted(folder.glob("pack-*.safetensors")):
        try:
            with safe_open(path, "np") as file:
                metadata = file.metadata() or {}
                _check_kind(path, metadata, sample_rate, channels)
                for entry in json.loads(metadata["recordings"]):
                    parts = [_samples(file.get_tensor(name)) for name in entry["parts"]]
                    yield Packed(entry["path"], entry["group"], np.concatenate(parts))
        except (OSError, ValueError, KeyError, TypeError, SafetensorError, soundfile.SoundFileError) as error:
            if isinstance(error, (SampleRateError, AudioError)):
                raise
            raise AudioError(f"{path} cannot be read as packed audio: {error}") from error


def _check_kind(path: Path, metadata: Mapping[str, str], sample_rate: int, channels: int) -> None:
    """Raises SampleRateError or AudioError for a pack that was made for another codec."""
    if metadata.get("sample_rate") != str(sample_rate):
        raise SampleRateError(
            f"{path} holds audio at {metadata.get('sample_rate')} Hz, not {sample_rate} Hz as the codec; pack the "
            "recordings at that rate"
        )
    if (found := metadata.get("channels", "1")) != str(channels):
        raise AudioError(
            f"{path} holds audio of {found} channels, and the codec has {channels}; pack the recordings with "
            f"--channels {channels}"
        )


def _samples(coded: np.ndarray) -> np.ndarray:
    samples, _ = soundfile.read(io.BytesIO(coded.tobytes()), dtype="int16", always_2d=True)
    return samples
