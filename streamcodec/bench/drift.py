"""``streamcodec bench drift``: windows of different sizes beside the run over the whole utterance.

The speech model attends to the whole recording, so a stream gives it a window instead: some frames before and after
the frames it is asked about. The table has, for each window, its delay, the share of codes that equal the offline
run's, and what the stream costs.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..audio import AudioReader
from ..codecs import SemanticWindow
from ..codecs.semantic import SemanticBase
from ..codes import Codes
from ..errors import InputError
from .pairs import open_codec, tell

__all__ = ["run"]

RECORDING = Path(__file__).parents[1] / "bundled" / "jfk.flac"  # 11 s of speech, public domain


def run(args: argparse.Namespace) -> int:
    """Measure, print, and return the exit code. Raises StreamcodecError for a codec without a speech model."""
    if args.threads < 1 or not 0 < args.seconds < float("inf"):
        raise InputError("--threads and --seconds must be positive")
    torch.set_num_threads(args.threads)
    codec, random = open_codec(args.codec, args.backend)
    if not isinstance(codec, SemanticBase):
        raise InputError(
            f"--codec {args.codec}: a {type(codec).__name__} streams with the offline run's own codes; drift is for "
            "codecs with a speech model (X-Codec)"
        )
    if random:
        tell("random weights: the agreement says nothing about a trained codec; the cost does")
    bandwidth = args.bandwidth or codec.spec.default_bandwidth
    audio = _read(Path(args.input or RECORDING), codec, args.seconds)
    started = time.perf_counter()
    whole = codec.encode(audio, bandwidth)
    seconds = audio.shape[-1] / codec.spec.sample_rate
    facts = {
        "codec": codec.spec.name,
        "bandwidth_kbps": bandwidth,
        "seconds": round(seconds, 3),
        "threads": args.threads,
        "torch": torch.__version__,
        "offline_real_time_factor": round((time.perf_counter() - started) / seconds, 4),
    }
    _report(args, facts, [_measured(codec, audio, bandwidth, window, whole) for window in args.windows])
    return 0


def _read(path: Path, codec: SemanticBase, seconds: float) -> Tensor:
    """[1, 1, N], a whole number of frames: others shift upstream's acoustic branch, which no window undoes."""
    spec, blocks, count = codec.spec, [], 0
    limit = max(1, int(seconds * spec.frame_rate)) * spec.hop_length
    with AudioReader(path, spec.sample_rate, spec.channels, spec.sample_rate) as reader:
        for block in reader:
            blocks.append(block)
            count += block.shape[1]
            if count >= limit:
                break
    count = min(count, limit) // spec.hop_length * spec.hop_length
    if not count:
        raise InputError(f"{path}: shorter than a frame of {spec.hop_length} samples at {spec.sample_rate} Hz")
    return torch.from_numpy(np.concatenate(blocks, 1)[None, :, :count])


def _measured(
    codec: SemanticBase, audio: Tensor, bandwidth: float, window: SemanticWindow, whole: Codes
) -> dict[str, Any]:
    """The row of a window: the stream is fed a hop at a time."""
    stream = codec.open_encoder(bandwidth, window=window)
    blocks = audio.split(window.hop * codec.spec.hop_length, -1)
    started = time.perf_counter()
    parts = [stream.push(block) for block in blocks]
    codes = Codes.cat([*parts, stream.flush()]).data
    spent = time.perf_counter() - started
    equal = (codes == whole.data).double()
    return {
        "left": window.left,
        "right": window.right,
        "hop": window.hop,
        "delay_ms": 1000 * codec.windowed_delay(window) / codec.spec.sample_rate,
        "equal": float(equal.mean()),
        "equal_by_codebook": equal.mean((0, 2)).tolist(),
        "real_time_factor": spent * codec.spec.sample_rate / audio.shape[-1],
    }


def _report(args: argparse.Namespace, facts: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    if args.json:
        print(json.dumps(facts | {"windows": rows}))
        return
    print(", ".join(f"{name} {value}" for name, value in facts.items()))
    stages = range(1, len(rows[0]["equal_by_codebook"]) + 1)
    heads = ["left", "right", "hop", "delay, ms", "codes equal", *(f"codebook {k}" for k in stages), "real-time factor"]
    print("\n| " + " | ".join(heads) + " |")
    print("|---" * len(heads) + "|")
    for row in rows:
        cells = [str(row[name]) for name in ("left", "right", "hop")] + [f"{row['delay_ms']:.1f}"]
        cells += [f"{share:.1%}" for share in (row["equal"], *row["equal_by_codebook"])]
        print("| " + " | ".join([*cells, f"{row['real_time_factor']:.3f}"]) + " |")
