"""``streamcodec connect``: a session with a live server, from and to files or loudspeakers."""

import asyncio
import concurrent.futures
import contextlib
import importlib
import json
import os
import ssl
import sys
import threading
import time
from argparse import ArgumentParser, Namespace
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..addresses import server_address
from ..audio import FORMATS, AudioReader, AudioWriter, Samples
from ..codesfile import CodesBlock, CodesHeader, CodesWriter
from ..entropy import find_model
from ..errors import InputError
from ..files import Existing, GrowingFile, NewFile
from ..live.devices import portaudio
from ..sources import reason
from .connect_recording import Recording, RoomRecording, codes_reader
from .ends import add_force, check_folder, check_input, frames_by_codebooks, new_output, output_format, takes_stdout
from .signals import told_by_signals
from .telling import announce, announce_clipping, progress, tell

if TYPE_CHECKING:
    from ..client import Session

__all__ = ["add_arguments", "run"]

MODES = ("encode", "decode", "roundtrip", "room")
FAST_SECONDS = 0.25  # of audio in a packet where nobody waits for it
REST_SECONDS = 3.0  # for what is on the way when a signal ends the input
PLAY_SECONDS = 0.01  # of audio that is played at a time
RAW = "-"


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
    await _Talk(args, output, form, record).run()


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


class _Talk:
    """One run of the command."""

    def __init__(self, args: Namespace, output: NewFile | None, form: str, record: GrowingFile | None) -> None:
        from ..client import Mixer, connect

        self.args, self.output, self.form, self.record = args, output, form, record
        self.session = connect(
            args.url, args.mode, codec=args.codec, bandwidth=args.bandwidth, sample_rate=args.rate,
            channels=args.channels, pcm_format=args.format, frames_per_packet=args.frames_per_packet, start=args.start,
            room=args.room, role=args.role, receive="codes" if args.record else "pcm", member=args.member,
            key=_key(args.key_file), reconnect=not args.no_reconnect, max_delay=args.max_delay, open_seconds=args.wait,
            ssl=_trust(args.ca), entropy=None if args.entropy is None else find_model(args.entropy or None),
            redundancy=_redundancy(args.redundancy),
        )  # fmt: skip
        self.block = round(PLAY_SECONDS * args.rate)
        self.mixer = Mixer(args.rate, args.channels, self.block)
        self.gets_codes = args.mode == "encode" or args.record is not None
        self.paced = not self.gets_codes and (args.play or args.mode == "room" or not args.fast)
        self.began = 0.0  # time.monotonic() of the first sample sent
        self.sent = self.received = 0  # samples or frames
        self.again = 0  # frames that were left out and came again with the next packet
        self.delays: list[float] = []
        self.length: int | None = None  # of the audio to be decoded, in samples at the wire's rate
        self.server: dict[str, Any] = {}
        # What cannot be had a second time ends well at a signal, and its recording is kept; all else is broken off.
        self.live = args.mode == "room" or args.input == RAW
        self.loop, self.told = asyncio.get_running_loop(), asyncio.Event()

    async def run(self) -> None:
        since = time.monotonic()
        with contextlib.ExitStack() as signals:
            async with self.session as session:
                tell(f"{session.codec.name} in mode {self.args.mode}, {session.welcome.bandwidth:g} kbps")
                if self.args.entropy is not None and session.welcome.entropy is None:
                    tell("codes go as they are: the server has not this entropy model, or no codes are sent")
                if self.live:
                    signals.enter_context(told_by_signals(self._tell))
                await self._converse(session)
            self._report(time.monotonic() - since)

    def _tell(self) -> None:
        self.loop.call_soon_threadsafe(self.told.set)

    async def _converse(self, session: "Session") -> None:
        with contextlib.ExitStack() as stack:
            sink = _sink(self, stack)
            self.recording = self._recording(session)
            if self.recording is not None:
                stack.enter_context(self.recording)
            tasks = [asyncio.create_task(self._receive(sink))]
            if self.args.input:
                tasks.append(asyncio.create_task(self._send()))
            if self.paced:
                tasks.append(asyncio.create_task(self._play(sink if self.args.mode == "room" else None)))
            await self._until_done(tasks)
            if self.args.stats:
                self.server = vars_of(await session.statistics())

    def _recording(self, session: "Session") -> "Recording | RoomRecording | None":
        if self.args.record is not None and self.args.mode == "room":
            return RoomRecording(Path(self.args.record), session, self.args.force)
        return None if self.record is None else Recording(self.record, session)

    async def _until_done(self, tasks: "list[asyncio.Task[None]]") -> None:
        """Until all that was sent is back, or the time is over; errors of the tasks are raised."""
        limit = None if self.args.seconds is None else time.monotonic() + self.args.seconds
        stop = asyncio.create_task(self._interrupted())
        try:
            while not tasks[0].done():
                left = None if limit is None else limit - time.monotonic()
                pending = [stop, *(task for task in tasks if not task.done())]
                if left is not None and left <= 0:
                    break
                done, _ = await asyncio.wait(pending, timeout=left, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
                if stop in done:
                    break
            if self.args.play:
                while self.mixer.waiting and (limit is None or time.monotonic() < limit):
                    await asyncio.sleep(PLAY_SECONDS)
        finally:
            for task in (stop, *tasks):
                task.cancel()
            await asyncio.gather(stop, *tasks, return_exceptions=True)

    async def _interrupted(self) -> None:
        """The end of what is live: of a room at once, of what comes by standard input when the rest of it is back."""
        await self.told.wait()
        if self.args.mode != "room":
            await asyncio.sleep(REST_SECONDS)

    # What goes out

    async def _send(self) -> None:
        args, session = self.args, self.session
        codec = session.codec
        frame = codec.hop_length / codec.sample_rate
        seconds = FAST_SECONDS if args.fast else frame * args.frames_per_packet
        if args.mode == "decode":
            await self._send_codes(max(1, round(seconds / frame)))
            return
        block = max(1, round(seconds * args.rate))
        source = _stdin(args, block, self.told) if args.input == RAW else self._file(block)
        self.began = time.monotonic()
        async for samples in source:
            if not args.fast and args.input != RAW:  # a block is there when its last sample was heard
                await self._wait((self.sent + samples.shape[1]) / args.rate)
            await session.send(samples.T)
            self.sent += samples.shape[1]
        await session.flush()

    async def _file(self, block: int) -> AsyncIterator[Samples]:
        args = self.args
        with AudioReader(args.input, args.rate, args.channels, block) as reader:
            announce(reader)
            with progress(reader.seconds) as advance:
                for samples in reader:
                    yield samples
                    advance(samples.shape[1] / args.rate)

    async def _send_codes(self, frames: int) -> None:
        codec = self.session.codec
        with codes_reader(self.args.input) as reader:
            header = reader.header
            if codec.fingerprint and header.fingerprint and codec.fingerprint != header.fingerprint:
                raise InputError(
                    f"{self.args.input} holds codes of {header.codec}, other weights than the server's {codec.name}; "
                    "decode them with the codec that made them"
                )
            self.length = (2 * header.length * self.args.rate + codec.sample_rate) // (2 * codec.sample_rate)
            self.began = time.monotonic()
            with progress(header.length / codec.sample_rate) as advance:
                for codes in reader.arrays(frames):
                    count = codes.data.shape[2]
                    if not self.args.fast:
                        await self._wait((self.sent + count) * codec.hop_length / codec.sample_rate)
                    scale = None if codes.scale is None else codes.scale[0]
                    await self.session.send_codes(codes.data[0], scale)
                    self.sent += count
                    advance(count * codec.hop_length / codec.sample_rate)
            await self.session.flush(header.length)

    async def _wait(self, seconds: float) -> None:
        await asyncio.sleep(max(0.0, self.began + seconds - time.monotonic()))

    # What comes back

    async def _receive(self, sink: "_Sink") -> None:
        from ..client import CodesPacket, ErrorMessage, Flushed, Joined, Left, Lost, Missing, Pcm, Resumed

        async for event in self.session:
            if isinstance(event, (Pcm, CodesPacket)):
                self._note(event.index + (event.samples if isinstance(event, Pcm) else event.codes.T).shape[0])
            if isinstance(event, CodesPacket) and event.again:
                self.again += event.codes.shape[1]
            if isinstance(event, (Pcm, Missing)) and self.paced:
                self.mixer.take(event)
            if isinstance(self.recording, RoomRecording) or (
                self.recording and isinstance(event, (CodesPacket, Missing))
            ):
                self.recording.take(event)
            if isinstance(event, Pcm) and self.args.mode != "room":
                sink.audio(self._cut(event.samples.T))
            elif isinstance(event, CodesPacket):
                sink.codes(event)
            elif isinstance(event, Flushed) and (self.args.mode != "room" or self.args.seconds is None):
                return
            elif isinstance(event, (Lost, Resumed)):
                tell("the connection is lost; trying again" if isinstance(event, Lost) else "connected again")
            elif isinstance(event, ErrorMessage):
                tell(f"the server refused something: {event.message}")
            elif isinstance(event, Joined):
                tell(f"{event.member.member or event.member.id} is here")
            elif isinstance(event, Left):
                tell(f"member {event.id} has left ({event.reason})")

    def _note(self, place: int) -> None:
        """Output up to `place` has come: how long after its input."""
        self.received = max(self.received, place)
        if self.args.mode != "room" and not self.args.fast and self.args.input != RAW:
            codec = self.session.codec
            rate = codec.sample_rate / codec.hop_length if self.args.mode == "encode" else self.args.rate
            self.delays.append(time.monotonic() - self.began - place / rate)

    def _cut(self, samples: Samples) -> Samples:
        """Without what the last frame of codes holds beyond the audio."""
        if self.length is None:
            return samples
        kept = samples[:, : self.length]
        self.length -= kept.shape[1]
        return kept

    async def _play(self, sink: "_Sink | None") -> None:
        """At the pace of the audio, to the loudspeaker or to nowhere, so that what would be heard is known."""
        if self.args.play:
            with _speaker(self.args, self.mixer, self.block, sink):
                await asyncio.Event().wait()
        began, blocks = time.monotonic(), 0
        while True:
            blocks += 1
            await asyncio.sleep(max(0.0, began + blocks * PLAY_SECONDS - time.monotonic()))
            samples = self.mixer.pull(self.block)
            if sink is not None:
                sink.audio(samples.T)

    def _report(self, seconds: float) -> None:
        codec, args = self.session.codec, self.args
        unit = codec.hop_length / codec.sample_rate if self.gets_codes else 1 / args.rate
        result: dict[str, Any] = {
            "codec": codec.name, "mode": args.mode, "seconds": seconds, "audio_seconds": self.received * unit,
            "bandwidth_kbps": self.session.welcome.bandwidth, "stated_delay_ms": self.session.welcome.delays.total_ms,
            "delay_p50_ms": None, "delay_p99_ms": None, "reconnects": self.session.reconnects,
            "underruns": self.mixer.underruns if self.paced else None,
            "concealed_samples": self.mixer.concealed if self.paced else None, "again_frames": self.again,
            "redundancy_level": self.session.redundancy_level, "loss": self.session.loss,
        }  # fmt: skip
        if self.delays:
            result["delay_p50_ms"], result["delay_p99_ms"] = (
                round(1000 * float(value), 2) for value in np.percentile(self.delays, [50, 99])
            )
        if self.server:
            result["server"] = self.server
        if args.json:
            print(json.dumps(result))
            return
        parts = [f"{result['audio_seconds']:.2f} s of audio in {seconds:.2f} s", f"{result['bandwidth_kbps']:g} kbps"]
        if self.delays:
            parts.append(f"delay {result['delay_p50_ms']:.0f} ms (99 %: {result['delay_p99_ms']:.0f} ms)")
        if self.paced:
            parts.append(f"underruns {result['underruns']}, concealed {1000 * self.mixer.concealed / args.rate:.0f} ms")
        if self.again:
            parts.append(f"{self.again} frames came again")
        parts.append(f"reconnects {result['reconnects']}")
        print(" | ".join(parts), file=sys.stderr if takes_stdout(args.output) else sys.stdout)
        if self.server:
            print(json.dumps(self.server), file=sys.stderr if takes_stdout(args.output) else sys.stdout)


def vars_of(statistics: Any) -> dict[str, Any]:
    return {name: getattr(statistics, name) for name in statistics.__dataclass_fields__}


async def _stdin(args: Namespace, block: int, told: asyncio.Event) -> AsyncIterator[Samples]:
    """Raw s16le samples, as they come, until they end or `told` is set."""
    size = 2 * args.channels * block
    end = asyncio.ensure_future(told.wait())
    try:
        while True:
            read = asyncio.ensure_future(_in_thread(lambda: _read(size)))
            await asyncio.wait({read, end}, return_when=asyncio.FIRST_COMPLETED)
            data = read.result() if read.done() else b""
            if not data:
                read.cancel()
                return
            whole = len(data) - len(data) % (2 * args.channels)
            rows = np.frombuffer(data[:whole], "<i2").reshape(-1, args.channels)
            yield np.ascontiguousarray(rows.T, np.float32) * np.float32(1 / 32768)
    finally:
        end.cancel()


def _read(size: int) -> bytes:
    """So many bytes of standard input, fewer where it ends. Past Python's buffer, whose lock would outlive the end."""
    data = b""
    while len(data) < size and (more := os.read(sys.stdin.fileno(), size - len(data))):
        data += more
    return data


async def _in_thread(call: Callable[[], bytes]) -> bytes:
    """`call()` in a thread that the end of the program does not wait for, as it does for those of an executor."""
    future: concurrent.futures.Future[bytes] = concurrent.futures.Future()

    def work() -> None:
        future.set_running_or_notify_cancel()
        try:
            future.set_result(call())
        except Exception as error:
            future.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    return await asyncio.wrap_future(future)


@contextlib.contextmanager
def _speaker(args: Namespace, mixer: Any, block: int, sink: "_Sink | None") -> Iterator[None]:
    """The default output device plays the mixer."""
    sd = portaudio("client")

    def fill(out: Any, frames: int, times: Any, status: Any) -> None:
        out[:] = np.clip(mixer.pull(frames), -1, 1)
        if sink is not None:
            sink.audio(out.T.copy())

    try:
        stream = sd.OutputStream(
            samplerate=args.rate, channels=args.channels, blocksize=block, dtype="float32", callback=fill
        )
    except (sd.PortAudioError, ValueError) as error:
        raise InputError(f"--play: no sound device takes {args.rate} Hz, {args.channels} channels: {error}") from error
    with stream:
        yield


class _Sink:
    """Where what comes is kept."""

    def audio(self, samples: Samples) -> None:
        """[C, n]."""

    def codes(self, packet: Any) -> None: ...


def _sink(talk: _Talk, stack: contextlib.ExitStack) -> _Sink:
    args, output = talk.args, talk.output
    if output is None:
        return _RawSink() if args.output == RAW else _Sink()
    if args.mode == "encode":
        return _CodesSink(talk, output, stack)
    writer = stack.enter_context(AudioWriter(output, args.rate, args.channels, talk.form))
    stack.callback(announce_clipping, writer)
    return _AudioSink(writer.write)


class _AudioSink(_Sink):
    def __init__(self, write: Callable[[Samples], object]) -> None:
        self._write = write

    def audio(self, samples: Samples) -> None:
        if samples.shape[1]:
            self._write(samples)


class _RawSink(_Sink):
    def audio(self, samples: Samples) -> None:
        sys.stdout.buffer.write(np.clip(np.rint(samples.T * 32768), -32768, 32767).astype("<i2").tobytes())
        sys.stdout.buffer.flush()


class _CodesSink(_Sink):
    """Codes to a file. The last packet says how long the audio was, so the one before it waits."""

    def __init__(self, talk: _Talk, output: NewFile, stack: contextlib.ExitStack) -> None:
        codec, welcome = talk.session.codec, talk.session.welcome
        header = CodesHeader(
            codec=codec.name, source="", fingerprint=codec.fingerprint, bandwidth=welcome.bandwidth,
            sample_rate=codec.sample_rate, channels=codec.channels, hop_length=codec.hop_length,
            codebook_size=codec.codebook_size, start=welcome.start,
        )  # fmt: skip
        self._writer = stack.enter_context(CodesWriter(output, header))
        self._hop = codec.hop_length
        self._held: Any = None
        stack.callback(self._finish, None)

    def codes(self, packet: Any) -> None:
        if packet.codes.shape[1]:
            self._write(None)
            self._held = packet
        if packet.last:
            self._finish(packet.length)

    def _write(self, length: int | None) -> None:
        packet, self._held = self._held, None
        if packet is None:
            return
        data, scale = packet.codes[None], None if packet.scale is None else packet.scale[None]
        self._writer.write(CodesBlock(data, scale, data.shape[2] * self._hop if length is None else length))

    def _finish(self, total: int | None) -> None:
        self._write(None if total is None else max(0, total - self._writer.length))
