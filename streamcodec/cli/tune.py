"""``streamcodec tune``: the fewest frames per step that keep up on this machine, and the delay that comes of them."""

import json
import math
from argparse import Namespace
from functools import partial

import torch

from ..bench.pairs import open_codec
from ..bench.tune import Measured, Search, delay, measured, search
from ..codecs import Codec
from ..errors import InputError
from .telling import tell

__all__ = ["run"]

SHARES = 8  # of the time for all sizes: one has at most this part of it
NONE_KEEPS_UP = 1  # the exit code


def run(args: Namespace) -> int:
    """Run the command: 0, or 1 where no step keeps up."""
    for name, value in (("--seconds", args.seconds), ("--most", args.most)):
        if not 0 < value < math.inf:
            raise InputError(f"{name} is {value:g}; it must be a number above 0")
    if not 0 <= args.margin < 1:
        raise InputError(f"--margin is {args.margin:g}; it must be at least 0 and below 1")
    torch.set_num_threads(args.threads)
    codec, random = open_codec(args.codec, args.backend, args.precision)
    if random:
        tell(f"{args.codec}: random weights of the published sizes, which cost what the published ones do")
    codec = codec.to(args.device)
    bandwidth = codec.spec.default_bandwidth if args.bandwidth is None else codec.spec.offered(args.bandwidth)
    most = max(1, int(args.most / 1000 * codec.spec.frame_rate))
    measure = partial(
        measured, codec, direction=args.direction, bandwidth=bandwidth, margin=args.margin,
        seconds=args.seconds / SHARES,
    )  # fmt: skip
    result = search(measure, most, args.seconds)
    (_print_json if args.json else _print)(args, codec, bandwidth, result)
    return NONE_KEEPS_UP if result.found is None else 0


def _facts(args: Namespace, codec: Codec, bandwidth: float) -> dict[str, object]:
    return {
        "codec": codec.spec.name,
        "direction": args.direction,
        "bandwidth_kbps": bandwidth,
        "threads": args.threads,
        "margin": args.margin,
        "backend": " ".join(f"{name}={backend}" for name, backend in codec.served_by().items()),
    }


def _print_json(args: Namespace, codec: Codec, bandwidth: float, result: Search) -> None:
    best = result.found
    found = None
    if best is not None:
        late = delay(codec, args.direction, best)
        found = {"frames": best.frames, "delay_ms": late.total} | {f"{k}_ms": v for k, v in late._asdict().items()}
    tried = [
        {
            "frames": each.frames, "audio_ms": 1000 * each.audio, "steps": len(each.times),
            "median_ms": 1000 * each.median, "p99_ms": 1000 * each.p99, "keeps_up": each.keeps_up,
        }
        for each in result.tried
    ]  # fmt: skip
    facts = _facts(args, codec, bandwidth)
    print(json.dumps(facts | {"tried": tried, "found": found, "complete": result.complete}))


def _print(args: Namespace, codec: Codec, bandwidth: float, result: Search) -> None:
    print(", ".join(f"{name} {value}" for name, value in _facts(args, codec, bandwidth).items()))
    print("\n| frames a step | audio, ms | steps | median, ms | p99, ms | may take, ms | keeps up |")
    print("|--:|--:|--:|--:|--:|--:|---|")
    for each in result.tried:
        print(_row(each))
    print(f"\n{_verdict(args, codec, result)}")


def _row(each: Measured) -> str:
    times = (each.audio, each.median, each.p99, each.limit)
    audio, median, p99, limit = (f"{1000 * value:.2f}" for value in times)
    cells = (each.frames, audio, len(each.times), median, p99, limit, "yes" if each.keeps_up else "no")
    return "| " + " | ".join(map(str, cells)) + " |"


def _verdict(args: Namespace, codec: Codec, result: Search) -> str:
    best = result.found
    if best is None and not result.complete:
        return f"{args.seconds:g} s were not enough to find a step that keeps up; give it more --seconds"
    if best is None:
        return (
            f"no step of up to {args.most:g} ms keeps up. What may help: another --backend, more --threads, one "
            "--direction alone, longer steps (--most)"
        )
    late = delay(codec, args.direction, best)
    parts = (
        f"the codec {late.codec:.1f}, waiting for a step's frames {late.waiting:.1f}, computing {late.computing:.1f}"
    )
    fewer = "" if result.complete else ". Time ran out: fewer may do; give it more --seconds"
    return f"frames a step: {best.frames}. Total delay: {late.total:.1f} ms ({parts}){fewer}"
