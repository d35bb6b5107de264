"""Time of an engine's step: `python tests/engine/step_time.py [sessions] [threads]` on a quiet machine."""

import sys
import time

import torch

import streamcodec
from streamcodec.engine import Engine

STEPS = 60


def measure(sessions: int, frames: int, threads: int) -> str:
    """The bundled codec, round trip, bandwidths in turn, every session ready at every step."""
    codec = streamcodec.load()
    engine = Engine(codec, slots=sessions, step_frames=(frames,), threads=threads)
    engine.prepare()
    bandwidths, hop = codec.spec.bandwidths, codec.spec.hop_length
    opened = [engine.open("roundtrip", bandwidth=bandwidths[i % len(bandwidths)]) for i in range(sessions)]
    pcm = (0.1 * torch.randn(sessions, 1, 1, frames * hop)).numpy()
    steps, feeds = [], []
    for _ in range(STEPS):
        began = time.perf_counter()
        for session, samples in zip(opened, pcm, strict=True):
            engine.feed(session, samples)
        fed = time.perf_counter()
        assert len(engine.step()) == sessions
        steps.append(time.perf_counter() - fed)
        feeds.append(fed - began)
    steps, feeds = sorted(steps[5:]), sorted(feeds[5:])
    middle, high = len(steps) // 2, int(len(steps) * 0.95)
    budget = frames / codec.spec.frame_rate
    times = f"p50 {1e3 * steps[middle]:.2f} ms, p95 {1e3 * steps[high]:.2f} ms, feeding {1e3 * feeds[middle]:.2f} ms"
    return f"{sessions} sessions, {frames} frames a step, {threads} threads: {times}, of {1e3 * budget:.2f} ms"


if __name__ == "__main__":
    torch.set_num_threads(1)
    for count in (1, 2, 4):
        print(measure(int((sys.argv[1:2] or ["24"])[0]), count, int((sys.argv[2:3] or ["1"])[0])))
