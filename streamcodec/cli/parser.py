"""The options of every command. Imports nothing that takes time."""

import argparse
import importlib
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from ..install import how_to_install
from .ends import add_force
from .evaluate_options import add_evaluate
from .scx_options import add_cat, add_cut, add_play, add_record, add_span
from .tokenize_options import add_tokenize
from .train_options import add_train

__all__ = ["SHELLS", "build_parser"]

OUTPUT = "out.wav"
AUDIO = ("wav", "flac", "ogg", "mp3")
CODES = ("safetensors", "ecdc", "dac", "scx")
SHELLS = ("bash", "zsh", "fish", "tcsh")


class _Parser(argparse.ArgumentParser):
    """Of the program and of each command: tells a wrong option itself, and has --quiet."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.add_argument(
            "-q", "--quiet", action="store_true", default=argparse.SUPPRESS, help="nothing on stderr but errors"
        )

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:  # type: ignore[override]
        """As argparse's, but what is not known is an error of this command, and not of the whole program."""
        namespace, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return namespace, unknown

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(2, f"{self.prog}: error: {message}\n{self.prog} --help explains the options\n")


class _Version(argparse.Action):
    """Prints the versions, which are looked up only then."""

    def __init__(self, option_strings: Sequence[str], dest: str, **options: Any) -> None:
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, help=options["help"])

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        from importlib import metadata

        def version(name: str) -> str:
            try:
                return metadata.version(name)
            except metadata.PackageNotFoundError:
                return "(not installed)"

        python = ".".join(map(str, sys.version_info[:3]))
        print(f"streamcodec {version('streamcodec')}, torch {version('torch')}, Python {python}")
        parser.exit()


def build_parser(arguments: Sequence[str], *, complete: bool = False) -> argparse.ArgumentParser:
    """The parser for `arguments`; a command's namespace has `module`, the module whose `run(args)` is the command.

    complete: with the options of all commands, whatever the arguments are. Some take long to import.
    """
    command = next((argument for argument in arguments if not argument.startswith("-")), "")
    parser = _Parser(
        prog="streamcodec",
        description="Neural audio codecs, streamed frame by frame with the result of an offline run.",
    )
    parser.add_argument("--version", action=_Version, help="show the versions of streamcodec, torch and Python and end")
    parser.set_defaults(quiet=False)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_roundtrip(commands)
    _add_encode(commands)
    _add_decode(commands)
    _add_record(commands)
    _add_play(commands)
    _add_cut_and_cat(commands)
    _add_tokenize(commands)
    _add_info(commands)
    _add_mic(commands)
    train = commands.add_parser("train", help="train a codec", description="Train a codec; see docs/training.md.")
    add_train(train)
    train.set_defaults(module=".train")
    evaluate = commands.add_parser(
        "evaluate",
        help="how good a codec is, beside others",
        description="Measure a codec on recordings, beside Opus, Lyra and others; see docs/measuring.md. What is not "
        f"installed is named and left out. To have all of it: {how_to_install('evaluate-all')}.",
    )
    _add_codec(evaluate, "default: the codec in this package")
    add_evaluate(evaluate)
    evaluate.set_defaults(module=".evaluate")
    serve = commands.add_parser(
        "serve",
        help="live sessions for many clients over one port",
        description="Serve live sessions over WebSocket; see docs/server.md. " + _needs("server"),
    )
    serve.set_defaults(module=".serve")
    if complete or command == "serve":  # its options are those of the server's configuration
        importlib.import_module("streamcodec.cli.serve").add_arguments(serve)
    connect = commands.add_parser(
        "connect",
        help="a session with a live server, from and to files",
        description="Send a recording or codes to a live server, and keep or play what comes back. " + _needs("client"),
    )
    connect.set_defaults(module=".connect")
    if complete or command == "connect":
        importlib.import_module("streamcodec.cli.connect").add_arguments(connect)
    bench = commands.add_parser(
        "bench", help="measure cost and drift on this machine", description="Measure on this machine."
    )
    if complete or command == "bench":
        importlib.import_module("streamcodec.bench.options").add_bench(bench)
    _add_tune(commands)
    _add_completion(commands)
    return parser


def _needs(extra: str) -> str:
    return f"Needs the extra {extra!r}: {how_to_install(extra)}."


def _add_roundtrip(commands: "argparse._SubParsersAction[_Parser]") -> None:
    parser = commands.add_parser(
        "roundtrip",
        help="encode and decode a recording, and measure the result",
        description="Encode and decode a recording. The last line has the bitrate, the algorithmic delay, the "
        "real-time factor, SI-SDR and mel distance.",
    )
    parser.add_argument(
        "input", nargs="?", help="WAV, FLAC, OGG or MP3, - for standard input; default: the recording in this package"
    )
    parser.add_argument(
        "output",
        nargs="?",
        help=f".wav, .flac, .ogg or .mp3, - for standard output; default: {OUTPUT}, or where there is one out-2.wav "
        "and so on",
    )
    _add_format(parser, AUDIO)
    _add_codec(parser, "default: the codec in this package")
    _add_bandwidth(parser)
    _add_precision(parser)
    _add_threads(parser)
    _add_running(parser, "exact", "how the streams begin (default: exact)")
    parser.set_defaults(module=".roundtrip")


def _add_encode(commands: "argparse._SubParsersAction[_Parser]") -> None:
    parser = commands.add_parser(
        "encode", help="a recording to codes", description="Encode a recording to codes in a safetensors file."
    )
    parser.add_argument("input", help="WAV, FLAC, OGG or MP3; - for standard input")
    parser.add_argument(
        "output",
        help="codes file: .safetensors; .scx, which can be sought; .dac or .ecdc, upstream's formats; - for stdout",
    )
    _add_format(parser, CODES)
    parser.add_argument(
        "--entropy",
        nargs="?",
        const="",
        metavar="MODEL",
        help="code the codes in fewer bytes, with this entropy model (default: the one that lies beside the codec)",
    )
    parser.add_argument(
        "--lm", metavar="FILE", help="code those of an .ecdc file with this checkpoint of EnCodec's language model"
    )
    _add_codec(parser, "default: the codec in this package")
    _add_bandwidth(parser)
    _add_precision(parser)
    _add_threads(parser)
    _add_running(parser, "exact", "how the stream begins (default: exact)")
    parser.set_defaults(module=".encode")


def _add_decode(commands: "argparse._SubParsersAction[_Parser]") -> None:
    parser = commands.add_parser(
        "decode",
        help="codes to a recording",
        description="Decode codes that `streamcodec encode` wrote, or DAC's or EnCodec's own command (.dac, .ecdc).",
    )
    parser.add_argument("input", help="codes file; - for standard input")
    parser.add_argument("output", help=".wav, .flac, .ogg or .mp3; - for standard output")
    _add_format(parser, AUDIO)
    parser.add_argument(
        "--entropy", metavar="MODEL", help="of codes that are entropy coded (default: what lies beside the codec)"
    )
    parser.add_argument(
        "--lm", metavar="FILE", help="checkpoint of EnCodec's language model, of an .ecdc file that was coded with it"
    )
    _add_codec(parser, "default: the one that the codes file names")
    _add_precision(parser)
    _add_threads(parser)
    _add_running(parser, None, "how the stream begins (default: as the encoder's did)")
    add_span(parser)
    parser.set_defaults(module=".decode")


def _add_record(commands: "argparse._SubParsersAction[_Parser]") -> None:
    parser = commands.add_parser(
        "record",
        help="a microphone to a file of codes that can be read while it grows",
        description="Encode what a microphone hears, or raw samples of standard input, to a .scx file, which others "
        "may play meanwhile; see docs/container.md. Keys: + and - bandwidth, q quit. A microphone "
        + _needs("live").replace("Needs", "needs"),
    )
    _add_codec(parser, "default: the codec in this package")
    _add_bandwidth(parser)
    add_record(parser)
    parser.set_defaults(module=".record")


def _add_play(commands: "argparse._SubParsersAction[_Parser]") -> None:
    parser = commands.add_parser(
        "play",
        help="a .scx file to a speaker, from any place on",
        description="Play a .scx file, or one behind an http address, of which only the needed parts are fetched. "
        + _needs("live"),
    )
    _add_codec(parser, "default: the one that the file names")
    add_play(parser)
    parser.set_defaults(module=".play")


def _add_cut_and_cat(commands: "argparse._SubParsersAction[_Parser]") -> None:
    cut = commands.add_parser(
        "cut",
        help="a part of a .scx file",
        description="A part of a .scx file as a file of its own, cut to the sample. Codes are copied as they are.",
    )
    cat = commands.add_parser(
        "cat",
        help=".scx files one after the other",
        description="Join .scx files of one codec. Of one file this is a repair: what is damaged is left out.",
    )
    for parser, add in ((cut, add_cut), (cat, add_cat)):
        add(parser)
        parser.set_defaults(module=".scx")


def _add_tokenize(commands: "argparse._SubParsersAction[_Parser]") -> None:
    parser = commands.add_parser(
        "tokenize",
        help="a corpus of recordings to a data set of tokens",
        description="Encode all recordings of a corpus, on all cores; see docs/corpora.md. A recording that cannot be "
        "read is left out and reported. Run it again after an interruption, and it goes on. On a CPU --backend auto is "
        "native where that runs: it takes half the time. Parquet, Arrow and URLs "
        + _needs("corpus").replace("Needs", "need"),
    )
    _add_codec(parser, "default: the codec in this package")
    _add_precision(parser)
    _add_bandwidth(parser)
    add_tokenize(parser)
    _add_json(parser)
    parser.set_defaults(module=".tokenize")


def _add_info(commands: "argparse._SubParsersAction[_Parser]") -> None:
    parser = commands.add_parser(
        "info",
        help="what a codec is: rates, bandwidths, delays, memory; or what is in a .scx file",
        description="Describe a codec: rates, bandwidths, delays, memory per stream; or a .scx file.",
    )
    parser.add_argument(
        "codec",
        nargs="?",
        help="as for --codec of the other commands, or a .scx file; default: the codec in this package",
    )
    _add_backend(parser)
    _add_json(parser)
    parser.set_defaults(module=".info")


def _add_mic(commands: "argparse._SubParsersAction[_Parser]") -> None:
    parser = commands.add_parser(
        "mic",
        help="hear yourself through a codec, live",
        description="Microphone to codec to speaker, live. Use headphones. Keys: + and - bandwidth, m mute, q quit. "
        + _needs("live"),
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
    add_force(parser)
    _add_json(parser)
    parser.set_defaults(module=".mic")


def _add_tune(commands: "argparse._SubParsersAction[_Parser]") -> None:
    parser = commands.add_parser(
        "tune",
        help="the fewest frames per step that keep up on this machine, and the delay",
        description="Find the fewest frames per step with which one stream keeps up on this machine, and its total "
        "delay. A step must be done, 99 times of 100 and with a margin, before as many more frames are there.",
    )
    _add_codec(
        parser, "or a name that `bench speed` has, for random weights of published sizes; default: the codec in this "
        "package"
    )  # fmt: skip
    _add_precision(parser)
    parser.add_argument("--bandwidth", type=float, metavar="KBPS", help="one that the codec offers; default: its own")
    parser.add_argument("--threads", type=_positive, default=1, help="torch threads (default: 1)")
    parser.add_argument(
        "--direction",
        choices=("encode", "decode", "both"),
        default="both",
        help="what a step does; both: a conversation's two, one after the other (default)",
    )
    parser.add_argument(
        "--margin", type=float, default=0.2, metavar="PART", help="of a step's audio that must be left (default: 0.2)"
    )
    parser.add_argument(
        "--most", type=float, default=1000.0, metavar="MS", help="audio of the longest step to try (default: 1000)"
    )
    parser.add_argument("--seconds", type=float, default=30.0, help="of measuring at most (default: 30)")
    _add_json(parser)
    parser.set_defaults(module=".tune")


def _add_completion(commands: "argparse._SubParsersAction[_Parser]") -> None:
    parser = commands.add_parser(
        "completion",
        help="make a shell complete commands and options",
        description="Print what a shell must read to complete commands, options and file names. Put it into a file "
        "once, so that no shell waits for it: in bash ~/.local/share/bash-completion/completions/streamcodec (without "
        "the package bash-completion any file that ~/.bashrc reads), in zsh a file _streamcodec in a folder of $fpath, "
        "in fish ~/.config/fish/completions/streamcodec.fish.",
    )
    parser.add_argument("shell", choices=SHELLS)
    parser.set_defaults(module=".completion")


def _add_format(parser: argparse.ArgumentParser, formats: Sequence[str]) -> None:
    parser.add_argument(
        "--format",
        choices=formats,
        help=f"of an output whose name has no extension, such as - (default there: {formats[0]})",
    )
    add_force(parser)


def _add_codec(parser: argparse.ArgumentParser, default: str) -> None:
    parser.add_argument(
        "--codec", metavar="SOURCE", help=f"hub id, published name, directory or weight file; {default}"
    )
    parser.add_argument("--device", default="cpu", help="where to compute, such as cpu or cuda (default: cpu)")
    _add_backend(parser)


def _add_backend(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--backend",
        default="auto",
        metavar="NAME",
        help="what computes: auto, torch, native (in C++), or triton (kernels for a GPU)",
    )


def _add_precision(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--precision",
        default="float32",
        metavar="NAME",
        help="float32; with --backend native, on a processor with AMX, bfloat16x3, and to decode bfloat16; with "
        "--backend native, to decode, int8 (of weights alone); with --backend triton, to decode, bfloat16 or tf32",
    )


def _add_threads(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--threads",
        type=_positive,
        metavar="N",
        help="threads that share the work (default: torch's number, mostly one for each core); what a stream of "
        "--backend native gives has the same bits for any N",
    )


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
