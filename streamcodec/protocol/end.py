"""What both ends of a session have in common: numbering, acknowledgement, and the queue of what is to be sent."""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable

from ..entropy import Predictor
from ..packet import LAST, MAX_INDEX, Array, CodedMessage, CodesMessage, Header, Likeness, pack, pack_pcm
from ..redundancy import Earlier, LossMeter, MeasuredRedundancy
from .agreement import Agreement
from .coding import Coding
from .events import CodesReceived, Event, Missing, PcmReceived
from .faults import Close, ProtocolError
from .link import Arrivals, Unacknowledged, Valve
from .media import Checks, checked_header
from .messages import WAY_SHARE, Acknowledge, LossReport, Message, to_text
from .samples import to_wire
from .states import Cause, State, Table, after

__all__ = ["End"]

OPEN, DETACHED = State.OPEN, State.DETACHED  # for each message: an Enum's member takes many steps to be found

MAX_HELD = (
    16_384  # messages that wait for an acknowledgement: minutes of them, and a few MB of what Python adds to each
)


class End(ABC):
    """One end of a session. Time is an argument (seconds of any monotonic clock), never read.

    state: see `states`. close: how the transport is to close its connection after the messages to send, or None.
    """

    _table: Table

    def __init__(self, state: State) -> None:
        self.state = state
        self.close: Close | None = None
        self._out: deque[str | bytes] = deque()
        self._held = Unacknowledged(True)
        self._arrivals = Arrivals(1, 1)
        self._window = 0
        self._valve: Valve | None = None  # where hello has a max_delay
        self._most = 0  # bytes of a binary message
        self._agreement: Agreement | None = None
        self._checks: Checks | None = None
        self._coding: Coding | None = None  # where entropy coding was agreed
        self._usual: Likeness | None = None  # of the last packet whose header was looked at, and had no flag
        self._next_in: dict[int, int] = {}  # stream: index expected of its next packet
        self._next_out: dict[int, int] = {}
        self._left_out: dict[int, Earlier] = {}  # stream: frames that were not sent, for the next packet
        self.sent_messages = self.sent_bytes = self.received_messages = self.received_bytes = 0
        self.missing = 0  # samples or frames of the input that did not come
        self.again = 0  # frames that were left out and came again with the next packet
        self.measured: MeasuredRedundancy | None = None  # where redundancy by measured loss was agreed
        self._meter: LossMeter | None = None

    def messages_to_send(self) -> list[str | bytes]:
        """What has to go out now, in order: text and binary messages. Each is given once."""
        if not self._out:
            return []
        out = list(self._out)
        self._out.clear()
        return out

    @property
    def writable(self) -> bool:
        """Whether more media may be sent: the session is open or detached, and the peer has acknowledged enough.

        What is sent while detached goes out with the resume.
        """
        held, state = self._held, self.state
        return (state is OPEN or state is DETACHED) and held.bytes < self._window and len(held.messages) < MAX_HELD // 2

    @property
    def unacknowledged(self) -> tuple[int, int]:
        """Messages and bytes that were sent, or wait for a resume, and are held until the peer has them."""
        return len(self._held), self._held.bytes

    def _move(self, cause: Cause) -> None:
        self.state = after(self._table, self.state, cause)

    def _send(self, message: str | bytes) -> None:
        self.sent_messages += 1
        self.sent_bytes += len(message)
        self._out.append(message)

    def _say(self, message: Message) -> None:
        self._send(to_text(message))

    def _number(self, message: str | bytes, count: int = 0) -> None:
        """Sends a message of `count` samples or frames that has the number `_held.next`. While the session is detached
        it is held for the resume."""
        self._held.add(message, count)
        if self.state is OPEN:
            self._send(message)

    def _say_numbered(self, make: Callable[[int], Message]) -> None:
        self._number(to_text(make(self._held.next)))

    def _acknowledge(self) -> None:
        due = self._arrivals.due() if self._held.keep and self.state is OPEN else None
        if due is not None:
            self._say(Acknowledge(sequence=due))

    def _acknowledged(self, message: Acknowledge) -> None:
        if not self._held.acknowledge(message.sequence):
            raise ProtocolError("bad_message", f"ack of number {message.sequence}, which was not sent yet")

    # Media

    def _send_samples(self, samples: Array, stream: int, index: int | None, last: bool) -> None:
        agreement = self._agreed()
        pcm = agreement.pcm
        if pcm is None or samples.ndim != 2 or samples.shape[0] != pcm.channels:
            raise ValueError(f"samples of shape {samples.shape}; they must be [C, N] in the channels agreed")
        count = samples.shape[1]
        index, gap = self._place(stream, index, count, last)
        rows = to_wire(samples, pcm)
        self._number(pack_pcm(self._held.next, index, rows, stream, last, gap, agreement.hello.crc), count)

    def _send_frames(
        self, codes: Array, scale: Array | None, stream: int, index: int | None, last: bool, length: int | None,
        reduced: bool,
    ) -> None:  # fmt: skip
        agreement = self._agreed()
        expected, left_out = self._next_out.get(stream, 0), self._left_out.pop(stream, None)
        index, gap = self._place(stream, index, codes.shape[1], last)
        if left_out is not None and self.measured is not None:
            left_out.frames, left_out.codebooks = self.measured.frames, self.measured.codebooks
        earlier = None if left_out is None else left_out.last(index - expected)
        bits, crc, (codebooks, count) = agreement.codec.bits, agreement.hello.crc, codes.shape

        number, coding = self._held.next, self._coding
        if coding is not None and coding.takes(count) and earlier is None:
            block, anew = coding.encode(codes, stream, gap or index == 0)
            coded = (block, codebooks, count, bits, stream, scale, length, last, gap, reduced, crc, anew)
            message = pack(CodedMessage(number, index, *coded))
        else:
            plain = (codes, bits, stream, scale, length, last, gap, reduced, crc, earlier)
            message = pack(CodesMessage(number, index, *plain))
        self._number(message, count)

    def lose(self, codes: Array, scale: Array | None = None, stream: int = 0) -> None:
        """Frames [K, T] that are not sent: the stream's next packet carries what was agreed of them."""
        agreed = self._agreed().redundancy
        if agreed is not None:
            kept = self._left_out.setdefault(stream, Earlier(agreed.frames, agreed.codebooks))
            kept.push(codes, scale)

    def _place(self, stream: int, index: int | None, count: int, last: bool) -> tuple[int, bool]:
        """The packet's index, and whether something is missing before it. An index must not go back: ValueError."""
        expected = self._next_out.get(stream, 0)
        index = expected if index is None else index
        if not expected <= index <= MAX_INDEX - count:
            raise ValueError(f"index {index} of stream {stream}; {expected} or more is expected")
        self._next_out[stream] = 0 if last else index + count
        return index, index != expected

    def _open_valve(self, kind: str | None, usual: int) -> None:
        """What this end sends ("pcm" or "codes") is bounded by its share of max_delay."""
        agreement = self._agreed()
        codec, seconds = agreement.codec, agreement.hello.max_delay
        if seconds is None or kind is None:
            return
        rate = codec.sample_rate / codec.hop_length
        if kind == "pcm" and agreement.pcm is not None:
            rate = agreement.pcm.sample_rate
        self._valve = Valve(seconds * WAY_SHARE * rate, usual)

    def _takes(self, count: int, last: bool) -> bool:
        """Whether media are sent; else they are left out, since they would be late. A last packet always is."""
        return self._valve is None or last or self._valve.takes(count, self._held)

    def _omitted(self) -> int:
        """Samples or frames that were left out before what is sent now."""
        if self._valve is None:
            return 0
        omitted, self._valve.omitted = self._valve.omitted, 0
        return omitted

    def leave_out(self, count: int) -> None:
        """With a max_delay: so many samples or frames are not sent, as while there is no connection."""
        if self._valve is not None:
            self._valve.leave_out(count)

    @property
    def left_out(self) -> int:
        """Samples or frames that were not sent, since with what was on its way they would have been late."""
        return 0 if self._valve is None else self._valve.left_out

    def _begin_coding(self, predictor: Predictor | None) -> None:
        """From here on packets of codes are entropy coded, where a model was agreed."""
        codec = self._agreed().codec
        if self._agreed().entropy is not None and predictor is not None:
            self._coding = Coding(predictor, codec.sample_rate / codec.hop_length)

    def _begin_measuring(self) -> None:
        """From here on what does not come is told, and what the peer tells decides what is carried."""
        codec, agreed = self._agreed().codec, self._agreed().redundancy
        if agreed is not None and agreed.measured:
            rate = codec.sample_rate / codec.hop_length
            self.measured = MeasuredRedundancy(agreed.frames, agreed.codebooks, rate)
            self._meter = LossMeter(rate)

    def _measure(self, events: list[Event], begun: bool) -> None:
        """Count what came. begun: whether the stream was heard before; what was sent before that is not lost."""
        for event in events:
            if isinstance(event, CodesReceived):
                count, lost = event.codes.shape[1], event.again
                self.again += count if lost else 0
            elif isinstance(event, Missing):
                count, lost = event.count, True
                self.missing += count
                if not begun:
                    continue
            else:
                continue
            if self._meter is not None:
                self._meter.count(count, lost)
        report = None if self._meter is None or self.state is not OPEN else self._meter.report()
        if report is not None:
            self._say(LossReport(frames=report[0], missing=report[1]))

    def _lossy(self, report: LossReport) -> None:
        """What the peer lacked."""
        if self.measured is None:
            raise ProtocolError("bad_state", "loss in a session where redundancy by measured loss was not agreed")
        if report.missing > report.frames:
            text = f"loss.missing is {report.missing} of {report.frames} frames"
            raise ProtocolError("bad_message", text, allowed=[0, report.frames])
        self.measured.take(report.frames, report.missing)

    def _forget(self, stream: int) -> None:
        """The stream's number may be given to another."""
        self._left_out.pop(stream, None)
        if self._coding is not None:
            self._coding.forget(stream)

    def _agreed(self) -> Agreement:
        assert self._agreement is not None, "there is no media before the session is open"
        return self._agreement

    def _take_media(self, data: bytes) -> list[Event]:
        """A binary message. Raises ProtocolError where the packet's place in its stream is not known; otherwise what is
        wrong with it is told to `_refuse`, and its place is Missing."""
        usual = None if self._usual is None else self._usual.read_header(data)
        header = usual or checked_header(data, self._most)
        self._arrivals.take(header.sequence, len(data))
        try:
            if usual is None:
                self._check(header)
                self._usual = None if header.flags else Likeness(data, header)
            begun = header.stream in self._next_in
            events = self._placed(data, header)
            if len(events) != 1 or not isinstance(events[0], PcmReceived):
                self._measure(events, begun)
            return events
        except ProtocolError as error:
            error.sequence = header.sequence
            raise
        finally:
            self._acknowledge()

    def _check(self, header: Header) -> None:
        """Raises ProtocolError for a packet that this session cannot take, whatever its numbers are."""
        assert self._checks is not None, "there is no media before the session is open"
        self._checks.header(header)

    def _placed(self, data: bytes, header: Header) -> list[Event]:
        checks, stream = self._checks, header.stream
        assert checks is not None, "there is no media before the session is open"
        expected = self._next_in.get(stream, 0)
        gap = checks.gap_before(header, expected)
        self._next_in[stream] = 0 if header.flags & LAST else header.index + header.count
        try:
            return checks.content(data, header, self._most, expected)
        except ProtocolError as error:
            error.sequence = header.sequence
            try:
                self._refuse(error)
            except ProtocolError:
                self._next_in[stream] = expected  # it may be sent again
                raise
            before: list[Event] = [Missing(expected, gap, stream)] if gap else []
            return [*before, Missing(header.index, header.count, stream)] if header.count else before

    @abstractmethod
    def _refuse(self, error: ProtocolError) -> None:
        """Content of a packet that cannot be taken; raises where that ends the connection."""
