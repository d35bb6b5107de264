"""Time of an engine's step, every session ready at every step, both directions. On a quiet machine:

    python tests/engine/step_time.py                                                    # the bundled codec
    python tests/engine/step_time.py --codec mimi --sessions 8 --threads 2 --frames 1 --backend native \\
        --precision bfloat16 --bandwidth 1.1                                            # a preset: random weights
"""

import argparse
import time

import torch

from streamcodec import Codec
from streamcodec.bench.pairs import open_codec
from streamcodec.engine import Engine

SECONDS = 16.0  # of each
FIRST = 5


def measure(codec: Codec, sessions: int, frames: int, threads: int, bandwidth: float | None) -> str:
    engine = Engine(codec, slots=sessions, step_frames=(frames,), threads=threads)
    engine.prepare()
    opened = [engine.open("roundtrip", bandwidth=bandwidth) for _ in range(sessions)]
    pcm = (0.1 * torch.randn(sessions, 1, codec.spec.channels, frames * codec.spec.hop_length)).numpy()
    steps, feeds, end = list[float](), list[float](), time.perf_counter() + SECONDS
    while len(steps) < 2 * FIRST or time.perf_counter() < end:
        began = time.perf_counter()
        for session, samples in zip(opened, pcm, strict=True):
            engine.feed(session, samples)
        fed = time.perf_counter()
        engine.step()
        steps.append(1e3 * (time.perf_counter() - fed))
        feeds.append(1e3 * (fed - began))
    budget = 1e3 * frames / codec.spec.frame_rate
    late = sum(step > budget for step in steps[FIRST:])
    p50, p99 = (torch.tensor(steps[FIRST:]).quantile(q) for q in (0.5, 0.99))
    times = f"p50 {p50:.2f} ms, p99 {p99:.2f} ms, feeding {torch.tensor(feeds[FIRST:]).median():.2f} ms"
    said = f"{sessions} sessions, {frames} frames a step, {threads} threads: {times}, of {budget:.2f} ms"
    return f"{said}; {late} of {len(steps) - FIRST} steps took longer"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--codec")
    for name in ("backend", "precision"):
        parser.add_argument(f"--{name}", default={"backend": "auto", "precision": "float32"}[name])
    parser.add_argument("--bandwidth", type=float, help="kbps; default: the codec's")
    parser.add_argument("--sessions", type=int, default=24)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--frames", type=int, nargs="*", default=[1, 2, 4])
    args = parser.parse_args()
    torch.set_num_threads(1)
    codec, _ = open_codec(args.codec, args.backend, args.precision)
    for frames in args.frames:
        print(measure(codec, args.sessions, frames, args.threads, args.bandwidth), flush=True)


if __name__ == "__main__":
    main()
