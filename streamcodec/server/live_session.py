"""A live session: what it was sent, its voice in the engine, and what comes back. It outlives its connections."""

from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from ..protocol import (
    Agreement,
    CodesReceived,
    Ended,
    Event,
    Lost,
    Missing,
    PcmReceived,
    ServerSession,
    State,
)
from ..protocol.messages import AskStatistics, Bandwidth, Flush, Marker
from .conversion import FramePackets, Inlet, Outlet, no_frames, part
from .voice import Array, Engines, Frames, Output, Repeats, Voice

__all__ = ["Link", "LiveSession", "Membership"]

MISSING = 48_000  # samples made at a time for those that a client left out
REPEAT_SECONDS = 0.08  # for which the last frame of codes is repeated, where the next ones did not come


class Link(Protocol):
    """The connection of a session, as it sees it."""

    @property
    def waiting(self) -> int:
        """Messages that the transport has not taken yet."""

    @property
    def waiting_bytes(self) -> int: ...

    def pump(self) -> None:
        """Send what the protocol has to send."""

    def unpark(self) -> None:
        """The session has room again."""

    def replaced(self) -> None:
        """Another connection has the session now."""


class Membership(Protocol):
    """A session's membership of a room, as the session sees it; `RoomMember` has it."""

    def spread(self, frames: Frames) -> None:
        """What was said, to all listeners."""

    def end(self, length: int | None) -> int:
        """A stretch of what is said ends; returns its frames."""

    def leave(self, reason: str) -> None: ...

    def want(self, codebooks: int) -> None: ...

    @property
    def backlog(self) -> int:
        """Frames on the way to those who hear PCM."""

    @property
    def silent(self) -> bool:
        """Whether all that was said has come to those who listen."""


class LiveSession:
    """One session from welcome to its end.

    protocol: its end of the wire. credit: frames that may be in the engine. ended: why it is over for its client; what
    one who spoke in a room said before still goes to those who listen, and only then `over` is called, once.
    """

    def __init__(
        self,
        name: str,
        protocol: ServerSession,
        agreement: Agreement,
        address: str,
        engine: Engines,
        credit: int,
        clock: Callable[[], float],
        over: Callable[["LiveSession", Ended], None],
        lost: Callable[["LiveSession", Lost], None],
    ) -> None:
        self.name, self.protocol, self.agreement, self.address = name, protocol, agreement, address
        self.link: Link | None = None
        self.token = b""  # the digest of its token
        self.counted = (0, 0, 0, 0)  # messages and bytes received, and sent, that are in the metrics
        self.membership: Membership | None = None
        self.ended: Ended | None = None
        self.draining = False
        self.catching_up = False  # since a resume: what it lacked is on its way
        self.progress = clock()  # when input was last taken in
        self._clock, self._over, self._lost = clock, over, lost
        self._engine = engine
        codec, hello = agreement.codec, agreement.hello
        self._unit = codec.hop_length if agreement.takes == "pcm" else 1  # input units of a frame
        self.credit, self._credit = credit, credit * self._unit
        self._sent = self._taken = 0  # input units: given to the voice, and of those the ones that went into a step
        self._inbox: deque[tuple[str, Any]] = deque()
        self._inlet = Inlet(agreement.pcm, codec) if agreement.takes == "pcm" and agreement.pcm else None
        self._direct = hello.mode != "room"
        self._packets = FramePackets(hello.frames_per_packet)
        self._outlet = None
        if self._direct and agreement.gives == "pcm" and agreement.pcm:
            self._outlet = Outlet(agreement.pcm, codec, hello.frames_per_packet * codec.hop_length)
        self._depth = agreement.codebooks
        self.concealed = 0  # frames that did not come, or samples for which the sound before them goes on
        self._repeats = Repeats(
            max(1, round(REPEAT_SECONDS * codec.sample_rate / codec.hop_length)),
            lambda frames, codebooks: engine.silence(codec.name, frames, codebooks),
        )
        self._frames = self._length = 0  # of the stream that comes out
        self._fresh = True  # nothing of the stream has been taken in yet
        self._flushes = 0  # of the voice, not answered yet
        self._closed = False
        self._feeds: dict[str, Callable[[Any, int], Any]] = {
            "pcm": self._feed_pcm,
            "codes": self._feed_codes,
            "missing": self._feed_missing,
            "skip": self._feed_skip,
            "bandwidth": self._feed_bandwidth,
            "marker": self._feed_marker,
            "flush": self._feed_flush,
        }
        self.voice = self._open_voice()

    def _open_voice(self) -> Voice | None:
        agreement, mode = self.agreement, self.agreement.hello.mode
        direction = mode if self._direct else "encode" if agreement.takes == "pcm" else None
        if direction is None:
            return None
        hello = agreement.hello
        int16 = self._outlet is not None and self._outlet.takes_int16
        return Voice(
            self._engine, agreement.codec.name, direction, hello.start, agreement.bandwidth, self.voiced, int16
        )

    # -- what comes in ---------------------------------------------------------------------------------------------

    def take(self, events: list[Event]) -> None:
        """What the protocol told."""
        for event in events:
            if isinstance(event, PcmReceived):
                self._inbox.append(("pcm", event.rows))
            elif isinstance(event, CodesReceived):
                self._inbox.append(("codes", Frames(event.codes, event.scale)))
                self._depth = event.codes.shape[0]
            elif isinstance(event, Missing):
                self._inbox.append(("skip" if self._behind else "missing", event.count))
            elif isinstance(event, (Bandwidth, Marker, Flush)):
                self._inbox.append((event.type, event))
            elif isinstance(event, AskStatistics):
                self.protocol.statistics(self._clock(), self._counts())
            elif isinstance(event, Lost):
                self._lost(self, event)
            elif isinstance(event, Ended):
                self._finish(event)
        self.feed()

    def _counts(self) -> dict[str, float]:
        """What `statistics` tells beside what the protocol counts."""
        counts: dict[str, float] = {
            "waiting": self._sent - self._taken, "concealed": self.concealed, "again": self.protocol.again,
        }  # fmt: skip
        measured = self.protocol.measured
        if measured is not None:
            counts |= {"redundancy_level": measured.level, "loss": round(measured.loss, 4)}
        return counts

    @property
    def full(self) -> bool:
        """Whether the client has to wait: what it sent before is not taken in yet."""
        return bool(self._inbox)

    @property
    def _behind(self) -> bool:
        """Whether sound for what a client left out, so as not to be late, would make what follows late."""
        bounded = self.agreement.hello.max_delay is not None
        return bounded and (self.full or self._sent - self._taken > self._credit // 2)

    @property
    def _room(self) -> int:
        """Input units that the voice may be given now."""
        protocol, link = self.protocol, self.link
        if self.ended is None:  # what comes of it has to be given to the client
            behind = link is not None and link.waiting_bytes > protocol.limits.message_bytes
            if behind or not protocol.writable:
                return 0
        waiting = self._sent - self._taken
        if self.membership is not None:
            waiting = max(waiting, self.membership.backlog * self._unit)
        return self._credit - waiting

    def feed(self) -> None:
        """Give the voice of the inbox what it has room for."""
        inbox = self._inbox
        fed = False
        while inbox and not self._closed and (room := self._room) > 0:
            kind, item = inbox.popleft()
            rest = self._feeds[kind](item, room)
            if rest is not None:
                inbox.appendleft((kind, rest))
            fed = True
        if fed:
            self.progress = self._clock()
            if self.link is not None and not inbox:
                self.link.unpark()
        if self.ended is not None and self.drained:
            self._close()

    def _feed_pcm(self, rows: Array, room: int) -> Array | None:
        assert self._inlet is not None
        self._fresh = False
        most = self._samples(room)
        if len(rows) <= most:
            self._say(self._inlet.push(rows))
            return None
        self._say(self._inlet.push(rows[:most]))
        return rows[most:]

    def _samples(self, room: int) -> int:
        """Samples of the client's that become so many of the codec's."""
        assert self._inlet is not None
        resampler = self._inlet.resampler
        return max(1, room * resampler.source // resampler.target)

    def _say(self, audio: Array) -> None:
        if audio.shape[1] and self.voice is not None:
            self._sent += audio.shape[1]
            self.voice.feed(audio)

    def _feed_codes(self, frames: Frames, room: int) -> Frames | None:
        self._fresh = False
        now = part(frames, 0, room) if frames.codes.shape[1] > room else frames
        if self.voice is not None:
            self._sent += now.codes.shape[1]
            self.voice.feed_codes(now)
        elif self.membership is not None:
            self._repeats.hear(now)
            self.membership.spread(now)
        return part(frames, room, frames.codes.shape[1]) if now is not frames else None

    def _feed_missing(self, count: int, room: int) -> int | None:
        self._fresh = False
        if self._inlet is not None:
            before, now = self._inlet.concealed, min(count, MISSING, self._samples(room))
            self._say(self._inlet.missing(now))
            self.concealed += self._inlet.concealed - before
            return count - now or None
        now = min(count, room)
        self.concealed += now
        if self.voice is not None:
            self._sent += now
            self.voice.feed_missing(now, self._depth)
        elif self.membership is not None:
            for frames in self._repeats.take(now, self._depth):
                self.membership.spread(frames)
        return count - now or None

    def _feed_skip(self, count: int, room: int) -> None:
        """No time for the missing: what comes back has a gap as long, so that it keeps its place."""
        if self.voice is not None and self._inlet is not None and self._outlet is not None:
            self.voice.mark(count)

    def _feed_bandwidth(self, message: Bandwidth, room: int) -> None:
        codec = self.agreement.codec
        if self.membership is not None and self.agreement.gives == "codes":
            self.membership.want(codec.bandwidth_codebooks[codec.bandwidths.index(message.bandwidth)])
        if self.voice is not None and self._inlet is not None:
            self.voice.change(message.bandwidth)
        else:
            self.protocol.change_bandwidth(message.bandwidth, 0)

    def _feed_marker(self, message: Marker, room: int) -> None:
        if self.voice is None:
            self.protocol.echo(message.id)
        else:
            self.voice.mark(message.id)

    def _feed_flush(self, message: Flush | None, room: int) -> None:
        """message: None where it is the server that ends the stream, before it goes away."""
        if self._inlet is not None:
            self._say(self._inlet.finish())
        self._fresh = True
        self._repeats.restart()
        if self.voice is not None:
            self._flushes += 1
            self.voice.flush(message)
        elif self.membership is not None:
            frames = self.membership.end(None if message is None else message.length)
            self._flushed(message, frames)

    # -- what comes back -------------------------------------------------------------------------------------------

    def voiced(self, output: Output) -> None:
        """What the voice gave."""
        if self._closed:
            return
        self._taken = output.taken
        if output.error is not None:
            self.take(self.protocol.refuse("internal", "the codec failed on this session", self._clock()))
            self._close()
        else:
            self._give(output)
        if self._inbox or self.ended is not None:
            self.feed()
        if self.link is not None:
            self.link.pump()

    def _give(self, output: Output) -> None:
        answers = deque(output.answers)
        self._length += output.length
        for frames in output.frames:
            while answers and answers[0][0] == "bandwidth" and answers[0][2] <= self._frames:
                self._answer(*answers.popleft())
            self._frames += frames.codes.shape[1]
            self._depth = frames.codes.shape[0]
            if self.membership is not None:
                self.membership.spread(frames)
            else:
                for packet in self._packets.push(frames):
                    self.protocol.send_codes(packet.codes, scale=packet.scale)
        if output.audio is not None and self._outlet is not None:
            for samples in self._outlet.push(output.audio):
                self.protocol.send_pcm(samples)
        for answer in answers:
            self._answer(*answer)

    def _answer(self, kind: str, tag: Any, frames: int) -> None:
        if kind == "bandwidth":
            self.protocol.change_bandwidth(tag, frames)
        elif kind == "mark" and isinstance(tag, int):
            assert self._outlet is not None, "only what is decoded is given a gap"
            self.protocol.leave_out(tag)
            self._outlet.index += tag
        elif kind == "mark":
            self.protocol.echo(tag)
        elif kind == "flushed":
            self._flushes -= 1
            self._flushed(tag, self._end_of_output(tag))

    def _end_of_output(self, message: Flush | None) -> int:
        """Send the last packet of the stream; its length in samples or frames."""
        frames, length = self._frames, self._length
        self._frames = self._length = 0
        if self.membership is not None:
            return self.membership.end(length)
        if self._outlet is None:
            scaled = self.agreement.codec.scaled
            rest = self._packets.take() if self._packets.count else no_frames(self._depth, scaled)
            self.protocol.send_codes(rest.codes, scale=rest.scale, last=True, length=length)
            return frames
        *packets, last = self._outlet.finish(None if message is None else message.length)
        for samples in packets:
            self.protocol.send_pcm(samples)
        self.protocol.send_pcm(last, last=True)
        length = self._outlet.index
        self._outlet.restart()
        if message is not None and message.length is not None:
            # Less than was sent where that was before the length was known: the client cuts there.
            length = min(length, self._outlet.resampler.length(message.length))
        return length

    def _flushed(self, message: Flush | None, length: int) -> None:
        if message is not None:
            self.protocol.flushed(length)

    # -- ends ------------------------------------------------------------------------------------------------------

    def drain(self) -> None:
        """Take no more input; what came is finished, and its stream ended. `drained` says when."""
        if self.draining:
            return
        self.draining = True
        ends = self._inbox[-1][0] == "flush" if self._inbox else self._fresh
        if self.agreement.takes is not None and not ends:
            self._inbox.append(("flush", None))
        self.feed()

    @property
    def drained(self) -> bool:
        """Whether all input has been taken in, and what came of it has gone out."""
        if not self.draining or self.agreement.takes is None:
            return self.draining
        return not self._inbox and not self._flushes and (self.membership is None or self.membership.silent)

    @property
    def speaks(self) -> bool:
        """Whether others hear what it sends."""
        return self.membership is not None and self.agreement.takes is not None

    def _finish(self, ended: Ended) -> None:
        if self.ended is not None:
            return
        self.ended = ended
        self.progress = self._clock()
        if self.speaks and ended.code != "internal":
            self.drain()
            self.feed()
        else:
            self._close()

    def abandon(self, code: str, message: str) -> None:
        """End it without a word to anyone: for one whose state cannot be trusted any more."""
        self.ended = self.ended or Ended(code, message)
        self._close()

    def _close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._inbox.clear()
        assert self.ended is not None
        try:
            if self.voice is not None:
                self.voice.close()
        finally:
            self._over(self, self.ended)

    def tick(self, now: float) -> None:
        """What has waited too long."""
        protocol = self.protocol
        idle = protocol.limits.idle_seconds
        if self.ended is not None:
            if now - self.progress >= idle:
                self._close()
        elif self.full and protocol.state is State.OPEN:
            if now - self.progress >= idle:
                text = f"nothing that was sent to this client was taken for {idle:g} s"
                self.take(protocol.refuse("too_slow", text, now))
        else:
            self.take(protocol.tick(now))
        if self.link is not None:
            self.link.pump()

    @property
    def lag(self) -> float:
        """Packets on their way to the client beyond those that any client has: 0 for one that keeps up."""
        protocol = self.protocol
        if self.link is None or protocol.resumable:
            return float(max(0, protocol.unacknowledged[0] - protocol.limits.acknowledge_every))
        return float(self.link.waiting)
