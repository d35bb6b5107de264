"""The options of ``streamcodec bench`` and its subcommands. Imports nothing that takes time."""

import argparse
from pathlib import Path

from ..errors import InputError
from ..precisions import PRECISIONS
from ..spec import SemanticWindow
from .presets import BUNDLED, PRESETS

__all__ = ["DIRECTIONS", "add_bench"]

DIRECTIONS = ("encode", "decode")
# The past shorter and longer than the default's, the future longer, and a hop that halves the cost; last, everything
# that the bundled recording has.
WINDOWS = ((25, 11, 10), (50, 11, 10), (100, 11, 10), (200, 11, 10), (100, 11, 21), (100, 50, 10), (600, 600, 50))


def add_bench(parser: argparse.ArgumentParser) -> None:
    """Fill in ``streamcodec bench``; a parsed namespace has `module`, whose `run(args)` is the subcommand."""
    commands = parser.add_subparsers(title="subcommands", metavar="SUBCOMMAND", required=True)
    _add_speed(commands)
    _add_live(commands)
    _add_drift(commands)
    _add_entropy(commands)
    _add_serve(commands)


def _subcommand(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, help: str, description: str
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=help, description=description)
    parser.set_defaults(module=f"{__package__}.{name}")
    return parser


def _add_speed(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = _subcommand(
        commands,
        "speed",
        "cost of streaming against another implementation offline, and against the machine's limits",
        "The cost of streaming, as a ratio to the offline run of the same audio by another implementation.",
    )
    parser.add_argument(
        "--codec",
        metavar="DIR|NAME",
        default="encodec_24khz",
        help="a checkpoint directory that transformers reads too (EnCodec, DAC, Mimi, X-Codec), one of SNAC or "
        f"Qwen3-TTS, one of our own, {BUNDLED} (ratios are to our own offline call then), or a published codec's "
        f"sizes with random weights: {', '.join(PRESETS)} (default: encodec_24khz)",
    )
    parser.add_argument(
        "--backend",
        type=_names,
        default=["auto"],
        metavar="NAME,NAME",
        help="what computes our steps: auto, torch, native or triton, or several to compare (default: auto)",
    )
    parser.add_argument(
        "--precision",
        type=_names,
        default=["float32"],
        metavar="NAME,NAME",
        help=f"{', '.join(PRECISIONS)}; tf32 on the backend triton alone, bfloat16 on native and triton, "
        "bfloat16x3 and int8 on native (default: float32)",
    )
    parser.add_argument("--device", default="cpu", help="where to compute, such as cpu or cuda (default: cpu)")
    parser.add_argument("--bandwidth", type=float, metavar="KBPS", help="default: the codec's own; 6 at encodec_24khz")
    parser.add_argument("--only", choices=DIRECTIONS, help="measure one direction (X-Codec: always decode)")
    parser.add_argument(
        "--steps", type=_frame_counts, metavar="N,N", help="frames per step (default: 1, and 80 ms' worth)"
    )
    parser.add_argument("--batch", type=int, default=1, metavar="N", help="signals that run together (default: 1)")
    parser.add_argument("--seconds", type=float, default=10.0, help="audio to run (default: 10)")
    parser.add_argument("--repeats", type=int, default=7, help="runs of each side (default: 7)")
    parser.add_argument("--threads", type=int, default=1, help="torch threads (default: 1)")
    parser.add_argument("--profile", action="store_true", help="say what each operation of a native step takes too")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")


def _names(text: str) -> list[str]:
    return text.split(",")


def _frame_counts(text: str) -> list[int]:
    try:
        counts = [int(part) for part in text.split(",")]
    except ValueError:
        counts = []
    if not counts or min(counts) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of positive whole numbers such as 1,6")
    return counts


def _add_live(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = _subcommand(
        commands,
        "live",
        "conversations as a server runs them: how long a step takes, at the 99th percentile",
        "Conversations as a server runs them: one step after the other, of all of them at once.",
    )
    parser.add_argument(
        "--codec",
        metavar="DIR|NAME",
        default="encodec_24khz",
        help=f"what `load` takes, {BUNDLED}, or a published codec's sizes with random weights: {', '.join(PRESETS)} "
        "(default: encodec_24khz)",
    )
    _add_backend(parser)
    parser.add_argument(
        "--precision",
        default="float32",
        metavar="NAME",
        help=f"of steps: {', '.join(PRECISIONS)} (default: float32)",
    )
    parser.add_argument("--bandwidth", type=float, metavar="KBPS", help="default: the codec's own")
    parser.add_argument("--conversations", type=int, default=10, metavar="N", help="for each process (default: 10)")
    parser.add_argument(
        "--processes",
        type=int,
        default=1,
        metavar="N",
        help="at once, a thread each, which share the directions as a server's engines do (default: 1)",
    )
    parser.add_argument("--frames", type=int, default=1, metavar="N", help="of a step (default: 1)")
    parser.add_argument("--seconds", type=float, default=20.0, help="to measure (default: 20)")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")


def _add_drift(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = _subcommand(
        commands,
        "drift",
        "code agreement of a windowed X-Codec encoder with the offline run",
        "How far a streaming encoder with a speech model (X-Codec) drifts from the run over the whole utterance.",
    )
    parser.add_argument("input", nargs="?", help="WAV, FLAC, OGG or MP3; default: the recording in this package")
    parser.add_argument(
        "--codec",
        metavar="SOURCE",
        default="xcodec",
        help="an X-Codec checkpoint; default: xcodec, the published sizes with random weights, whose agreement says "
        "nothing about a trained codec",
    )
    _add_backend(parser)
    parser.add_argument("--bandwidth", type=float, metavar="KBPS", help="default: the codec's own")
    parser.add_argument(
        "--windows",
        type=_windows,
        default=[SemanticWindow(*sizes) for sizes in WINDOWS],
        metavar="L/R/H,L/R/H",
        help="frames before, frames after and frames per run of the speech model (default: "
        + ",".join("/".join(map(str, sizes)) for sizes in WINDOWS)
        + ")",
    )
    parser.add_argument("--seconds", type=float, default=60.0, help="audio to run at most (default: 60)")
    parser.add_argument("--threads", type=int, default=1, help="torch threads (default: 1)")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")


def _windows(text: str) -> list[SemanticWindow]:
    windows = []
    for part in text.split(","):
        sizes = part.split("/")
        if len(sizes) != 3 or not all(size.isascii() and size.isdecimal() and len(size) < 10 for size in sizes):
            raise argparse.ArgumentTypeError(f"{part!r} is not left/right/hop in frames, such as 100/11/10")
        try:
            windows.append(SemanticWindow(*(int(size) for size in sizes)))
        except InputError as error:
            raise argparse.ArgumentTypeError(f"{part}: {error}") from error
    return windows


def _add_entropy(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = _subcommand(
        commands,
        "entropy",
        "bits that entropy coding saves, and its time a frame",
        "What entropy coding saves of a codec's bits, by the bytes that come out, and what it costs.",
    )
    parser.add_argument(
        "input", nargs="?", type=Path, help="a recording, a folder or a list; default: the recording in this package"
    )
    parser.add_argument("--codec", metavar="SOURCE", help="default: the codec in this package")
    parser.add_argument("--model", type=Path, metavar="FILE", help="default: the one that lies beside the codec")
    parser.add_argument(
        "--frames", type=int, nargs="+", default=(1, 10, 500), metavar="N",
        help="a block (default: 1 10 500); the first block of a recording is coded without a past",
    )  # fmt: skip
    parser.add_argument("--seconds", type=float, default=60.0, help="of each recording at most (default: 60)")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")


def _add_serve(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = _subcommand(
        commands,
        "serve",
        "paced sessions over loopback: latency, underruns, CPU",
        "How many paced sessions a live server carries on this machine: latency, underruns and CPU.",
    )
    parser.add_argument(
        "--sessions",
        type=_session_counts,
        default=[8, 16, 24, 32],
        metavar="N,N",
        help="how many at once (default: 8,16,24,32)",
    )
    parser.add_argument("--seconds", type=float, default=60.0, help="of each session (default: 60)")
    parser.add_argument(
        "--warm", type=float, default=2.0, help="seconds after the last session began that are left out (default: 2)"
    )
    parser.add_argument(
        "--target",
        type=float,
        default=40.0,
        metavar="MS",
        help="jitter target: later packets are underruns (default: 40)",
    )
    parser.add_argument(
        "--packet-frames", type=int, default=2, metavar="N", help="frames of the codec in a packet (default: 2)"
    )
    parser.add_argument("--rate", type=int, metavar="HZ", help="of the clients (default: the codec's)")
    parser.add_argument("--bandwidth", type=float, metavar="KBPS", help="default: the codec's own")
    parser.add_argument("--codec", metavar="SOURCE", help="default: the codec in this package")
    parser.add_argument("--engines", type=int, default=1, help="processes of the server's engine (default: 1)")
    parser.add_argument("--url", metavar="URL", help="measure the server at ws://HOST:PORT, instead of starting one")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")


def _session_counts(text: str) -> list[int]:
    counts = [int(part) if part.isascii() and part.isdecimal() and len(part) < 5 else 0 for part in text.split(",")]
    if min(counts) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of counts such as 8,16,24")
    return counts


def _add_backend(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--backend", default="auto", metavar="NAME", help="what computes: auto, torch, native or triton"
    )
