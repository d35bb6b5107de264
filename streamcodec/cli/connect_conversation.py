"""A run of ``streamcodec connect``: what goes out and what comes back, until all of it is there."""

import asyncio
import contextlib
import json
import sys
import time
from argparse import Namespace
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..audio import AudioReader, Samples
from ..errors import InputError
from ..files import GrowingFile, NewFile
from .connect_ends import RAW, Sink, sink_of, speaker, stdin
from .connect_recording import Recording, RoomRecording, codes_reader
from .ends import takes_stdout
from .signals import told_by_signals
from .telling import announce, progress, tell

if TYPE_CHECKING:
    from ..client import Session

__all__ = ["Conversation"]

FAST_SECONDS = 0.25  # of audio in a packet where nobody waits for it
REST_SECONDS = 3.0  # for what is on the way when a signal ends the input
PLAY_SECONDS = 0.01  # of audio that is played at a time


class Conversation:
    """One run of the command. output: the file for what comes, of format `form`; record: that for codes."""

    def __init__(
        self, args: Namespace, session: "Session", output: NewFile | None, form: str, record: GrowingFile | None
    ) -> None:
        from ..client import Mixer

        self.args, self.session, self.output, self.form, self.record = args, session, output, form, record
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
            sink = sink_of(self.args, session, self.output, self.form, stack)
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
                self.server = _vars_of(await session.statistics())

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
        source = stdin(args, block, self.told) if args.input == RAW else self._file(block)
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

    async def _receive(self, sink: Sink) -> None:
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

    async def _play(self, sink: Sink | None) -> None:
        """At the pace of the audio, to the loudspeaker or to nowhere, so that what would be heard is known."""
        if self.args.play:
            with speaker(self.args, self.mixer, self.block, sink):
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


def _vars_of(statistics: Any) -> dict[str, Any]:
    return {name: getattr(statistics, name) for name in statistics.__dataclass_fields__}
