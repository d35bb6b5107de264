"""A corpus to a data set of tokens, from where an earlier run left off."""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import SupportsFloat, SupportsIndex

from ..codecs import Codec
from ..codesfile import CodesHeader
from ..errors import InputError
from ..precisions import check_encoding
from ..scalars import whole
from .card import write_card
from .encoding import Encoder, Settings
from .folder import Folder, ShardWriter, write_text
from .formats import FORMATS
from .items import Failure, Item, Tokens
from .on_ray import ray_data, run_ray
from .packed import pyarrow
from .pool import run_processes
from .sources import corpus_of
from .statistics import write_statistics

__all__ = ["Progress", "tokenize"]

SHARD_BYTES = 64 << 20
SHARD_ITEMS = 10_000


@dataclass
class Progress:
    """How far a run is.

    total: recordings, None where the source does not tell; done, failed: in this run; before: in earlier ones;
    seconds: of audio in this run; failures: names and reasons; began, ended: on the monotonic clock.
    """

    total: int | None
    before: int = 0
    done: int = 0
    seconds: float = 0.0
    failures: list[Failure] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)
    ended: float | None = None

    @property
    def failed(self) -> int:
        """Recordings that could not be made tokens of."""
        return len(self.failures)

    @property
    def elapsed(self) -> float:
        """Seconds that it took, or takes so far."""
        return (time.monotonic() if self.ended is None else self.ended) - self.began

    @property
    def speed(self) -> float:
        """Hours of audio an hour."""
        return self.seconds / max(1e-9, self.elapsed)


def tokenize(
    source: str | Path,
    out: str | Path,
    codec: str | None = None,
    *,
    bandwidth: SupportsFloat | None = None,
    num_codebooks: SupportsIndex | None = None,
    format: str = "safetensors",
    processes: SupportsIndex = 1,
    device: str = "cpu",
    backend: str = "auto",
    precision: str = "float32",
    batch: SupportsIndex = 1,
    rank: SupportsIndex = 0,
    ranks: SupportsIndex = 1,
    ray: str | None = None,
    audio_column: str | None = None,
    key_column: str | None = None,
    shard_bytes: SupportsIndex = SHARD_BYTES,
    shard_items: SupportsIndex = SHARD_ITEMS,
    progress: Callable[[Progress], object] | None = None,
) -> Progress:
    """All recordings of a corpus to tokens; run it again after an interruption, and it goes on with those left.

    source: see `corpus_of`: a folder, list, manifest, tar shards, data set on disk, or a URL. out: the folder of the
    data set, read by `TokenDataset`. codec, device, backend: as for `streamcodec.load`, but "auto" is on a CPU "native"
    where that can run; precision: likewise, one in which encoders run; bandwidth, num_codebooks: as for `Codec.encode`.
    format: "safetensors", "tar" (webdataset), "parquet" or "arrow". processes: that encode, one thread each; 0 for none
    but this one (a script that asks for more needs `if __name__ == "__main__"`). batch: recordings that are encoded
    together, for a GPU. rank, ranks: this machine encodes every `ranks`-th recording, from the one numbered `rank` on.
    ray: the address of a Ray cluster that encodes instead ("auto", "local"), with `processes` of its workers or, where
    that is 0, as many as it has room for; this process reads and writes. shard_bytes, shard_items: of a file. progress:
    called after each recording.

    A recording that cannot be read is told in `failures.jsonl`, and tried again by the next run. Raises
    StreamcodecError where nothing can begin: no source, no codec, tokens of another kind in `out`.
    """
    if ray is not None:
        ray_data()
    settings, folder, loaded = _settled(out, codec, bandwidth, num_codebooks, format, device, backend, precision, batch)
    processes, rank, ranks = whole(processes, "processes", 0), whole(rank, "rank", 0), whole(ranks, "ranks")
    if rank >= ranks:
        raise InputError(f"rank is {rank}; with {ranks} ranks it must be 0 to {ranks - 1}")
    corpus = corpus_of(source, audio_column, key_column)
    folder.begin()
    state = Progress(corpus.total)
    writer = ShardWriter(folder, rank, whole(shard_bytes, "shard_bytes"), whole(shard_items, "shard_items"))
    try:
        writer.adopt(ranks)
        before = folder.done()
        items = _left(_own(corpus.items(), rank, ranks), before, state)
        for result in _results(items, processes, settings, loaded, ray):
            if isinstance(result, Failure):
                state.failures.append(result)
            else:
                writer.append(result)
                state.done += 1
                state.seconds += result.length / folder.header.sample_rate
            if progress is not None:
                progress(state)
        writer.close()
    except BaseException:
        writer.abandon()
        raise
    finally:
        _report(folder.path, rank, ranks, state.failures)
    if not folder.journals():  # the last rank that ends has all of it before it
        write_card(folder, write_statistics(folder))
    state.ended = time.monotonic()
    return state


def _settled(
    out: str | Path,
    source: str | None,
    bandwidth: SupportsFloat | None,
    num_codebooks: SupportsIndex | None,
    format: str,
    device: str,
    backend: str,
    precision: str,
    batch: SupportsIndex,
) -> tuple[Settings, Folder, Codec]:
    """What to encode with, and where it goes. Raises StreamcodecError."""
    if format not in FORMATS:
        raise InputError(f"format is {format!r}; it must be one of {', '.join(FORMATS)}")
    if format in ("parquet", "arrow"):
        pyarrow()
    check_encoding(precision)
    settings = Settings(source, 1, device, backend, whole(batch, "batch"), precision)
    codec = settings.load()
    spec = codec.spec
    kbps = spec.resolve(bandwidth, num_codebooks)
    header = CodesHeader(
        codec=spec.name,
        source=source or "",
        fingerprint=codec.fingerprint,
        bandwidth=kbps,
        sample_rate=spec.sample_rate,
        channels=spec.channels,
        hop_length=spec.hop_length,
        codebook_size=spec.codebook_size,
        start="exact",
    )
    count = spec.codebooks(kbps)
    return settings._replace(num_codebooks=count), Folder(Path(out), header, format, count), codec


def _own(items: Iterator[Item | Failure], rank: int, ranks: int) -> Iterator[Item | Failure]:
    """This rank's. An item whose key came before, to whatever rank, is a failure."""
    seen: set[str] = set()
    for number, item in enumerate(items):
        again = isinstance(item, Item) and item.key in seen
        seen.add(item.key)
        if number % ranks == rank:
            yield Failure(item.key, "another recording has this key; each needs one of its own") if again else item


def _left(items: Iterator[Item | Failure], before: set[str], state: Progress) -> Iterator[Item]:
    """Those that are in no shard yet, ready for other processes; what cannot be read goes to the failures."""
    for item in items:
        if isinstance(item, Failure):
            state.failures.append(item)
        elif item.key in before:
            state.before += 1
        else:
            try:
                loaded = item.loaded()
            except Exception as error:  # of one file's member, or of a store that did not answer
                state.failures.append(Failure(item.key, f"{type(error).__name__}: {error}"))
            else:
                yield loaded


def _results(
    items: Iterator[Item], processes: int, settings: Settings, codec: Codec, ray: str | None
) -> Iterator[Tokens | Failure]:
    if ray is not None:
        return run_ray(items, processes, settings, ray)
    if processes:
        return run_processes(items, processes, settings)
    return Encoder(settings, codec)(items)


def _report(path: Path, rank: int, ranks: int, failures: list[Failure]) -> None:
    """`failures.jsonl`: a line for each recording that this run could not do. None where there are none."""
    name = "failures.jsonl" if ranks == 1 else f"failures-{rank:04d}.jsonl"
    if not failures:
        (path / name).unlink(missing_ok=True)
        return
    lines = (json.dumps(failure._asdict(), ensure_ascii=False) + "\n" for failure in failures)
    write_text(path / name, "".join(lines))
