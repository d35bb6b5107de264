"""The client's end of one session: the mirror of `server`, as sans-IO. It acknowledges, resends and counts by itself.

::

    session = ClientSession()
    session.hello(Hello(version=VERSION, mode="encode", pcm=PcmFormat(format="f32le", sample_rate=24000)))
    ... send session.messages_to_send(), after each call ...
    for event in session.receive(message): ...        # after each message of the connection

When the connection is lost call `disconnected`; if the state is DETACHED then, connect again and call `resume`.
"""

from typing import ClassVar

from ..entropy import Predictor
from ..packet import CODES, PCM, Array
from .agreement import Agreement, directions
from .end import End
from .events import Ended, Event, Lost
from .faults import NORMAL, Close, ProtocolError, Scope
from .link import Arrivals, Unacknowledged
from .media import Checks
from .messages import (
    FROM_SERVER,
    VERSION,
    Acknowledge,
    AskStatistics,
    Bandwidth,
    ErrorMessage,
    Farewell,
    Flush,
    Goodbye,
    Hello,
    Joined,
    Left,
    LossReport,
    Marker,
    Message,
    Ping,
    Resume,
    Resumed,
    Welcome,
    parse,
)
from .states import CLIENT, Cause, State
from .text import parse as parse_text

__all__ = ["ClientSession"]

MOST_GAP = 1.0  # seconds that stand for what was left out; who listens would not wait for more
MAX_BYTES = 2**24  # of one message of the server's: welcome to a room with thousands of members has some 100 kB


class ClientSession(End):
    """See the head of this file. welcome: the server's answer, once it came.

    predictor: of the entropy model whose hash is in hello.
    """

    _table = CLIENT
    _answers: ClassVar[tuple[type[Message], ...]] = (Welcome, Resumed)

    def __init__(self, predictor: Predictor | None = None) -> None:
        super().__init__(State.START)
        self._predictor = predictor
        self.welcome: Welcome | None = None
        self._hello: Hello | None = None
        self._most = MAX_BYTES
        self._streams: dict[int, int | None] = {}  # id of a room's member: its stream

    # To the server

    def hello(self, hello: Hello) -> None:
        """Opens the session. Raises RuntimeError if it was opened before."""
        self._require(State.START)
        self._hello = hello
        self._move(Cause.ASKED)
        self._say(hello)

    def resume(self) -> None:
        """On a new connection: goes on. The answer is Resumed, or an error that ends the session."""
        self._require(State.DETACHED)
        token = self.welcome.token if self.welcome else None
        assert token is not None, "a session without a token is never detached"
        self.close = None
        self._move(Cause.ASKED)
        self._say(Resume(version=VERSION, token=token, last_sequence=self._arrivals.last))

    def send_pcm(self, samples: Array, *, index: int | None = None) -> None:
        """samples: float32 [C, N], in the rate and channels of hello; index: where some were left out before.

        With a max_delay in hello they may be left out: see `left_out`.
        """
        self._require(State.OPEN, State.DETACHED)
        if self._takes(samples.shape[1], False):
            self._send_samples(samples, 0, self._after_omitted(index), False)

    def send_codes(self, codes: Array, *, scale: Array | None = None, index: int | None = None) -> None:
        """codes: [K, T]; scale: [T] where the codec has one; index: where some were left out before. As `send_pcm`."""
        self._require(State.OPEN, State.DETACHED)
        if self._takes(codes.shape[1], False):
            self._send_frames(codes, scale, 0, self._after_omitted(index), False, None, False)
        else:
            self.lose(codes, scale)

    def change_bandwidth(self, bandwidth: float) -> None:
        """kbps, from here on."""
        self._require(State.OPEN, State.DETACHED)
        self._say_numbered(lambda n: Bandwidth(sequence=n, bandwidth=bandwidth))

    def mark(self, marker: str) -> None:
        """A marker, which comes back when all that was sent before it is through."""
        self._require(State.OPEN, State.DETACHED)
        self._say_numbered(lambda n: Marker(sequence=n, id=marker))

    def flush(self, length: int | None = None) -> None:
        """The stream ends. length: its samples at the codec's rate, where codes are sent. The next index is 0."""
        self._require(State.OPEN, State.DETACHED)
        self._next_out[0] = 0
        self._left_out.pop(0, None)
        self._omitted()
        self._say_numbered(lambda n: Flush(sequence=n, length=length))

    def ask_statistics(self) -> None:
        self._require(State.OPEN)
        self._say(AskStatistics())

    def ping(self, name: str) -> None:
        self._require(State.OPEN)
        self._say(Ping(id=name))

    def goodbye(self) -> None:
        """Done: the server drops the session, says goodbye and closes the connection."""
        self._require(State.OPEN)
        self._say(Goodbye())

    # From the server

    def receive(self, message: str | bytes) -> list[Event]:
        """A message of the connection. What is wrong with it ends the connection, with Lost or Ended as an event."""
        if self.close is not None or self.state not in (State.HANDSHAKE, State.OPEN):
            return []
        self.received_messages += 1
        self.received_bytes += len(message)
        try:
            if isinstance(message, str):
                return self._receive_text(message)
            if self.state is not State.OPEN:
                raise ProtocolError("bad_state", "a binary message before welcome")
            return self._take_media(bytes(message))
        except ProtocolError as error:
            return self._fault(error)

    def disconnected(self) -> list[Event]:
        """The connection is gone. The state is DETACHED if the session can be resumed, else CLOSED."""
        self._out.clear()
        self.close = None
        if self.state in (State.HANDSHAKE, State.OPEN):
            return self._lose("lost", "the connection was lost")
        self._move(Cause.LOST if self.state is State.DETACHED else Cause.GONE)
        return []

    # Inside

    def _after_omitted(self, index: int | None) -> int | None:
        """The next index, where something was left out before it: the server makes up for that."""
        omitted, agreement = self._omitted(), self._agreed()
        if not omitted or index is not None:
            return index
        codec, pcm = agreement.codec, agreement.pcm
        rate = codec.sample_rate / codec.hop_length if agreement.takes == "codes" or pcm is None else pcm.sample_rate
        return self._next_out.get(0, 0) + min(omitted, round(MOST_GAP * rate))

    def _require(self, *states: State) -> None:
        if self.state not in states:
            raise RuntimeError(f"the session is {self.state.value}")

    def _receive_text(self, text: str) -> list[Event]:
        values = parse_text(text, MAX_BYTES)
        message = parse(values, FROM_SERVER)
        if message.numbered:
            if self.state is not State.OPEN:
                raise ProtocolError("bad_state", f"{message.type} before welcome or resumed")
            self._arrivals.take(values["sequence"], len(text))
            self._acknowledge()
        return self._message(message)

    def _message(self, message: Message) -> list[Event]:
        ends = isinstance(message, (ErrorMessage, Farewell))
        if not ends and isinstance(message, self._answers) != (self.state is State.HANDSHAKE):
            raise ProtocolError("bad_state", f"{message.type} in a session that is {self.state.value}")
        if isinstance(message, Welcome):
            self._welcomed(message)
        elif isinstance(message, Resumed):
            self._resumed(message)
        elif isinstance(message, Acknowledge):
            self._acknowledged(message)
            return []
        elif isinstance(message, LossReport):
            self._lossy(message)
            return []
        elif isinstance(message, Joined):
            self._streams[message.member.id] = message.member.stream
        elif isinstance(message, Left):
            # The number of its stream may be given to somebody else, who begins at index 0.
            stream = self._streams.pop(message.id, None)
            if stream is not None:
                self._next_in.pop(stream, None)
                self._forget(stream)
        elif isinstance(message, ErrorMessage):
            return self._error(message)
        elif isinstance(message, Farewell):
            self._move(Cause.ENDED)
            self.close = Close(NORMAL, "goodbye")
            return [message, Ended("goodbye" if message.reason == "client" else message.reason, message.message)]
        return [message]

    def _welcomed(self, welcome: Welcome) -> None:
        hello = self._hello
        if self.welcome is not None or hello is None:
            raise ProtocolError("bad_state", "welcome where resumed is expected")
        takes, gives = directions(hello)
        self.welcome, limits = welcome, welcome.limits
        self._streams = {member.id: member.stream for member in welcome.room.members} if welcome.room else {}
        if welcome.entropy not in (None, hello.entropy):
            raise ProtocolError("bad_message", "welcome has another entropy model than hello")
        self._agreement = Agreement(
            hello, welcome.codec, welcome.bandwidth, welcome.codebooks, welcome.pcm, takes, gives, welcome.entropy,
            welcome.redundancy,
        )  # fmt: skip
        self._begin_coding(self._predictor)
        self._begin_measuring()
        kind = {"pcm": PCM, "codes": CODES, None: 0}[gives]
        self._checks = Checks.of_server(kind, welcome.codec, welcome.pcm, self._coding)
        self._window = limits.unacknowledged_bytes
        self._held = Unacknowledged(welcome.token is not None)
        self._arrivals = Arrivals(limits.acknowledge_every, limits.unacknowledged_bytes // 4)
        self._open_valve(takes, limits.acknowledge_every)
        self._move(Cause.ACCEPTED)

    def _resumed(self, message: Resumed) -> None:
        lacking = self._held.after(message.last_sequence)
        if self.welcome is None or lacking is None:
            raise ProtocolError("resume_gap", "the server resumes from a message that this end does not hold any more")
        if message.last_sequence is not None:
            self._held.acknowledge(message.last_sequence)
        self._move(Cause.ACCEPTED)
        for numbered in lacking:
            self._send(numbered)

    def _error(self, message: ErrorMessage) -> list[Event]:
        if message.scope == Scope.MESSAGE.value:
            if self._coding is not None:
                self._coding.restart()
            return [message]
        if message.scope == Scope.CONNECTION.value:
            return [message, *self._lose(message.code, message.message)]
        self._move(Cause.ENDED)
        self.close = Close(NORMAL, message.code)
        return [message, Ended(message.code, message.message)]

    def _lose(self, code: str, message: str) -> list[Event]:
        if self.welcome is not None and self.welcome.token is not None:
            self._move(Cause.LOST)
            return [Lost(code)]
        self._move(Cause.GONE)
        return [Ended(code, message)]

    def _refuse(self, error: ProtocolError) -> None:
        """A server whose packets cannot be read: nothing that follows would be better, but what it sends again."""
        if error.code == "bad_coding":
            self._arrivals.give_back()
        raise error

    def _fault(self, error: ProtocolError) -> list[Event]:
        """The server is at fault: the connection is closed. Damage and gaps can be mended by a resume."""
        self.close = Close(error.fault.close, error.fault.meaning)
        if error.fault.scope is Scope.CONNECTION or error.code == "bad_coding":
            return self._lose(error.code, error.message)
        self._move(Cause.ENDED)
        return [Ended(error.code, error.message)]
