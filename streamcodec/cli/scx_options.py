"""The options of the commands for .scx files. Imports nothing that takes time."""

from argparse import ArgumentParser

from .ends import add_force

__all__ = ["add_cat", "add_cut", "add_play", "add_record", "add_span"]

FILE = ".scx file or http address; - for standard input"
SECONDS = "end after S seconds (default: at q or Ctrl-C)"


def add_span(parser: ArgumentParser) -> None:
    """--from and --to, of the commands that take a part of a .scx file."""
    parser.add_argument(
        "--from", dest="start_time", metavar="TIME", help="seconds, M:S or H:M:S, or -S: before the end (default: 0)"
    )
    parser.add_argument("--to", dest="end", metavar="TIME", help="likewise; default: the end")


def _add_model(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--entropy", metavar="MODEL", help="of codes that are entropy coded (default: what lies beside the codec)"
    )


def add_record(parser: ArgumentParser) -> None:
    """The options of ``record``, but for those of the codec."""
    parser.add_argument("output", help="the .scx file; - for standard output")
    parser.add_argument(
        "--input", metavar="DEV", help="a microphone: an index, a name or a part of one; - for raw s16le on stdin"
    )
    parser.add_argument("--rate", type=int, metavar="HZ", help="of the device or of raw samples (default: the codec's)")
    parser.add_argument("--channels", type=int, choices=(1, 2), default=1, help="of raw samples (default: 1)")
    parser.add_argument("--seconds", type=float, metavar="S", help=SECONDS)
    parser.add_argument("--append", action="store_true", help="go on with a file that is there, in a new section")
    parser.add_argument(
        "--block-seconds", type=float, default=2.0, metavar="S", help="of a block, which a crash may lose (default: 2)"
    )
    parser.add_argument(
        "--entropy",
        nargs="?",
        const="",
        metavar="MODEL",
        help="code the codes in fewer bytes, with this entropy model (default: the one that lies beside the codec)",
    )
    parser.add_argument("--note", action="append", default=[], metavar="NAME=TEXT", help="to be kept in the header")
    _add_rest(parser)


def add_play(parser: ArgumentParser) -> None:
    """The options of ``play``, but for those of the codec."""
    parser.add_argument("input", help=FILE)
    add_span(parser)
    _add_model(parser)
    parser.add_argument("--follow", action="store_true", help="go on while the file grows, until its writer closes it")
    parser.add_argument(
        "--idle", type=float, default=10.0, metavar="S", help="with --follow: end where nothing comes for S seconds"
    )
    parser.add_argument("--output", metavar="DEV", help="a speaker: an index, a name or a part of one")
    parser.add_argument("--rate", type=int, metavar="HZ", help="of the device (default: the codec's, or its own)")
    _add_json(parser)


def add_cut(parser: ArgumentParser) -> None:
    """The options of ``cut``."""
    parser.add_argument("input", help=FILE)
    parser.add_argument("output", help=".scx file; - for standard output")
    add_span(parser)
    parser.add_argument("--codec", metavar="SOURCE", help="needed where the file does not say what a decoder must hear")
    parser.set_defaults(backend="auto")
    _add_model(parser)
    _add_rest(parser)


def add_cat(parser: ArgumentParser) -> None:
    """The options of ``cat``."""
    parser.add_argument("inputs", nargs="+", metavar="input", help=".scx files or http addresses, of one codec")
    parser.add_argument("output", help=".scx file; - for standard output")
    _add_model(parser)
    _add_rest(parser)


def _add_rest(parser: ArgumentParser) -> None:
    add_force(parser)
    _add_json(parser)


def _add_json(parser: ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout and nothing else there")
