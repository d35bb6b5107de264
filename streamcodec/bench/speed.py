"""The cost of streaming, as a ratio to the offline run of the same audio by `transformers` or the snac package.

All sides run in turn in one process and the medians are compared, so that a machine that drifts drifts for all. They
are checked against each other first: figures of two systems that do not do the same thing are not reported.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from ..codecs import Codec
from ..codecs.xcodec import XcodecCodec
from ..codes import Codes
from ..errors import InputError
from .pairs import Upstream, add_backend, check_same, open_pair
from .presets import PRESETS

__all__ = ["HELP", "add_arguments", "run"]

HELP = "cost of streaming against transformers, or the snac package, offline"
DIRECTIONS = ("encode", "decode")
STEP_SECONDS = 0.08  # of the longer of the steps measured by default

Side = dict[str, Callable[[], object]]  # by direction


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.add_argument(
        "--codec",
        metavar="DIR|NAME",
        default="encodec_24khz",
        help="a checkpoint directory that transformers reads too (EnCodec, DAC, Mimi, X-Codec), one of SNAC, or a "
        f"published codec's sizes with random weights: {', '.join(PRESETS)} (default: encodec_24khz)",
    )
    add_backend(parser)
    parser.add_argument("--bandwidth", type=float, metavar="KBPS", help="default: the codec's own; 6 at encodec_24khz")
    parser.add_argument("--only", choices=DIRECTIONS, help="measure one direction (X-Codec: always decode)")
    parser.add_argument("--steps", type=_counts, metavar="N,N", help="frames per step (default: 1, and 80 ms' worth)")
    parser.add_argument("--seconds", type=float, default=10.0, help="audio to run (default: 10)")
    parser.add_argument("--repeats", type=int, default=7, help="runs of each side (default: 7)")
    parser.add_argument("--threads", type=int, default=1, help="torch threads (default: 1)")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")


def _counts(text: str) -> list[int]:
    try:
        counts = [int(part) for part in text.split(",")]
    except ValueError:
        counts = []
    if not counts or min(counts) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of positive whole numbers such as 1,6")
    return counts


def run(args: argparse.Namespace) -> int:
    """Measure, print, and return the exit code. Raises StreamcodecError where there is nothing to compare with."""
    if args.repeats < 1 or args.threads < 1 or not 0 < args.seconds < float("inf"):
        raise InputError("--repeats, --threads and --seconds must be positive")
    torch.set_num_threads(args.threads)
    codec, upstream, bandwidth = open_pair(args.codec, args.bandwidth, args.backend)
    audio = _audio(codec, args.seconds)
    check_same(codec, upstream, audio[..., : 2 * codec.spec.sample_rate], bandwidth)
    steps = args.steps or sorted({1, max(1, round(STEP_SECONDS * codec.spec.frame_rate))})
    times = _measure(_sides(codec, upstream, audio, bandwidth, steps), _directions(codec, args.only), args.repeats)
    _report(args, codec, bandwidth, times)
    return 0


def _directions(codec: Codec, only: str | None) -> tuple[str, ...]:
    if isinstance(codec, XcodecCodec):
        if only == "encode":
            raise InputError(
                "--only encode: a streaming encoder with a speech model hears it through a window and does another "
                "work than transformers; `streamcodec bench drift` has its cost and what it changes"
            )
        return ("decode",)
    return DIRECTIONS if only is None else (only,)


def _audio(codec: Codec, seconds: float) -> Tensor:
    """Noise that swells and fades, a whole number of frames: what is in it does not change what it costs."""
    hop = codec.spec.hop_length
    count = max(hop, int(seconds * codec.spec.sample_rate) // hop * hop)
    generator = torch.Generator().manual_seed(1)
    swell = 0.05 + 0.05 * torch.sin(torch.arange(count) * (6.283 / codec.spec.sample_rate))
    return torch.randn(1, codec.spec.channels, count, generator=generator) * swell


@torch.inference_mode()
def _sides(codec: Codec, upstream: Upstream, audio: Tensor, bandwidth: float, steps: list[int]) -> dict[str, Side]:
    """Every side decodes the codes that the other implementation made."""
    theirs = upstream.encode(audio)
    ours = codec.encode(audio, bandwidth)
    codes = Codes(upstream.codes(theirs), ours.scale, ours.length)
    inference = torch.inference_mode()
    sides: dict[str, Side] = {
        f"{upstream.name}, offline": {
            "encode": inference(lambda: upstream.encode(audio)),
            "decode": inference(lambda: upstream.decode(theirs)),
        },
        "streamcodec, offline": {
            "encode": lambda: codec.encode(audio, bandwidth),
            "decode": lambda: codec.decode(codes),
        },
    }
    for count in steps:
        sides[f"streamcodec, {count}-frame steps"] = _streamed(codec, audio, codes, bandwidth, count)
    return sides


def _streamed(codec: Codec, audio: Tensor, codes: Codes, bandwidth: float, frames: int) -> Side:
    blocks, parts = audio.split(frames * codec.spec.hop_length, -1), _parts(codec, codes, frames)

    def encode() -> None:
        stream = codec.open_encoder(bandwidth, start="primed")
        for block in blocks:
            stream.push(block)
        stream.flush()

    def decode() -> None:
        stream = codec.open_decoder(start="primed")
        for part in parts:
            stream.push(part)
        stream.flush()

    return {"encode": encode, "decode": decode}


def _parts(codec: Codec, codes: Codes, frames: int) -> list[Codes]:
    """`codes` cut into pieces of `frames` frames; those at the end of the audio have the length that is left."""
    data = codes.data.split(frames, 2)
    scales = [None] * len(data) if codes.scale is None else codes.scale.split(frames, 1)
    parts = [Codes(piece, scale) for piece, scale in zip(data, scales, strict=True)]
    if codes.length is None:
        return parts
    stop = before = 0
    for i, part in enumerate(parts):
        stop += part.data.shape[2]
        last, full = i == len(parts) - 1, codec.spec.samples(stop)
        after = codes.length if last else min(full, codes.length)
        if last or after < full:  # DAC's last frame may hold nothing of the audio
            parts[i] = Codes(part.data, part.scale, after - before)
        before = after
    return parts


def _measure(sides: dict[str, Side], directions: tuple[str, ...], repeats: int) -> dict[str, dict[str, float]]:
    """Median seconds by side and direction; sides take turns, and the first turn, which warms up, is not counted."""
    runs: dict[str, dict[str, list[float]]] = {name: {way: [] for way in directions} for name in sides}
    for turn in range(repeats + 1):
        for name, side in sides.items():
            for way in directions:
                start = time.perf_counter()
                side[way]()
                if turn:
                    runs[name][way].append(time.perf_counter() - start)
    return {name: {way: statistics.median(times) for way, times in ways.items()} for name, ways in runs.items()}


def _rows(times: dict[str, dict[str, float]], frames: float, seconds: float) -> dict[str, dict[str, float]]:
    base = next(iter(times.values()))
    rows: dict[str, dict[str, float]] = {}
    for name, side in times.items():
        row = {f"{way}_ms_per_frame": 1000 * spent / frames for way, spent in side.items()}
        row |= {f"{way}_ratio": spent / base[way] for way, spent in side.items()}
        total = sum(side.values())
        rows[name] = row | {"ratio": total / sum(base.values()), "real_time_factor": total / seconds}
    return rows


def _report(args: argparse.Namespace, codec: Codec, bandwidth: float, times: dict[str, dict[str, float]]) -> None:
    rows = _rows(times, args.seconds * codec.spec.frame_rate, args.seconds)
    facts = {
        "codec": codec.spec.name,
        "bandwidth_kbps": bandwidth,
        "seconds": args.seconds,
        "threads": args.threads,
        "repeats": args.repeats,
        "bytes_per_stream": codec.spec.bytes_per_stream,
        "torch": torch.__version__,
        "backend": " ".join(f"{name}={backend}" for name, backend in codec.served_by().items()),
    }
    if args.json:
        print(json.dumps(facts | {"sides": rows}))
        return
    print(", ".join(f"{name} {value}" for name, value in facts.items()))
    directions = list(next(iter(times.values())))
    heads = {f"{way}_ms_per_frame": (f"{way}, ms a frame", "{:.3f}") for way in directions}
    heads |= {f"{way}_ratio": (f"{way} / offline", "{:.2f}") for way in directions}
    if len(directions) > 1:
        heads["ratio"] = ("both / offline", "{:.2f}")
    print("\n| medians | " + " | ".join(title for title, _ in heads.values()) + " |")
    print("|---" * (len(heads) + 1) + "|")
    for name, row in rows.items():
        print(f"| {name} | " + " | ".join(form.format(row[key]) for key, (_, form) in heads.items()) + " |")
