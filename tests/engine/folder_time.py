"""What it costs to encode a folder: one recording after the other, or by an engine. Prints processor time a frame.

python tests/engine/folder_time.py FOLDER [RECORDINGS]        the first 12 by default; the bundled codec, one thread
"""

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

import streamcodec
from streamcodec import Codec, Engine
from streamcodec.audio import AudioReader
from streamcodec.errors import QueueFullError

SESSIONS = 8
ROUNDS = 3


def read(path: Path, codec: Codec) -> Tensor:
    with AudioReader(path, codec.spec.sample_rate, 1, codec.spec.sample_rate) as reader:
        return torch.cat([torch.from_numpy(block) for block in reader], 1)[None]


def one_by_one(codec: Codec, recordings: list[Tensor]) -> None:
    for wav in recordings:
        codec.encode(wav)


def by_engine(engine: Engine, recordings: list[Tensor]) -> None:
    """As many sessions as there are slots, each fed a second at a time whenever there is room."""
    waiting = list(recordings)
    live: dict[streamcodec.Session, list[Tensor]] = {}
    while waiting or live:
        while waiting and len(live) < SESSIONS:
            live[engine.open("encode")] = list(waiting.pop().split(engine.codec.spec.sample_rate, -1))
        for session, blocks in live.items():
            while not session.ended:
                try:
                    if blocks:
                        engine.feed(session, blocks[0])
                        blocks.pop(0)
                    else:
                        engine.flush(session)
                except QueueFullError:
                    break
        for delivery in engine.step():
            if delivery.done:
                del live[delivery.session]


def main() -> None:
    torch.set_num_threads(1)
    codec, count = streamcodec.load(), int(sys.argv[2]) if len(sys.argv) > 2 else 12
    recordings = [read(path, codec) for path in sorted(Path(sys.argv[1]).iterdir())[:count]]
    frames = sum(wav.shape[-1] for wav in recordings) / codec.spec.hop_length
    usual, long = Engine(codec, slots=SESSIONS), Engine(codec, slots=SESSIONS, step_frames=(1, 15))
    ways: dict[str, Callable[[], None]] = {
        "codec.encode, one after the other": lambda: one_by_one(codec, recordings),
        f"Engine, {SESSIONS} sessions": lambda: by_engine(usual, recordings),
        f"Engine, {SESSIONS} sessions, step_frames=(1, 15)": lambda: by_engine(long, recordings),
    }
    usual.prepare()
    long.prepare()
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):  # in turn, so that a machine that drifts treats all alike
        for name, way in ways.items():
            since = time.process_time()
            way()
            times[name].append(time.process_time() - since)
    for name, spent in times.items():
        print(f"{name:48} {1000 * statistics.median(spent) / frames:.3f} ms a frame")


if __name__ == "__main__":
    main()
