"""``streamcodec tokenize``: a corpus of recordings to a data set of tokens."""

import contextlib
import json
import os
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator

from ..corpus import Progress, tokenize
from ..errors import InputError
from .signals import check_ended
from .telling import tell

__all__ = ["run"]

TOLD = 5  # failures by name on stderr; all are in the report
GPU_BATCH = 32
# Of torchrun and of SLURM: which process this is, and of how many.
RANKS = (("RANK", "WORLD_SIZE"), ("SLURM_PROCID", "SLURM_NTASKS"))


def run(args: Namespace) -> int:
    """Encode what is left, and say what was done."""
    rank, ranks = _ranks() if args.shard is None else args.shard
    on_cpu = args.device == "cpu"
    with _bar(ranks) as progress:
        done = tokenize(
            args.source,
            args.out,
            args.codec,
            bandwidth=args.bandwidth,
            num_codebooks=args.codebooks,
            format=args.format,
            processes=args.processes or (0 if args.ray else _cores() if on_cpu else 1),
            device=args.device,
            backend=args.backend,
            precision=args.precision,
            batch=args.batch or (1 if on_cpu else GPU_BATCH),
            rank=rank,
            ranks=ranks,
            ray=args.ray,
            audio_column=args.audio_column,
            key_column=args.key_column,
            shard_bytes=args.shard_mb << 20,
            progress=progress,
        )
    for failure in done.failures[:TOLD]:
        tell(f"left out: {failure.key}: {failure.reason}")
    if done.failed:
        names = f"failures{'*' if ranks > 1 else ''}.jsonl"
        tell(f"{_counted(done.failed)} left out; all of them are in {args.out}/{names}")
    result = {
        "items": done.done,
        "before": done.before,
        "failed": done.failed,
        "audio_seconds": round(done.seconds, 3),
        "elapsed_seconds": round(done.elapsed, 3),
        "hours_an_hour": round(done.speed, 2),
    }
    print(json.dumps(result) if args.json else _line(done))
    return 0


def _line(done: Progress) -> str:
    earlier = f", {done.before} from earlier runs" if done.before else ""
    hours = f"{done.seconds / 3600:.3f} hours of audio in {done.elapsed:.0f} s"
    return f"{_counted(done.done)}{earlier}, {done.failed} left out | {hours} | {done.speed:.1f} hours an hour"


def _counted(recordings: int) -> str:
    return f"{recordings} recording{'' if recordings == 1 else 's'}"


def _cores() -> int:
    """Those that this process may use."""
    with contextlib.suppress(AttributeError):  # not on macOS and Windows
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _ranks() -> tuple[int, int]:
    for names in RANKS:
        if all(os.environ.get(name, "").isdecimal() for name in names):
            rank, ranks = (int(os.environ[name]) for name in names)
            return rank, ranks
    raise InputError("--shard auto: this process has no number from torchrun (RANK) or SLURM; say --shard I/N")


@contextlib.contextmanager
def _bar(ranks: int) -> Iterator[Callable[[Progress], object]]:
    """On a terminal a bar: recordings, the time that is left where the source tells how many there are, the speed."""
    if not sys.stderr.isatty():
        yield lambda progress: check_ended()
        return
    from tqdm import tqdm

    # The speed of the whole run: recordings differ in length, and those of earlier runs cost nothing.
    with tqdm(unit="file", file=sys.stderr, smoothing=0) as bar:

        def advance(progress: Progress) -> None:
            check_ended()
            if progress.total is not None:
                bar.total = -(-progress.total // ranks)
                bar.initial = progress.before
            bar.n = progress.before + progress.done + progress.failed
            left_out = f", {progress.failed} left out" if progress.failed else ""
            bar.set_postfix_str(f"{progress.speed:.1f} h of audio an hour{left_out}", refresh=False)
            bar.update(0)

        yield advance
