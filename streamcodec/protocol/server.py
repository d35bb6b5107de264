"""The server's end of one session: messages in, events out. Sans-IO: no socket, no clock, no threads.

The host has one object for each connection, and keeps it for as long as the session lives::

    session = ServerSession(offers, Limits(), now)
    for event in session.receive(message, now): ...   # after each message of the connection
    for message in session.messages_to_send(): ...    # after each call
    if session.close: ...                             # then close the connection so

A connection whose first message is `resume` gives the event `Resume`. The host finds the session with that token, calls
its `resume`, goes on with it on the new connection and forgets the new object (or calls `refuse("resume_unknown", ...)`
on it). An old connection that is still there is closed with `REPLACED` and must not report `disconnected` afterwards.

What a peer sends never raises; ValueError and RuntimeError are mistakes of the host's.
"""

from collections.abc import Mapping

from ..entropy import Predictor
from ..packet import LAST, Array, Header
from .agreement import codebooks_at, negotiate
from .end import MAX_HELD, OPEN, End
from .events import Ended, Event, HelloReceived, Lost
from .faults import FAULTS, NORMAL, SHUTDOWN, Close, ProtocolError, Scope
from .limits import Limits
from .link import MODULUS, Arrivals, Bucket, Unacknowledged
from .media import Checks
from .messages import (
    FROM_CLIENT,
    VERSION,
    Acknowledge,
    AskStatistics,
    Bandwidth,
    CodebooksChanged,
    CodecFacts,
    Delays,
    Dropped,
    ErrorMessage,
    Farewell,
    Flush,
    Flushed,
    Goodbye,
    Hello,
    Joined,
    Left,
    LossReport,
    Marker,
    Member,
    Message,
    NewBandwidth,
    Ping,
    Pong,
    Resume,
    Resumed,
    RoomFacts,
    Statistics,
    ToldLimits,
    Welcome,
    parse,
    type_of,
)
from .states import SERVER, Cause, State
from .text import parse as parse_text

__all__ = ["REPLACED", "ServerSession"]

OPENING = (State.HANDSHAKE, State.ADMISSION)
REPLACED = Close(FAULTS["replaced"].close, FAULTS["replaced"].meaning)


class ServerSession(End):
    """See the head of this file. offers: codecs by the name that clients use, the first being the default.

    predictors: those of the entropy models that the offers name, by hash.
    """

    _table = SERVER

    def __init__(
        self, offers: Mapping[str, CodecFacts], limits: Limits, now: float,
        predictors: Mapping[str, Predictor] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(State.HANDSHAKE)
        self._predictors = predictors or {}
        self.limits = limits
        self.bandwidth = 0.0
        self.refused_messages = self.dropped_units = self.reduced_packets = self.resumes = 0
        self._offers = offers
        self._opened = self._heard = self._lost_at = now
        self._clock = 0.0  # what turns `now` into the server's time
        self._session = ""
        self._bucket = Bucket(limits.messages_per_second, limits.burst, now)
        self._window, self._most = limits.unacknowledged_bytes, limits.message_bytes
        self._most_held = 2 * self._window + limits.message_bytes
        self._arrivals = Arrivals(limits.acknowledge_every, limits.unacknowledged_bytes // 4)
        self._pending: list[Event] = []

    @property
    def resumable(self) -> bool:
        """Whether a lost connection leaves the session alive."""
        return self._agreement is not None and self._agreement.hello.resume

    # From the connection

    def receive(self, message: str | bytes, now: float) -> list[Event]:
        """A message of the connection. Nothing is expected after `close` is set: then messages are ignored."""
        if self.close is not None or (self.state is not OPEN and self.state not in OPENING):
            return self._take_pending()
        self._heard = now
        self.received_messages += 1
        self.received_bytes += len(message)
        try:
            wait = self._bucket.take(now)
            if wait:
                rate = self.limits.messages_per_second
                raise ProtocolError(
                    "too_fast", f"more than {rate:g} messages a second", allowed=rate, retry_after=round(wait, 3)
                )
            events = self._receive_text(message, now) if isinstance(message, str) else self._receive_media(message)
        except ProtocolError as error:
            self._fault(error, now)
            events = []
        return events + self._take_pending() if self._pending else events

    def disconnected(self, now: float) -> list[Event]:
        """The connection is gone, whoever closed it. Gives Lost if the session can be resumed, else Ended."""
        self._out.clear()
        self.close = None
        if self.state is State.OPEN:
            self._lose("lost", "the connection was lost", now)
        elif self.state is not State.DETACHED:
            if self.state in (State.HANDSHAKE, State.ADMISSION):
                self._pending.append(Ended("lost", "the connection was lost before the session was open"))
            self._move(Cause.GONE)
        return self._take_pending()

    # The clock

    @property
    def deadline(self) -> float | None:
        """When `tick` has something to do, unless something else happens before."""
        state, limits = self.state, self.limits
        if state is State.OPEN:
            return self._heard + limits.idle_seconds
        if state is State.DETACHED:
            return self._lost_at + limits.resume_seconds
        return self._opened + limits.handshake_seconds if state is State.HANDSHAKE else None

    def tick(self, now: float) -> list[Event]:
        """Ends what has waited too long."""
        deadline = self.deadline
        if deadline is not None and now >= deadline:
            limits = self.limits
            if self.state is State.HANDSHAKE:
                text = f"no hello within {limits.handshake_seconds:g} s"
                self._fault(ProtocolError("handshake_timeout", text, allowed=limits.handshake_seconds), now)
            elif self.state is State.OPEN:
                text = f"no message for {limits.idle_seconds:g} s; send a ping when there is nothing else"
                self._fault(ProtocolError("idle_timeout", text, allowed=limits.idle_seconds), now)
            else:
                self._move(Cause.EXPIRED)
                self._pending.append(Ended("resume_timeout", f"not resumed within {limits.resume_seconds:g} s"))
        return self._take_pending()

    # From the host: the session

    def accept(
        self, session: str, token: str, delays: Delays, now: float, server_time: float, room: RoomFacts | None = None
    ) -> None:
        """Answers HelloReceived: the session is open.

        session: a name for logs; token: a secret of at least 128 bits, both of letters, digits, - and _.
        server_time: seconds since 1970.
        """
        self._require(State.ADMISSION)
        agreed = self._agreed()
        self._move(Cause.ACCEPTED)
        self._heard, self._clock, self._session = now, server_time - now, session
        self._held = Unacknowledged(agreed.hello.resume)
        self._begin_coding(self._predictors.get(agreed.entropy or ""))
        self._begin_measuring()
        self._checks = Checks.of_client(agreed, self.limits, self._coding)
        if agreed.hello.mode != "room":  # there the host knows who is slow
            self._open_valve(agreed.gives, self.limits.acknowledge_every)
        self.bandwidth = agreed.bandwidth
        self._say(
            Welcome(
                version=VERSION, session=session, token=token if agreed.hello.resume else None,
                resume_seconds=self.limits.resume_seconds if agreed.hello.resume else 0.0,
                server_time=server_time, mode=agreed.hello.mode, codec=agreed.codec, bandwidth=agreed.bandwidth,
                codebooks=agreed.codebooks, frames_per_packet=agreed.hello.frames_per_packet, pcm=agreed.pcm,
                crc=agreed.hello.crc, start=agreed.hello.start, entropy=agreed.entropy if self._coding else None,
                delays=delays, limits=told(self.limits), room=room,
                redundancy=agreed.redundancy,
            )
        )  # fmt: skip

    def refuse(
        self, code: str, message: str, now: float, *, allowed: object = None, retry_after: float | None = None
    ) -> list[Event]:
        """Tells of an error of the host's: "busy", "unauthorised", "internal", ... What it ends is in FAULTS."""
        if self.state not in (State.CLOSING, State.CLOSED):
            self._fault(ProtocolError(code, message, allowed=allowed, retry_after=retry_after), now)
        return self._take_pending()

    def resume(self, request: Resume, now: float) -> list[Event]:
        """Goes on, on a new connection, with what the client lacks. Gives Ended where that is not held any more."""
        self._require(State.OPEN, State.DETACHED)
        self._out.clear()
        self.close = None
        lacking = self._held.after(request.last_sequence) if self.resumable else None
        if lacking is None:
            text = f"what follows number {request.last_sequence} is not held any more; open a new session"
            self._fault(ProtocolError("resume_gap", text), now)
            return self._take_pending()
        if request.last_sequence is not None:
            self._held.acknowledge(request.last_sequence)
        self._move(Cause.ACCEPTED)
        self._heard = now
        self._bucket.catch_up(now)
        self.resumes += 1
        last = self._arrivals.last
        self._say(Resumed(session=self._session, last_sequence=last, server_time=now + self._clock))
        for message in lacking:
            self._send(message)
        return self._take_pending()

    def read_again(self, now: float) -> None:
        """The host did not read for a while, to slow the client: what was written meanwhile may come at once."""
        self._bucket.catch_up(now)

    def shut_down(self, retry_after: float | None = None) -> list[Event]:
        """Tells the client that the server goes away, and ends the session."""
        self._goodbye("server_shutdown", "the server is going away", Close(SHUTDOWN, "going away"), retry_after)
        return self._take_pending()

    # From the host: what the client gets. After the end of the session these do nothing.

    def send_pcm(self, samples: Array, *, stream: int = 0, index: int | None = None, last: bool = False) -> None:
        """samples: [C, N], float32 or int16, at the session's rate and channels; index: where some were left out before
        these."""
        if not self._live():
            return
        if self._valve is not None:
            if not self._takes(samples.shape[1], last):
                return
            index = self._after_omitted(index)
        self._send_samples(samples, stream, index, last)

    def send_codes(
        self, codes: Array, *, scale: Array | None = None, stream: int = 0, index: int | None = None,
        last: bool = False, length: int | None = None, reduced: bool = False,
    ) -> None:  # fmt: skip
        """codes: [K, T]; scale: [T] where the codec has one; index: where some were left out before these.

        last: the stream ends, with `length` samples in all, at the codec's rate; its next packet has the index 0 again.
        """
        if not self._live():
            return
        if not self._takes(codes.shape[1], last):
            self.lose(codes, scale, stream)
            return
        self._send_frames(codes, scale, stream, self._after_omitted(index), last, length, reduced)
        self.reduced_packets += reduced

    def change_bandwidth(self, bandwidth: float, frame: int) -> None:
        """Confirms what was asked for: it holds from this frame of the output on."""
        if self._live():
            self.bandwidth = bandwidth
            codebooks = codebooks_at(self._agreed().codec, bandwidth)
            self._say_numbered(
                lambda n: NewBandwidth(sequence=n, bandwidth=bandwidth, codebooks=codebooks, frame=frame)
            )

    def _after_omitted(self, index: int | None) -> int | None:
        """The next index, where something was left out before it, which the client is told."""
        omitted = self._omitted()
        if not omitted:
            return index
        place = self._next_out.get(0, 0)
        self.drop(place, omitted)
        return place + omitted

    def echo(self, marker: str) -> None:
        """All that came before this marker is through: call after the last packet of it."""
        if self._live():
            self._say_numbered(lambda n: Marker(sequence=n, id=marker))

    def flushed(self, length: int) -> None:
        """The flush is through: call after the last packet. length: samples or frames of the output stream."""
        if self._live():
            self._say_numbered(lambda n: Flushed(sequence=n, length=length))

    def drop(self, index: int, count: int, stream: int = 0) -> None:
        """Tells which frames or samples the client will not get. The next packet of the stream follows them."""
        if self._live():
            unit = "frames" if self._agreed().gives == "codes" else "samples"
            self.dropped_units += count
            self._say_numbered(lambda n: Dropped(sequence=n, stream=stream, unit=unit, index=index, count=count))

    def change_codebooks(self, codebooks: int, frame: int, stream: int = 0, agreed: int | None = None) -> None:
        """Tells that packets have fewer codebooks from this frame on, or all again.

        agreed: how many there would be; None for those of the session's bandwidth. A room's speaker may have others.
        """
        if self._live():
            agreed = codebooks_at(self._agreed().codec, self.bandwidth) if agreed is None else agreed
            self._say_numbered(
                lambda n: CodebooksChanged(sequence=n, stream=stream, codebooks=codebooks, agreed=agreed, frame=frame)
            )

    def joined(self, member: Member) -> None:
        if self._live():
            self._say_numbered(lambda n: Joined(sequence=n, member=member))

    def left(self, member: int, reason: str, stream: int | None = None) -> None:
        """stream: what the member spoke on, if it did; the number may be given to another from here on."""
        if self._live():
            if stream is not None:
                self._next_out.pop(stream, None)
                self._forget(stream)
            self._say_numbered(lambda n: Left(sequence=n, id=member, reason=reason))

    def statistics(self, now: float, server: Mapping[str, float] | None = None) -> None:
        """Answers AskStatistics. server: more numbers, of the host's own."""
        if self._live() and self.state is State.OPEN:
            messages, held = self.unacknowledged
            self._say(
                Statistics(
                    seconds=round(now - self._opened, 3), received_messages=self.received_messages,
                    received_bytes=self.received_bytes, refused_messages=self.refused_messages, missing=self.missing,
                    sent_messages=self.sent_messages, sent_bytes=self.sent_bytes, unacknowledged_messages=messages,
                    unacknowledged_bytes=held, dropped=self.dropped_units, reduced_packets=self.reduced_packets,
                    resumes=self.resumes, server=dict(server or {}),
                )
            )  # fmt: skip

    # Inside

    def _require(self, *states: State) -> None:
        if self.state not in states:
            raise RuntimeError(f"the session is {self.state.value}")

    def _live(self) -> bool:
        if self.state is OPEN:
            return True
        if self.state in OPENING:
            raise RuntimeError("the session is not open yet")
        return self.state is State.DETACHED

    def _take_pending(self) -> list[Event]:
        events, self._pending = self._pending, []
        return events

    def _receive_media(self, data: bytes) -> list[Event]:
        if self.state is not OPEN:
            raise ProtocolError("bad_state", "a binary message before welcome; a session begins with hello or resume")
        return self._take_media(bytes(data))

    def _check(self, header: Header) -> None:
        if header.stream or header.flags & LAST:
            raise ProtocolError(
                "bad_message",
                "a packet with a stream number or the flag LAST; a client has stream 0, which ends with a flush",
            )
        super()._check(header)

    def _receive_text(self, text: str, now: float) -> list[Event]:
        values = parse_text(text, self.limits.text_bytes)
        cls = type_of(values, FROM_CLIENT)
        self._check_place(cls)
        sequence = values.get("sequence")
        if not cls.numbered or type(sequence) is not int or not 0 <= sequence < MODULUS:
            return self._message(parse(values, FROM_CLIENT), now)
        self._arrivals.take(sequence, len(text))
        try:
            return self._message(parse(values, FROM_CLIENT), now)
        except ProtocolError as error:
            error.sequence = sequence
            raise
        finally:
            self._acknowledge()

    def _check_place(self, cls: type[Message]) -> None:
        opens = cls in (Hello, Resume)
        if self.state is State.HANDSHAKE and not opens:
            raise ProtocolError("bad_state", f"{cls.type} before hello", allowed=["hello", "resume"])
        if self.state is State.ADMISSION:
            raise ProtocolError("bad_state", f"{cls.type} before the answer to the first message")
        if self.state is State.OPEN and opens:
            raise ProtocolError("bad_state", f"{cls.type} in an open session; a connection has one session")

    def _message(self, message: Message, now: float) -> list[Event]:
        if isinstance(message, Hello):
            self._agreement = negotiate(message, self._offers, self.limits)
            self._move(Cause.ASKED)
            return [HelloReceived(self._agreement)]
        if isinstance(message, Resume):
            if message.version != VERSION:
                raise ProtocolError("unsupported_version", f"version {message.version}", allowed=[VERSION])
            self._move(Cause.ASKED)
        elif isinstance(message, Acknowledge):
            self._acknowledged(message)
            return []
        elif isinstance(message, LossReport):
            self._lossy(message)
            return []
        elif isinstance(message, Ping):
            self._say(Pong(id=message.id, server_time=now + self._clock))
            return []
        elif isinstance(message, Goodbye):
            self._goodbye("client", "goodbye", Close(NORMAL, "goodbye"), None)
            return []
        elif not isinstance(message, AskStatistics):
            self._check_stream_message(message)
        return [message]

    def _check_stream_message(self, message: Message) -> None:
        agreed = self._agreed()
        if isinstance(message, Bandwidth):
            if agreed.takes != "pcm" and agreed.gives != "codes":
                raise ProtocolError("bad_state", "a bandwidth in a session where the server makes no codes")
            codebooks_at(agreed.codec, message.bandwidth)
        elif agreed.takes is None:
            raise ProtocolError("bad_state", f"{message.type} from a listener, who sends no audio")
        elif isinstance(message, Flush):
            if agreed.takes == "pcm" and message.length is not None:
                raise ProtocolError("bad_message", "flush.length where PCM is sent; it is for codes")
            self._next_in[0] = 0

    def _number(self, message: str | bytes, count: int = 0) -> None:
        End._number(self, message, count)
        held = self._held
        if len(held.messages) > MAX_HELD or held.bytes > self._most_held:
            text = f"{len(held)} messages of {held.bytes} bytes are unacknowledged; acknowledge them as they come"
            self._fault(ProtocolError("too_slow", text, allowed=self._window), self._heard)

    def _goodbye(self, reason: str, message: str, close: Close, retry_after: float | None) -> None:
        if self.state in (State.CLOSING, State.CLOSED):
            return
        self._say(Farewell(reason=reason, message=message, retry_after=retry_after))
        self._end("goodbye" if reason == "client" else reason, message, close)

    def _refuse(self, error: ProtocolError) -> None:
        self.refused_messages += 1
        self._tell(error, Scope.MESSAGE)
        if self.refused_messages >= self.limits.refused_messages:
            most = self.limits.refused_messages
            self._fault(ProtocolError("too_many_errors", f"{most} messages were refused", allowed=most), self._heard)

    def _fault(self, error: ProtocolError, now: float) -> None:
        scope, close, meaning = error.fault
        if scope is Scope.MESSAGE and self.state is State.OPEN:
            self._refuse(error)
        elif scope is Scope.CONNECTION and self.state is State.OPEN and self.resumable:
            self._tell(error, Scope.CONNECTION)
            self._lose(error.code, error.message, now)
            self.close = Close(close, meaning)
        else:
            self._tell(error, Scope.SESSION)
            self._end(error.code, error.message, Close(close, meaning))

    def _tell(self, error: ProtocolError, scope: Scope) -> None:
        self._say(
            ErrorMessage(
                code=error.code, scope=scope.value, message=error.message[:2000], sequence=error.sequence,
                allowed=error.allowed, retry_after=error.retry_after,
            )
        )  # fmt: skip

    def _lose(self, code: str, message: str, now: float) -> None:
        if self.resumable:
            self._move(Cause.LOST)
            self._lost_at = now
            self._pending.append(Lost(code))
        else:
            self._move(Cause.GONE)
            self._pending.append(Ended(code, message))

    def _end(self, code: str, message: str, close: Close) -> None:
        self._move(Cause.ENDED)
        self.close = close
        self._held = Unacknowledged(False)
        self._pending.append(Ended(code, message))


def told(limits: Limits) -> ToldLimits:
    """The limits that `welcome` tells."""
    names = ToldLimits.__dataclass_fields__
    return ToldLimits(**{name: getattr(limits, name) for name in names})
