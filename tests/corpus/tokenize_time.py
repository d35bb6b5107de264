"""What `streamcodec tokenize` makes of the machine: its hours of audio an hour, beside what the codec alone can do.

python tests/corpus/tokenize_time.py FOLDER [--codec NAME] [--processes N] [--only 200] [--rounds 3]

Three things are timed in turn, each on the same recordings, and the medians are told:

- the codec alone: as many processes as there are cores, one thread each, encode what is in memory already;
- streamcodec tokenize: all of it, reading and resampling and writing included;
- with --transformers, transformers' own loop: padded batches of 8 through `model.encode` with as many threads.

NAME is what `streamcodec.load` takes, or that of a preset of `streamcodec bench speed`, such as encodec_24khz or
dac_44khz: the published sizes with random weights. Two marks are told at the end.
"""

import argparse
import multiprocessing
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

os.environ.setdefault("TRITON_INTERPRET", "1")  # transformers imports Triton

import numpy as np
import torch

import streamcodec
from streamcodec.audio import AudioReader
from streamcodec.bench.presets import PRESETS, make
from streamcodec.corpus import tokenize
from streamcodec.corpus.items import AUDIO_SUFFIXES

BATCH = 8


def read(path: Path, spec: streamcodec.CodecSpec) -> np.ndarray:
    with AudioReader(path, spec.sample_rate, spec.channels, spec.sample_rate) as reader:
        return np.concatenate(list(reader), 1)


def encode_alone(source: str | None, recordings: list[np.ndarray], barrier: Any) -> None:
    """A process: ready when all are, and then nothing but the codec."""
    torch.set_num_threads(1)
    codec = streamcodec.load(source)
    codec.encode(recordings[0][None])
    barrier.wait()
    for wav in recordings:
        codec.encode(wav[None])
    barrier.wait()


def codec_alone(source: str | None, recordings: list[np.ndarray], processes: int) -> float:
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(processes + 1)
    shares = [recordings[i::processes] for i in range(processes)]
    workers = [context.Process(target=encode_alone, args=(source, share, barrier)) for share in shares]
    for worker in workers:
        worker.start()
    barrier.wait()
    since = time.perf_counter()
    barrier.wait()
    spent = time.perf_counter() - since
    for worker in workers:
        worker.join()
    return spent


def command(source: str | None, paths: list[Path], processes: int) -> float:
    """From the first recording done on: to start the processes takes as long for two hundred as for a million."""
    folder = Path(tempfile.mkdtemp())
    (folder / "list.txt").write_text("\n".join(map(str, paths)))
    times: list[float] = []
    try:
        done = tokenize(
            folder / "list.txt", folder / "out", source, processes=processes,
            progress=lambda progress: times.append(time.perf_counter()),
        )  # fmt: skip
    finally:
        shutil.rmtree(folder)
    return (times[-1] - times[0]) * len(times) / max(1, len(times) - 1) if done.done else float("nan")


def transformers_loop(name: str, recordings: list[np.ndarray], processes: int) -> float:
    """As its pages on EnCodec and DAC have it."""
    from transformers import AutoModel

    torch.set_num_threads(processes)
    model = AutoModel.from_pretrained(name).eval()
    extract = extractor(name, model.config)
    masked = model.config.model_type == "encodec"  # no other model takes a mask
    with torch.inference_mode():
        model.encode(torch.from_numpy(recordings[0][None]))
    since = time.perf_counter()
    for first in range(0, len(recordings), BATCH):
        batch = [wav[0] if len(wav) == 1 else wav.T for wav in recordings[first : first + BATCH]]
        inputs = extract(raw_audio=batch, sampling_rate=model.config.sampling_rate, return_tensors="pt", padding=True)
        with torch.inference_mode():
            model.encode(inputs["input_values"], **({"padding_mask": inputs["padding_mask"]} if masked else {}))
    return time.perf_counter() - since


def extractor(name: str, config: Any) -> Any:
    """The model's own, or one by its configuration: a checkpoint of ours has none."""
    from transformers import AutoFeatureExtractor, DacFeatureExtractor, EncodecFeatureExtractor

    if not Path(name).is_dir() or (Path(name) / "preprocessor_config.json").exists():
        return AutoFeatureExtractor.from_pretrained(name)
    if config.model_type == "encodec":
        chunk = {"chunk_length_s": config.chunk_length_s, "overlap": config.overlap}
        return EncodecFeatureExtractor(config.audio_channels, config.sampling_rate, **chunk)
    return DacFeatureExtractor(sampling_rate=config.sampling_rate, hop_length=config.hop_length)


@contextmanager
def codec_of(name: str | None) -> Iterator[str | None]:
    """What both libraries load: a preset is made and saved."""
    if name not in PRESETS:
        yield name
        return
    with tempfile.TemporaryDirectory() as folder:
        yield str(streamcodec.save(make(PRESETS[name]), Path(folder) / "codec"))


def marks(rates: list[float]) -> Iterator[str]:
    """Of the rates of the codec alone, the command and transformers."""
    alone, whole, *others = rates
    yield f"mark: {whole / alone:.1%} of what the codec alone does on all cores (wanted: at least 90%)"
    for other in others:
        yield f"mark: {whole / other:.2f} times as fast as transformers' loop over batches (wanted: at least 1)"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--codec", help="default: the bundled one")
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--only", type=int, default=200, help="recordings (default: 200)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--transformers", action="store_true", help="time transformers, too; --codec must be its name")
    args = parser.parse_args()
    if args.transformers and args.codec is None:
        parser.error("--transformers needs --codec: transformers does not know the bundled one")
    with codec_of(args.codec) as codec:
        measure(args, codec)


def measure(args: argparse.Namespace, codec: str | None) -> None:
    spec = streamcodec.load(codec).spec
    paths = sorted(p.resolve() for p in args.folder.rglob("*") if p.suffix.lower() in AUDIO_SUFFIXES)[: args.only]
    recordings = [read(path, spec) for path in paths]
    seconds = sum(wav.shape[1] for wav in recordings) / spec.sample_rate
    ways: dict[str, Callable[[], float]] = {
        "the codec alone": lambda: codec_alone(codec, recordings, args.processes),
        "streamcodec tokenize": lambda: command(codec, paths, args.processes),
    }
    if args.transformers:
        ways["transformers, batches"] = lambda: transformers_loop(codec, recordings, args.processes)
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(args.rounds):  # in turn, so that a machine that drifts treats all alike
        for name, way in ways.items():
            times[name].append(way())
    print(f"{len(paths)} recordings, {seconds / 3600:.3f} hours, {args.processes} processes")
    rates = {name: seconds / statistics.median(spent) for name, spent in times.items()}
    for name, rate in rates.items():
        print(f"{name:24} {rate:8.1f} hours of audio an hour")
    print(*marks(list(rates.values())), sep="\n")


if __name__ == "__main__":
    main()
