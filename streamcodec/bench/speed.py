"""``streamcodec bench speed``: our steps beside another implementation offline.

All sides run in turn in one process and the medians are compared, so that a machine that drifts drifts for all. They
are checked against each other first: figures of two systems that do not do the same thing are not reported. How near a
side is to what the machine can do is measured in the same process, with torch's own product and reading.
"""

import argparse
import json
import math
import statistics
import time
from collections.abc import Iterator
from functools import partial
from itertools import chain, product
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..codecs import Codec
from ..codecs.xcodec import XcodecCodec
from ..codes import Codes
from ..errors import BackendError, InputError
from ..ops import backends, check_backend, check_precision
from ..precisions import PRECISIONS
from .machine import bandwidth as memory_bandwidth
from .machine import gemm_peak, processor
from .options import DIRECTIONS
from .pairs import check_same, open_pair, tell
from .profile import Spent, profile
from .sides import Side, check_steps, loss_of_precision, moshi, offline, same_codes, served, streamed
from .steps import noise, p99
from .upstream import Upstream
from .work import work_of

__all__ = ["run", "table"]

CHECKED_SECONDS = 2  # of audio, before anything is measured
STEP_SECONDS = 0.08  # of the longer of the steps measured by default


def run(args: argparse.Namespace) -> int:
    """Measure, print, and return the exit code. Raises StreamcodecError where there is nothing to compare with."""
    if min(args.repeats, args.threads, args.batch) < 1 or not 0 < args.seconds < float("inf"):
        raise InputError("--repeats, --threads, --batch and --seconds must be positive")
    for name in {*args.backend} - {*backends()}:
        check_backend(name)  # it is none, and says so
    for name in {*args.precision} - {*PRECISIONS}:
        check_precision("native", name)
    torch.set_num_threads(args.threads)
    if args.device != "cpu":  # torch's default on a GPU is TF32; ours are in float32, and so is what they are held to
        torch.backends.cudnn.allow_tf32 = False
    codec, upstream, bandwidth = open_pair(args.codec, args.bandwidth, device=args.device)
    directions = _directions(codec, args.only)
    hop = codec.spec.hop_length
    audio = noise(codec, max(hop, int(args.seconds * codec.spec.sample_rate) // hop * hop), args.batch)
    args.seconds = audio.shape[-1] / codec.spec.sample_rate  # whole frames, and at least one
    short = noise(codec, math.ceil(CHECKED_SECONDS * codec.spec.frame_rate) * hop)
    if upstream is None:
        tell(f"nothing to compare with reads this {type(codec).__name__}: ratios are to its own offline call")
    else:
        check_same(codec, upstream, short, bandwidth)
    steps = args.steps or sorted({1, max(1, round(STEP_SECONDS * codec.spec.frame_rate))})
    variants = _variants(codec, args.backend, args.precision)
    for variant in variants:
        if variant.precision == "float32":
            for frames in steps:
                check_steps(variant.codec, short, bandwidth, frames, directions)
    sides = _sides(codec, upstream, variants, audio, bandwidth, steps)
    times = _measure(sides, directions, args.repeats)
    limits = _limits(codec, bandwidth, args.precision)
    rows = [_row(side, way, of, args, codec, limits) for side in sides for way, of in times[side.name].items()]
    losses = [_losses(codec, variant, short, bandwidth, steps, directions) for variant in variants]
    facts = _facts(args, codec, bandwidth, variants) | limits.facts() | dict(chain.from_iterable(losses))
    profiles = _profiles(sides, variants, directions, steps, args.batch) if args.profile else {}
    _report(args, facts, _with_ratios(rows), profiles)
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


class _Variant(NamedTuple):
    """The codec on a backend, in a precision. name: what is added to a side's name."""

    codec: Codec
    name: str
    precision: str


def _losses(
    codec: Codec, variant: _Variant, audio: Tensor, bandwidth: float, steps: list[int], directions: tuple[str, ...]
) -> Iterator[tuple[str, float]]:
    """What a variant changes, by its name and the frames of a step.

    db: of a lower precision, by how much the decoder's audio is above the difference; codes: of that, and of the Triton
    kernels in any, the part that stays the same where the encoder is in it too.
    """
    other, _, precision = variant
    low, name = precision != "float32", f"{other.backend}_{precision}"
    for frames in steps:
        if low and "decode" in directions:
            yield f"{name}_db_{frames}_frames", round(loss_of_precision(codec, other, codec.encode(audio), frames), 1)
        if (low or other.backend == "triton") and "encode" in directions:
            same = same_codes(codec, other, precision, audio, bandwidth, frames)
            yield f"{name}_codes_{frames}_frames", round(same, 5)


def _variants(codec: Codec, backends: list[str], precisions: list[str]) -> list[_Variant]:
    """All that run here. Of several, what does not is told and left out; raises BackendError where none is left."""
    wanted, made = [(precision, backend) for precision in precisions for backend in backends], list[_Variant]()
    for precision, backend in wanted:
        low = precision != "float32"
        if low and backend not in PRECISIONS[precision] and len(wanted) > 1:
            continue
        try:
            other = codec.on(backend, precision)
        except BackendError as error:
            if len(wanted) == 1 or ((precision, backend) == wanted[-1] and not made):
                raise
            tell(f"left out: {error}")
            continue
        other.notice_writes()  # its first time makes executors of these weights pack them again
        name = f" {backend}{f' {precision}' if low else ''}" if len(wanted) > 1 or low else ""
        made.append(_Variant(other, name, precision))
    return made


def _sides(
    codec: Codec, upstream: Upstream | None, variants: list[_Variant], audio: Tensor, bandwidth: float, steps: list[int]
) -> list[Side]:
    """Every side decodes the codes that the other implementation made, where there is one."""
    codes, work, made = codec.encode(audio, bandwidth), work_of(codec, bandwidth), list[Side]()
    if upstream is not None:
        with torch.inference_mode():
            theirs = upstream.encode(audio)
        codes = Codes(upstream.codes(theirs), codes.scale, codes.length)
        calls = (partial(upstream.encode, audio), partial(upstream.decode, theirs))
        made.append(offline(f"{upstream.name}, offline", *calls, codec)._replace(work=work))
    calls = (partial(codec.encode, audio, bandwidth), partial(codec.decode, codes))
    made.append(offline("streamcodec, offline", *calls, codec)._replace(work=work))
    if upstream is not None and (other := moshi(codec, upstream, audio, bandwidth)):
        made.append(other)
    for variant in variants:
        for frames in steps:
            name, given = f"streamcodec{variant.name}, {frames}-frame steps", (audio, codes, bandwidth, frames)
            made.append(streamed(name, variant.codec, *given, variant.precision))
            if _in_engines(codec):
                made.append(served(f"{name} of an engine", variant.codec, *given, variant.precision))
    return made


def _in_engines(codec: Codec) -> bool:
    """Whether an engine's steps are worth a side of their own: where they are CUDA graphs."""
    return codec.device.type == "cuda" and codec.segments is None


def _profiles(
    sides: list[Side], variants: list[_Variant], directions: tuple[str, ...], steps: list[int], batch: int
) -> dict[str, list[Spent]]:
    """By side and direction, of what runs natively."""
    found, named = {}, {side.name: side for side in sides}
    for variant, frames in product(variants, steps):
        side = named[f"streamcodec{variant.name}, {frames}-frame steps"]
        networks = dict(zip(DIRECTIONS, variant.codec.framing.networks, strict=False))
        for way in directions:
            if way in side.run and way in networks and (spent := profile(networks[way], batch, frames)):
                found[f"{side.name}, {way}"] = spent
    return found


class _Times(NamedTuple):
    """Seconds: of each run, and of each step of all of them."""

    runs: list[float]
    steps: list[float]


def _measure(sides: list[Side], directions: tuple[str, ...], repeats: int) -> dict[str, dict[str, _Times]]:
    """By side and direction; sides take turns, and the first turn, which warms up, is not counted."""
    found = {side.name: {way: _Times([], []) for way in directions if way in side.run} for side in sides}
    for turn in range(repeats + 1):
        for side in sides:
            for way, times in found[side.name].items():
                start = time.perf_counter()
                steps = side.run[way]()
                if turn:
                    times.runs.append(time.perf_counter() - start)
                    times.steps.extend(steps)
    return found


class _Limits(NamedTuple):
    """Of the machine. peak: operations a second, by precision; bandwidth: bytes a second, by direction."""

    peak: dict[str, float]
    bandwidth: dict[str, float]

    def facts(self) -> dict[str, Any]:
        peaks = {f"{name}_gemm_gflops": round(peak / 1e9, 1) for name, peak in self.peak.items()}
        return peaks | {f"{way}_bandwidth_gb": round(rate / 1e9, 1) for way, rate in self.bandwidth.items()}


def _limits(codec: Codec, bandwidth: float, precisions: list[str]) -> _Limits:
    return _Limits(
        {name: gemm_peak(name, codec.device) for name in precisions},
        {way: memory_bandwidth(work.weights, codec.device) for way, work in work_of(codec, bandwidth).items()},
    )


def _row(
    side: Side, way: str, times: _Times, args: argparse.Namespace, codec: Codec, limits: _Limits
) -> dict[str, Any]:
    """The figures of a side in a direction; of the steps where it has any."""
    seconds, frames = statistics.median(times.runs), args.seconds * codec.spec.frame_rate * args.batch
    row: dict[str, Any] = {
        "side": side.name, "direction": way, "seconds": seconds, "ms_per_frame": 1000 * seconds / frames,
        "times_real_time": args.batch * args.seconds / seconds,
    }  # fmt: skip
    step, done = seconds, frames
    if times.steps:
        step, done = statistics.median(times.steps), side.frames * args.batch
        row |= {"step_median_ms": 1000 * step, "step_p99_ms": 1000 * p99(times.steps)}
    if work := side.work.get(way):
        rate, peak = work.operations * done / step, limits.peak.get(side.precision)
        row |= {"gflops": rate / 1e9} | ({"of_gemm": rate / peak} if peak else {})
        if times.steps:
            read = work.step_bytes(args.batch) / step
            row |= {"gb_per_s": read / 1e9, "of_bandwidth": read / limits.bandwidth[way]}
    return row


def _with_ratios(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """`ratio`: to the first side in that direction."""
    first: dict[str, float] = {}
    for row in rows:
        first.setdefault(row["direction"], row["seconds"])
    return [row | {"ratio": row["seconds"] / first[row["direction"]]} for row in rows]


def _facts(args: argparse.Namespace, codec: Codec, bandwidth: float, variants: list[_Variant]) -> dict[str, Any]:
    spec = codec.spec
    return {
        "codec": spec.name,
        "bandwidth_kbps": bandwidth,
        "seconds": args.seconds,
        "batch": args.batch,
        "threads": args.threads,
        "repeats": args.repeats,
        "encoder_bytes_per_stream": spec.encoder_bytes,
        "decoder_bytes_per_stream": spec.decoder_bytes,
        "processor": processor() if codec.device.type == "cpu" else torch.cuda.get_device_name(codec.device),
        "torch": torch.__version__,
        "backend": "; ".join(
            " ".join(f"{name}={backend}" for name, backend in variant.codec.served_by().items())
            for variant in variants
        ),
    }  # fmt: skip


def _totals(rows: list[dict[str, Any]]) -> dict[str, float]:
    """By side: its time for both directions over that of the first side. One that decodes in a lower precision encodes
    as the one in float32 does.
    """
    spent: dict[str, dict[str, float]] = {}
    for row in rows:
        spent.setdefault(row["side"], {})[row["direction"]] = row["seconds"]
    for side, seconds in spent.items():
        float32 = next((side.replace(f" {name},", ",") for name in PRECISIONS if f" {name}," in side), side)
        seconds |= {way: of for way, of in spent.get(float32, {}).items() if way not in seconds}
    both = {side: sum(seconds.values()) for side, seconds in spent.items() if len(seconds) == len(DIRECTIONS)}
    base = next(iter(both.values()), 0.0)
    return {side: seconds / base for side, seconds in both.items()}


HEADS = {
    "ms_per_frame": ("ms a frame", "{:.3f}"),
    "ratio": ("/ offline", "{:.2f}"),
    "step_median_ms": ("ms a step", "{:.2f}"),
    "step_p99_ms": ("p99", "{:.2f}"),
    "gflops": ("GFLOP/s", "{:.0f}"),
    "of_gemm": ("of the peak", "{:.0%}"),
    "gb_per_s": ("GB/s", "{:.1f}"),
    "of_bandwidth": ("of the bandwidth", "{:.0%}"),
}


def _report(
    args: argparse.Namespace, facts: dict[str, Any], rows: list[dict[str, Any]], profiles: dict[str, list[Spent]]
) -> None:
    both = _totals(rows)
    if args.json:
        spent = {name: [each._asdict() for each in of] for name, of in profiles.items()}
        print(json.dumps(facts | {"rows": rows, "both": both} | ({"profile": spent} if args.profile else {})))
        return
    print(", ".join(f"{name} {value}" for name, value in facts.items()))
    print("\n" + "\n".join(table(rows)))
    if len(both) > 1:
        told = "; ".join(f"{side} {ratio:.2f}" for side, ratio in list(both.items())[1:])
        print(f"\nboth directions over {next(iter(both))}: {told}")
    for name, operations in profiles.items():
        print(f"\n{name}:\n      ms  GFLOP/s")
        for each in operations:
            print(f"{each.ms:8.3f}  {each.gflops:7.1f}  {each.operation}")


def table(rows: list[dict[str, Any]]) -> list[str]:
    """The lines of a table in Markdown, one for each row of a result; a column that nothing has is left out."""
    heads = {key: head for key, head in HEADS.items() if any(key in row for row in rows)}
    lines = [
        "| medians | | " + " | ".join(title for title, _ in heads.values()) + " |",
        "|---|---|" + "--:|" * len(heads),
    ]
    for row in rows:
        cells = [form.format(row[key]) if key in row else "" for key, (_, form) in heads.items()]
        lines.append("| " + " | ".join([row["side"], row["direction"], *cells]) + " |")
    return lines
