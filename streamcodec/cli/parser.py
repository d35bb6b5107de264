"""The options of every command. Imports nothing that takes time."""

import argparse
import importlib
from collections.abc import Sequence

from .train_options import add_evaluate, add_train

__all__ = ["build_parser"]

OUTPUT = "out.wav"


def build_parser(arguments: Sequence[str]) -> argparse.ArgumentParser:
    """The parser for `arguments`; a command's namespace has `module`, the module whose `run(args)` is the command."""
    parser = argparse.ArgumentParser(
        prog="streamcodec",
        description="Neural audio codecs, streamed frame by frame with the result of an offline run.",
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_roundtrip(commands)
    _add_encode(commands)
    _add_decode(commands)
    _add_info(commands)
    _add_mic(commands)
    train = commands.add_parser("train", help="train a codec", description="Train a codec; see docs/training.md.")
    add_train(train)
    train.set_defaults(module=".train")
    evaluate = commands.add_parser(
        "evaluate", help="how good a codec is, beside Opus", description="Measure a codec on recordings, beside Opus."
    )
    add_evaluate(evaluate)
    evaluate.set_defaults(module=".evaluate")
    serve = commands.add_parser(
        "serve",
        help="live sessions for many clients over one port",
        description="Serve live sessions over WebSocket; see docs/server.md (pip install 'streamcodec[server]').",
    )
    serve.set_defaults(module=".serve")
    if arguments[:1] == ["serve"]:  # its options are those of the server's configuration
        importlib.import_module("streamcodec.cli.serve").add_arguments(serve)
    connect = commands.add_parser(
        "connect",
        help="a session with a live server, from and to files",
        description="Send a recording or codes to a live server, and keep or play what comes back (pip install "
        "'streamcodec[client]').",
    )
    connect.set_defaults(module=".connect")
    if arguments[:1] == ["connect"]:
        importlib.import_module("streamcodec.cli.connect").add_arguments(connect)
    bench = commands.add_parser(
        "bench", help="measure cost and drift on this machine", description="Measure on this machine."
    )
    bench.set_defaults(module="streamcodec.bench")
    if arguments[:1] == ["bench"]:  # its options come from a module of its own
        importlib.import_module("streamcodec.bench").add_arguments(bench)
    return parser


def _add_roundtrip(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser(
        "roundtrip",
        help="encode and decode a recording, and measure the result",
        description="Encode and decode a recording. The last line has the bitrate, the algorithmic delay, the "
        "real-time factor, SI-SDR and mel distance.",
    )
    parser.add_argument("input", nargs="?", help="WAV, FLAC, OGG or MP3; default: the recording in this package")
    parser.add_argument("output", nargs="?", default=OUTPUT, help=f".wav, .flac, .ogg or .mp3; default: {OUTPUT}")
    _add_codec(parser, "default: the codec in this package")
    _add_bandwidth(parser)
    _add_running(parser, "exact", "how the streams begin (default: exact)")
    parser.set_defaults(module=".roundtrip")


def _add_encode(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser(
        "encode", help="a recording to codes", description="Encode a recording to codes in a safetensors file."
    )
    parser.add_argument("input", help="WAV, FLAC, OGG or MP3")
    parser.add_argument("output", help="codes file: .dac and .ecdc are upstream's formats, all else safetensors")
    _add_codec(parser, "default: the codec in this package")
    _add_bandwidth(parser)
    _add_running(parser, "exact", "how the stream begins (default: exact)")
    parser.set_defaults(module=".encode")


def _add_decode(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser(
        "decode",
        help="codes to a recording",
        description="Decode codes that `streamcodec encode` wrote, or DAC's or EnCodec's own command (.dac, .ecdc).",
    )
    parser.add_argument("input", help="codes file")
    parser.add_argument("output", help=".wav, .flac, .ogg or .mp3")
    _add_codec(parser, "default: the one that the codes file names")
    _add_running(parser, None, "how the stream begins (default: as the encoder's did)")
    parser.set_defaults(module=".decode")


def _add_info(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser(
        "info",
        help="what a codec is: rates, bandwidths, delays, memory",
        description="Describe a codec: rates, bandwidths, delays in both directions, memory per stream.",
    )
    parser.add_argument(
        "codec", nargs="?", help="as for --codec of the other commands; default: the one in this package"
    )
    _add_json(parser)
    parser.set_defaults(module=".info")


def _add_mic(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser(
        "mic",
        help="hear yourself through a codec, live",
        description="Microphone to codec to speaker, live (pip install 'streamcodec[live]'). Use headphones. Keys: "
        "+ and - bandwidth, m mute, q quit.",
    )
    _add_codec(parser, "default: the codec in this package")
    _add_bandwidth(parser)
    parser.add_argument("--input", metavar="DEV", help="microphone: an index, a name or a part of one (--list-devices)")
    parser.add_argument("--output", metavar="DEV", help="speaker, likewise")
    parser.add_argument("--list-devices", action="store_true", help="list the sound devices and end")
    parser.add_argument("--frames", type=_positive, default=1, metavar="N", help="frames of a step (default: 1)")
    parser.add_argument(
        "--rate", type=_positive, metavar="HZ", help="of both devices (default: the codec's, or theirs)"
    )
    parser.add_argument("--block", type=_positive, metavar="N", help="samples of a device's block (default: 5 ms)")
    parser.add_argument("--seconds", type=float, metavar="S", help="end after S seconds (default: at q or Ctrl-C)")
    parser.add_argument("--record-input", metavar="WAV", help="keep what the codec heard, as 32-bit float")
    parser.add_argument("--record-output", metavar="WAV", help="keep what was played, as 32-bit float")
    _add_json(parser)
    parser.set_defaults(module=".mic")


def _add_codec(parser: argparse.ArgumentParser, default: str) -> None:
    parser.add_argument(
        "--codec", metavar="SOURCE", help=f"hub id, published name, directory or weight file; {default}"
    )
    parser.add_argument("--device", default="cpu", help="where to compute, such as cpu or cuda (default: cpu)")


def _add_bandwidth(parser: argparse.ArgumentParser) -> None:
    either = parser.add_mutually_exclusive_group()
    either.add_argument(
        "--bandwidth", type=float, metavar="KBPS", help="one that the codec offers (see info); default: the codec's own"
    )
    either.add_argument(
        "--codebooks", type=_positive, metavar="N", help="the bandwidth that has N codebooks, instead of --bandwidth"
    )


def _add_running(parser: argparse.ArgumentParser, start: str | None, start_help: str) -> None:
    how = parser.add_mutually_exclusive_group()
    how.add_argument(
        "--step-frames", type=_positive, metavar="N", help="frames to push at a time (default: one second's worth)"
    )
    how.add_argument("--offline", action="store_true", help="run on the whole file at once instead of streaming")
    parser.add_argument("--start", choices=("exact", "primed"), default=start, help=start_help)
    _add_json(parser)


def _add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout and nothing else there")


def _positive(text: str) -> int:
    number = int(text) if text.isdecimal() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive whole number")
    return number
