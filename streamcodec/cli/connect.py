"""``streamcodec connect``: a session with a live server, from and to files or loudspeakers."""

import asyncio
import contextlib
import importlib
import ssl
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from ..addresses import server_address
from ..audio import FORMATS
from ..entropy import find_model
from ..errors import InputError
from ..files import Existing, GrowingFile, NewFile
from ..sources import reason
from .connect_conversation import Conversation
from .connect_ends import RAW
from .ends import add_force, check_folder, check_input, frames_by_codebooks, new_output, output_format, takes_stdout

if TYPE_CHECKING:
    from ..client import Session

__all__ = ["add_arguments", "run"]

MODES = ("encode", "decode", "roundtrip", "room")


def add_arguments(parser: ArgumentParser) -> None:
    """The options of the command."""
    parser.add_argument("url", help="of the server, such as ws://127.0.0.1:8765, or a link to a room from its page")
    parser.add_argument("--mode", choices=MODES, default="roundtrip", help="what the server does (default: roundtrip)")
    parser.add_argument("--input", metavar="FILE", help="audio; codes in mode decode; - for raw s16le samples on stdin")
    parser.add_argument("--output", metavar="FILE", help="audio; codes in mode encode; - for raw s16le on stdout")
    parser.add_argument(
        "--record",
        metavar="PATH",
        help="keep the codes of mode encode in a .scx file that can be read while it grows; in mode room those of each "
        "speaker, in files of this folder",
    )
    pace = parser.add_mutually_exclusive_group()
    pace.add_argument("--realtime", action="store_true", help="send at the pace of the audio (the default)")
    pace.add_argument("--fast", action="store_true", help="send as fast as the server takes it")
    parser.add_argument("--play", action="store_true", help="play what comes to the default sound device")
    parser.add_argument("--codec", metavar="NAME", help="one that the server offers (default: its first)")
    parser.add_argument("--bandwidth", type=float, metavar="KBPS", help="default: the codec's own")
    parser.add_argument("--rate", type=int, default=24_000, metavar="HZ", help="of PCM on the wire (default: 24000)")
    parser.add_argument("--channels", type=int, choices=(1, 2), default=1, help="of PCM on the wire (default: 1)")
    parser.add_argument("--format", choices=("s16le", "f32le"), default="s16le", help="of PCM (default: s16le)")
    parser.add_argument("--frames-per-packet", type=int, default=1, metavar="N", help="default: 1")
    parser.add_argument("--start", choices=("primed", "exact"), default="primed", help="default: primed")
    parser.add_argument("--room", metavar="NAME", help="in mode room")
    parser.add_argument("--role", choices=("speaker", "listener", "both"), default="both", help="default: both")
    parser.add_argument("--member", default="", metavar="NAME", help="to show to the others in the room")
    parser.add_argument("--key-file", metavar="PATH", help="file with the server's key")
    parser.add_argument("--ca", metavar="PATH", help="PEM file with the certificate to trust, as for a self-signed one")
    parser.add_argument("--seconds", type=float, metavar="S", help="end after S seconds")
    parser.add_argument("--wait", type=float, default=0.0, metavar="S", help="try so long to connect (default: once)")
    parser.add_argument(
        "--max-delay",
        type=float,
        metavar="S",
        help="leave out audio that would be later (default: none is left out)",
    )
    parser.add_argument(
        "--entropy",
        nargs="?",
        const="",
        metavar="MODEL",
        help="code codes on the wire with this entropy model, if the server has the same (default: the one in this "
        "package)",
    )
    parser.add_argument(
        "--redundancy",
        metavar="FRAMESxCODEBOOKS|auto",
        help="where codes are left out, the next packet carries so much of them again, such as 8x2; auto: as much as "
        "the loss that the other end measures asks for (default: nothing)",
    )
    parser.add_argument("--no-reconnect", action="store_true", help="end where the connection breaks")
    parser.add_argument("--stats", action="store_true", help="ask the server for its counts at the end")
    add_force(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout and nothing else there")


def run(args: Namespace) -> int:
    """Run the command. Raises StreamcodecError; SessionError says why a session failed."""
    importlib.import_module("streamcodec.client")  # which says what is missing, before anything is opened
    _check(args)
    with contextlib.ExitStack() as stack:
        output, form = _output(args, stack)
        record = None if args.record is None or args.mode == "room" else _record(args, stack)
        asyncio.run(_talk(args, output, form, record))
    return 0


async def _talk(args: Namespace, output: NewFile | None, form: str, record: GrowingFile | None) -> None:
    await Conversation(args, _session(args), output, form, record).run()


def _session(args: Namespace) -> "Session":
    from ..client import connect

    return connect(
        args.url, args.mode, codec=args.codec, bandwidth=args.bandwidth, sample_rate=args.rate,
        channels=args.channels, pcm_format=args.format, frames_per_packet=args.frames_per_packet, start=args.start,
        room=args.room, role=args.role, receive="codes" if args.record else "pcm", member=args.member,
        key=_key(args.key_file), reconnect=not args.no_reconnect, max_delay=args.max_delay, open_seconds=args.wait,
        ssl=_trust(args.ca), entropy=None if args.entropy is None else find_model(args.entropy or None),
        redundancy=_redundancy(args.redundancy),
    )  # fmt: skip


def _record(args: Namespace, stack: contextlib.ExitStack) -> GrowingFile:
    output_format(args.record, ("scx",))
    existing: Existing = "replace" if args.force else "refuse"
    return stack.enter_context(GrowingFile(args.record, existing, [args.input, args.key_file or args.input]))


def _output(args: Namespace, stack: contextlib.ExitStack) -> tuple[NewFile | None, str]:
    """The file for what comes, refused before there is a session; and its format."""
    if args.input and args.input != RAW:
        check_input(args.input)
    if not args.output or args.output == RAW:
        return None, ""
    form = output_format(args.output, ("safetensors",) if args.mode == "encode" else tuple(FORMATS))
    return stack.enter_context(new_output(args.output, args.force, [args.input, args.key_file])), form


def _check(args: Namespace) -> None:
    if args.mode == "room":
        args.room = args.room or server_address(args.url).room
    sends = args.mode != "room" or args.role != "listener"
    if sends and not args.input:
        raise InputError(f"mode {args.mode} needs --input, an audio file{', or codes' * (args.mode == 'decode')}, or -")
    if not sends and args.input:
        raise InputError("--input with --role listener, who sends nothing; leave one of them out")
    if args.mode == "room" and not args.room:
        raise InputError("mode room needs --room, a name, or an address with #room=NAME")
    if (args.mode == "decode" and args.input == RAW) or (args.mode == "encode" and args.output == RAW):
        raise InputError("codes come from and go to files; - is for audio")
    if args.mode == "room" and args.role == "speaker" and (args.play or args.output):
        raise InputError("--play or --output with --role speaker, who hears nothing; take --role both")
    if args.record is not None:
        _check_record(args)
    if args.mode == "encode" and args.play:
        raise InputError("--play in mode encode, where no audio comes back")
    _redundancy(args.redundancy)
    if args.seconds is not None and not 0 < args.seconds < float("inf"):
        raise InputError(f"--seconds is {args.seconds:g}; it must be positive")
    if args.json and takes_stdout(args.output):
        raise InputError(f"--json and --output {args.output}: both want stdout")


def _check_record(args: Namespace) -> None:
    if args.mode not in ("encode", "room") or args.record == RAW:
        raise InputError("--record keeps the codes of mode encode, or of a room, in files; --output keeps audio")
    if args.mode != "room":
        return
    if args.role == "speaker":
        raise InputError("--record with --role speaker, who hears nothing; take --role listener or both")
    if args.play or args.output:
        raise InputError("--record in a room gets codes, and --play and --output need audio; run two commands")
    folder = Path(args.record)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--record {folder} cannot be made a folder: {reason(error)}") from error
    check_folder(folder, "*.scx", "recordings", args.force)


def _key(path: str | None) -> str | None:
    try:
        return None if path is None else Path(path).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--key-file {path} cannot be read as ASCII: {error}") from error


def _redundancy(text: str | None) -> tuple[int, int] | str | None:
    return text if text in (None, "auto") else frames_by_codebooks(text)


def _trust(path: str | None) -> ssl.SSLContext | None:
    try:
        return None if path is None else ssl.create_default_context(cafile=path)
    except (OSError, ssl.SSLError) as error:
        raise InputError(f"--ca {path} cannot be read as certificates in PEM: {error}") from error
