"""What `streamcodec tokenize` makes of the machine: its hours of audio an hour, beside what the codec alone can do.

python tests/corpus/tokenize_time.py FOLDER [--codec NAME] [--processes N] [--only 200] [--rounds 3]

These are timed in turn, each on the same recordings, and the medians are told:

- offline: as many processes as there are cores, one thread each, call `codec.encode` on what is in memory already; this
  is "streamcodec, offline" of `streamcodec bench speed`, on all cores;
- steps: the same, but by what `tokenize` encodes with, and in its steps;
- tokenize: the command, reading and resampling and writing included; without the start of its processes, which is told
  beside it and takes as long for two hundred recordings as for a million;
- with --transformers, transformers' own loop over padded batches, through `model.encode`: batches of 8 and of 1, on all
  threads of one process, and in a process a core.

NAME is what `streamcodec.load` takes, or that of a preset of `streamcodec bench speed`, such as encodec_24khz or
dac_44khz: the published sizes with random weights. The marks are told at the end.

For a machine that is quiet for a minute at a time: --way and --part time one way, or a part of the recordings, --times
adds what was found to a file, and all that is in the file is told: --rounds 0 does nothing else.
"""

import argparse
import json
import multiprocessing
import os
import shutil
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("TRITON_INTERPRET", "1")  # transformers imports Triton

import numpy as np
import torch

import streamcodec
from streamcodec.audio import AudioReader
from streamcodec.bench.presets import PRESETS
from streamcodec.bench.random_weights import make
from streamcodec.corpus import tokenize
from streamcodec.corpus.encoding import Settings
from streamcodec.corpus.items import AUDIO_SUFFIXES, BLOCK_SECONDS

Encode = Callable[[list[np.ndarray]], object]


class Found(NamedTuple):
    """way: what was timed; part: of the recordings; audio, spent, start: seconds; start: before the first recording."""

    way: str
    part: str
    audio: float
    spent: float
    start: float = 0.0


def read(path: Path, spec: streamcodec.CodecSpec) -> np.ndarray:
    with AudioReader(path, spec.sample_rate, spec.channels, spec.sample_rate) as reader:
        return np.concatenate(list(reader), 1)


# -- what encodes, made in the process that it is timed in; each gives a function of recordings ------------------------


def offline(source: str | None) -> Encode:
    codec = streamcodec.load(source)
    return lambda recordings: [codec.encode(wav[None]) for wav in recordings]


def steps(source: str | None) -> Encode:
    codec = Settings(source, 1).load()
    chunk = None if codec.framing.analyse_each is None else BLOCK_SECONDS
    return lambda recordings: [codec.encode(wav[None], chunk_seconds=chunk) for wav in recordings]


def by_transformers(source: str, size: int) -> Encode:
    """As its pages on EnCodec and DAC have it, in batches of `size`."""
    from transformers import AutoModel

    model = AutoModel.from_pretrained(source).eval()
    extract, rate = extractor(source, model.config), model.config.sampling_rate
    masked = model.config.model_type == "encodec"  # no other model takes a mask

    def encode(recordings: list[np.ndarray]) -> None:
        for first in range(0, len(recordings), size):
            batch = [wav[0] if len(wav) == 1 else wav for wav in recordings[first : first + size]]
            inputs = extract(raw_audio=batch, sampling_rate=rate, return_tensors="pt", padding=True)
            with torch.inference_mode():
                model.encode(inputs["input_values"], **({"padding_mask": inputs["padding_mask"]} if masked else {}))

    return encode


def extractor(name: str, config: Any) -> Any:
    """The model's own, or one by its configuration: a checkpoint of ours has none."""
    from transformers import AutoFeatureExtractor, DacFeatureExtractor, EncodecFeatureExtractor

    if not Path(name).is_dir() or (Path(name) / "preprocessor_config.json").exists():
        return AutoFeatureExtractor.from_pretrained(name)
    if config.model_type == "encodec":
        chunk = {"chunk_length_s": config.chunk_length_s, "overlap": config.overlap}
        return EncodecFeatureExtractor(config.audio_channels, config.sampling_rate, **chunk)
    return DacFeatureExtractor(sampling_rate=config.sampling_rate, hop_length=config.hop_length)


# -- how it is timed ---------------------------------------------------------------------------------------------------


def in_one(ready: Callable[[], Encode], recordings: list[np.ndarray], threads: int) -> tuple[float, float]:
    torch.set_num_threads(threads)
    began = time.perf_counter()
    encode = ready()
    encode(recordings[:1])
    since = time.perf_counter()
    encode(recordings)
    return time.perf_counter() - since, since - began


def work(ready: Callable[[], Encode], recordings: list[np.ndarray], barrier: Any) -> None:
    """A process: waits when it is ready, and then does nothing but encode."""
    torch.set_num_threads(1)
    encode = ready()
    encode(recordings[:1])
    barrier.wait()
    encode(recordings)
    barrier.wait()


def in_processes(ready: Callable[[], Encode], recordings: list[np.ndarray], processes: int) -> tuple[float, float]:
    """Longest recordings first, each to the process that has least: all end at about the same time."""
    shares: list[list[np.ndarray]] = [[] for _ in range(processes)]
    for wav in sorted(recordings, key=lambda wav: -wav.shape[1]):
        min(shares, key=lambda share: sum(each.shape[1] for each in share)).append(wav)
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(processes + 1)
    began = time.perf_counter()
    workers = [context.Process(target=work, args=(ready, share, barrier)) for share in shares]
    for worker in workers:
        worker.start()
    barrier.wait()
    since = time.perf_counter()
    barrier.wait()
    spent = time.perf_counter() - since
    for worker in workers:
        worker.join()
    return spent, since - began


def command(source: str | None, paths: list[Path], processes: int) -> tuple[float, float]:
    """From the first recording done on, as if all before it had taken as long as the others."""
    folder = Path(tempfile.mkdtemp())
    (folder / "list.txt").write_text("\n".join(map(str, paths)))
    times: list[float] = []
    began = time.perf_counter()
    try:
        tokenize(
            folder / "list.txt", folder / "out", source, processes=processes,
            progress=lambda progress: times.append(time.perf_counter()),
        )  # fmt: skip
        ended = time.perf_counter()  # the card and the statistics, too
    finally:
        shutil.rmtree(folder)
    spent = (times[-1] - times[0]) * len(times) / max(1, len(times) - 1) + ended - times[-1]
    return spent, ended - began - spent


@contextmanager
def codec_of(name: str | None) -> Iterator[str | None]:
    """What both libraries load: a preset is made and saved."""
    if name not in PRESETS:
        yield name
        return
    with tempfile.TemporaryDirectory() as folder:
        yield str(streamcodec.save(make(PRESETS[name]), Path(folder) / "codec"))


def ways_of(
    source: str | None, paths: list[Path], recordings: list[np.ndarray], processes: int, transformers: bool
) -> dict[str, Callable[[], tuple[float, float]]]:
    ways = {
        "offline": partial(in_processes, partial(offline, source), recordings, processes),
        "steps": partial(in_processes, partial(steps, source), recordings, processes),
        "tokenize": partial(command, source, paths, processes),
    }
    if transformers:
        for size in (8, 1):
            ready = partial(by_transformers, source, size)
            ways[f"transformers, batches of {size}, threads"] = partial(in_one, ready, recordings, processes)
            ways[f"transformers, batches of {size}, processes"] = partial(in_processes, ready, recordings, processes)
    return ways


def measure(args: argparse.Namespace, source: str | None) -> Iterator[Found]:
    spec = streamcodec.load(source).spec
    paths = sorted(p.resolve() for p in args.folder.rglob("*") if p.suffix.lower() in AUDIO_SUFFIXES)
    paths = [paths[i * len(paths) // min(args.only, len(paths))] for i in range(min(args.only, len(paths)))]
    part, parts = map(int, args.part.split("/"))
    paths = paths[part::parts]
    recordings = [read(path, spec) for path in paths]
    seconds = sum(wav.shape[1] for wav in recordings) / spec.sample_rate
    ways = ways_of(source, paths, recordings, args.processes, args.transformers)
    print(f"{len(paths)} recordings, {seconds / 3600:.3f} hours, {args.processes} processes", flush=True)
    for _ in range(args.rounds):  # in turn, so that a machine that drifts treats all alike
        for name in args.way or ways:
            found = Found(name, args.part, seconds, *ways[name]())
            print(f"{name:40} {seconds / found.spent:8.1f} hours an hour, {found.start:.1f} s to start", flush=True)
            yield found


def told(found: list[Found]) -> Iterator[str]:
    """A line a way, and the marks. Of a part that was timed several times, the median."""
    spent: dict[str, dict[str, list[Found]]] = defaultdict(lambda: defaultdict(list))
    for each in found:
        spent[each.way][each.part].append(each)
    rates: dict[str, float] = {}
    for way, parts in spent.items():
        audio = sum(each[0].audio for each in parts.values())
        rates[way] = audio / sum(statistics.median(one.spent for one in each) for each in parts.values())
        yield f"{way:40} {rates[way]:8.1f} hours an hour, of {audio / 3600:.3f} hours"
    for way, rate in rates.items():
        if "tokenize" in rates and way != "tokenize":
            yield f"tokenize over {way}: {rates['tokenize'] / rate:.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--codec", help="default: the bundled one")
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--only", type=int, default=200, help="recordings, from all over the folder (default: 200)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--transformers", action="store_true", help="time transformers, too; --codec must be its name")
    parser.add_argument("--way", action="append", help="time this alone; may be given again")
    parser.add_argument("--part", default="0/1", metavar="I/N", help="of the recordings, every N-th from the I-th on")
    parser.add_argument("--times", type=Path, help="a file that what is found is added to")
    args = parser.parse_args()
    if args.transformers and args.codec is None:
        parser.error("--transformers needs --codec: transformers does not know the bundled one")
    found = []
    if args.times and args.times.exists():
        found = [Found(*json.loads(line)) for line in args.times.read_text().splitlines()]
    with codec_of(args.codec) as source:
        for each in measure(args, source) if args.rounds else ():
            found.append(each)
            if args.times:
                with args.times.open("a") as file:
                    file.write(json.dumps(each) + "\n")
    print(*told(found), sep="\n")


if __name__ == "__main__":
    main()
