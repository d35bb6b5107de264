"""``streamcodec bench``: the cost of streaming, as a ratio to the offline run of the same audio by `transformers`.

Both sides run in turn in one process and the medians are compared, so that a machine that drifts drifts for both. The
sides are checked against each other first: figures of two systems that do not do the same thing are not reported.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .checkpoint import load, save
from .codecs import Codec
from .codecs.encodec import EncodecCodec
from .codes import Codes
from .errors import InputError, StreamcodecError

__all__ = ["add_arguments", "run"]


class Times(NamedTuple):
    """Seconds for the whole signal."""

    encode: float
    decode: float


Side = Callable[[], Times]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.add_argument(
        "--codec",
        metavar="DIR",
        help="an EnCodec checkpoint that transformers reads too; default: EnCodec 24 kHz's sizes with random weights",
    )
    parser.add_argument("--bandwidth", type=float, metavar="KBPS", help="default: 6, or the codec's own")
    parser.add_argument("--steps", type=_counts, default=[1, 6], metavar="N,N", help="frames per step (default: 1,6)")
    parser.add_argument("--seconds", type=float, default=10.0, help="audio to run (default: 10)")
    parser.add_argument("--repeats", type=int, default=7, help="runs of each side (default: 7)")
    parser.add_argument("--threads", type=int, default=1, help="torch threads (default: 1)")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    parser.set_defaults(module="streamcodec.bench")


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
    if args.repeats < 1 or args.threads < 1 or args.seconds <= 0:
        raise InputError("--repeats, --threads and --seconds must be positive")
    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as scratch:
        codec, model = _both(args.codec, Path(scratch))
    bandwidth = args.bandwidth or (codec.spec.default_bandwidth if args.codec else 6.0)
    audio = _audio(codec, args.seconds)
    _check_same(codec, model, audio, bandwidth)
    sides: dict[str, Side] = {"transformers, offline": lambda: _offline(model, audio, bandwidth)}
    sides["streamcodec, offline"] = lambda: _ours_offline(codec, audio, bandwidth)
    for count in args.steps:
        name = f"streamcodec, {count}-frame steps"
        sides[name] = lambda count=count: _streamed(codec, audio, bandwidth, count)  # type: ignore[misc]
    _report(args, codec, bandwidth, _measure(sides, args.repeats))
    return 0


def _both(source: str | None, scratch: Path) -> tuple[Codec, Any]:
    """The same weights here and in transformers."""
    try:
        from transformers import EncodecModel
    except ImportError as error:
        raise InputError("bench compares with transformers; install it: pip install transformers") from error
    if source is None:
        torch.manual_seed(0)
        directory = save(EncodecCodec({}), scratch / "encodec_24khz_random")
    else:
        directory = Path(source)
    if not (directory / "config.json").is_file():
        raise InputError(
            f"--codec {source}: bench needs a directory in Hugging Face format, which transformers reads too"
        )
    codec = load(directory)
    if not isinstance(codec, EncodecCodec):
        raise InputError(f"--codec {source}: bench compares EnCodec checkpoints; this is a {type(codec).__name__}")
    return codec, EncodecModel.from_pretrained(directory).eval()


def _audio(codec: Codec, seconds: float) -> Tensor:
    """Noise that swells and fades: what is in the audio does not change what it costs."""
    count = int(seconds * codec.spec.sample_rate)
    generator = torch.Generator().manual_seed(1)
    swell = 0.05 + 0.05 * torch.sin(torch.arange(count) * (6.283 / codec.spec.sample_rate))
    return torch.randn(1, codec.spec.channels, count, generator=generator) * swell


@torch.inference_mode()
def _check_same(codec: Codec, model: Any, audio: Tensor, bandwidth: float) -> None:
    """Raises StreamcodecError unless both sides give the same codes (but for near ties) and the same audio."""
    short = audio[..., : 2 * codec.spec.sample_rate]
    theirs = model.encode(short, bandwidth=bandwidth)
    codes = torch.cat(list(theirs.audio_codes), -1)
    codes = codes[..., : codes.shape[-1] - (theirs.last_frame_pad_length or 0)]
    ours = codec.encode(short, bandwidth)
    if ours.data.shape != codes.shape or (agreement := float((ours.data == codes).double().mean())) < 0.99:
        raise StreamcodecError("bench: the codes differ from transformers'; not timing two different things")
    wav = model.decode(theirs.audio_codes, theirs.audio_scales, last_frame_pad_length=theirs.last_frame_pad_length)[0]
    error = float((codec.decode(Codes(codes, ours.scale, ours.length)) - wav[..., : short.shape[-1]]).abs().max())
    if error > 1e-4 * max(1.0, float(wav.abs().max())):
        raise StreamcodecError(f"bench: decoded audio differs from transformers' by {error:.1e}; not timing it")
    print(f"checked against transformers: {agreement:.2%} of codes equal, audio within {error:.1e}", file=sys.stderr)


@torch.inference_mode()
def _offline(model: Any, audio: Tensor, bandwidth: float) -> Times:
    start = time.perf_counter()
    codes = model.encode(audio, bandwidth=bandwidth)
    middle = time.perf_counter()
    model.decode(codes.audio_codes, codes.audio_scales, last_frame_pad_length=codes.last_frame_pad_length)
    return Times(middle - start, time.perf_counter() - middle)


def _ours_offline(codec: Codec, audio: Tensor, bandwidth: float) -> Times:
    start = time.perf_counter()
    codes = codec.encode(audio, bandwidth)
    middle = time.perf_counter()
    codec.decode(codes)
    return Times(middle - start, time.perf_counter() - middle)


def _streamed(codec: Codec, audio: Tensor, bandwidth: float, frames: int) -> Times:
    """All of the audio encoded step by step, then all of the codes decoded step by step."""
    encoder = codec.open_encoder(bandwidth, start="primed")
    decoder = codec.open_decoder(start="primed")
    blocks = audio.split(frames * codec.spec.hop_length, -1)
    start = time.perf_counter()
    codes = [encoder.push(block) for block in blocks]
    codes.append(encoder.flush())
    middle = time.perf_counter()
    for part in codes:
        decoder.push(part)
    decoder.flush()
    return Times(middle - start, time.perf_counter() - middle)


def _measure(sides: dict[str, Side], repeats: int) -> dict[str, Times]:
    """Median times; the sides take turns, and the first turn, which warms up, is not counted."""
    runs: dict[str, list[Times]] = {name: [] for name in sides}
    for turn in range(repeats + 1):
        for name, side in sides.items():
            times = side()
            if turn:
                runs[name].append(times)
    return {
        name: Times(*(statistics.median(column) for column in zip(*times, strict=True))) for name, times in runs.items()
    }


def _report(args: argparse.Namespace, codec: Codec, bandwidth: float, times: dict[str, Times]) -> None:
    base = next(iter(times.values()))
    frames = args.seconds * codec.spec.frame_rate
    rows = {
        name: {
            "encode_ms_per_frame": 1000 * side.encode / frames,
            "decode_ms_per_frame": 1000 * side.decode / frames,
            "encode_ratio": side.encode / base.encode,
            "decode_ratio": side.decode / base.decode,
            "ratio": sum(side) / sum(base),
            "real_time_factor": sum(side) / args.seconds,
        }
        for name, side in times.items()
    }
    facts = {
        "codec": codec.spec.name,
        "bandwidth_kbps": bandwidth,
        "seconds": args.seconds,
        "threads": args.threads,
        "repeats": args.repeats,
        "bytes_per_stream": codec.spec.bytes_per_stream,
        "torch": torch.__version__,
    }
    if args.json:
        print(json.dumps(facts | {"sides": rows}))
        return
    print(", ".join(f"{name} {value}" for name, value in facts.items()))
    print(
        "\n| medians | encode, ms a frame | decode, ms a frame | encode / offline | decode / offline | both / offline |"
    )
    print("|---|---|---|---|---|---|")
    for name, row in rows.items():
        cells = [f"{row[key]:.3f}" for key in ("encode_ms_per_frame", "decode_ms_per_frame")]
        cells += [f"{row[key]:.2f}" for key in ("encode_ratio", "decode_ratio", "ratio")]
        print(f"| {name} | {' | '.join(cells)} |")
