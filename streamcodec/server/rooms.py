"""Rooms: what a speaker says goes to every listener, coded once and decoded at most once."""

from collections.abc import Callable, Iterator

from ..protocol import Member, ProtocolError, RoomFacts
from .listening import CodesListenerStream, Pace, PcmListenerStream
from .live_session import LiveSession
from .shared_decoder import History, SharedDecoder
from .voice import Array, Engines, Frames

__all__ = ["Room", "RoomMember", "Rooms"]


class RoomMember:
    """A member of a room. number: its own; stream: of what it says, None for one that only listens."""

    def __init__(self, room: "Room", live: LiveSession, number: int, stream: int | None, pace: Pace) -> None:
        hello = live.agreement.hello
        assert hello.room is not None
        self.room, self.live, self.stream, self.pace = room, live, stream, pace
        self.facts = Member(id=number, member=hello.room.member, role=hello.room.role, stream=stream)
        self.gets = live.agreement.gives
        asked = hello.bandwidth is not None and live.agreement.takes is None
        self.most = live.agreement.codebooks if asked else live.agreement.codec.num_codebooks  # that it wants to get
        self._codes: dict[int, CodesListenerStream] = {}
        self._pcm: dict[int, PcmListenerStream] = {}
        self._codec = room.engine.codecs[room.codec]
        self._history = History(self._codec)
        self._decoder: SharedDecoder | None = None

    # -- as a speaker

    def spread(self, frames: Frames) -> None:
        """What was said, to all who listen."""
        assert self.stream is not None
        pcm = False
        for member in self.room.listeners(self):
            if member.gets == "codes":
                member.codes_stream(self.stream).hear(frames, self._history.end, member.most)
                member.pump()
            else:
                pcm = True
        if pcm and self._decoder is None:
            self._decoder = SharedDecoder(self, self.room.engine, self._codec, self._history, self.live.credit)
        elif not pcm:
            self.close_decoder()
        self._history.hear(frames)
        if self._decoder is not None:
            self._decoder.hear(frames)

    def end(self, length: int | None) -> int:
        """A stretch ends, the next begins with index 0. length: in samples at the codec's rate; returns its frames."""
        assert self.stream is not None
        frames = self._history.end
        self._history.restart()
        for member in self.room.listeners(self):
            if member.gets == "codes":
                member.codes_stream(self.stream).end(frames, length)
                member.pump()
        if self._decoder is not None:
            self._decoder.end(length)
        return frames

    def decoded(self, audio: Array | None, sample: int, ends: list[int | None]) -> None:
        """Audio [C, n] of what was said, from `sample` of its stretch on, and the ends of stretches after it."""
        assert self.stream is not None
        for member in self.room.listeners(self):
            if member.gets == "pcm":
                stream = member.pcm_stream(self.stream)
                if audio is not None and audio.shape[1]:
                    stream.hear(audio, sample)
                for length in ends:
                    stream.end(length)
                member.pump()

    def decoder_failed(self) -> None:
        """What was said so far cannot be decoded; another decoder is opened for what follows."""
        self._history.forget()
        self.close_decoder()

    def close_decoder(self) -> None:
        if self._decoder is not None:
            self._decoder.close()
            self._decoder = None

    @property
    def backlog(self) -> int:
        """Frames that wait to be decoded for those who hear PCM."""
        return 0 if self._decoder is None else self._decoder.backlog

    @property
    def silent(self) -> bool:
        """Whether all that was said has come to those who listen."""
        return self._decoder is None or self._decoder.silent

    # -- as a listener

    @property
    def hears(self) -> bool:
        """Whether it still listens; who has said goodbye does not, while what it said is on its way."""
        return self.gets is not None and self.live.ended is None

    def codes_stream(self, stream: int) -> CodesListenerStream:
        if stream not in self._codes:
            self._codes[stream] = CodesListenerStream(self.live, stream, self.pace)
            self.pace.heard = len(self._codes)
        return self._codes[stream]

    def pcm_stream(self, stream: int) -> PcmListenerStream:
        if stream not in self._pcm:
            self._pcm[stream] = PcmListenerStream(self.live, stream, self.pace)
            self.pace.heard = len(self._pcm)
        return self._pcm[stream]

    def forget(self, stream: int) -> None:
        self._codes.pop(stream, None)
        self._pcm.pop(stream, None)
        self.pace.heard = len(self._codes) + len(self._pcm)

    def want(self, codebooks: int) -> None:
        self.most = codebooks

    def pump(self) -> None:
        if self.live.link is not None:
            self.live.link.pump()

    def leave(self, reason: str) -> None:
        """reason: as `left` tells it."""
        self.room.leave(self, reason)


class Room:
    """Members and what they say. codec: of all of them."""

    def __init__(self, name: str, codec: str, engine: Engines) -> None:
        self.name, self.codec, self.engine = name, codec, engine
        self.members: dict[int, RoomMember] = {}
        self._numbers = 0

    def listeners(self, speaker: RoomMember) -> Iterator[RoomMember]:
        """Those who hear `speaker`."""
        return (member for member in list(self.members.values()) if member.hears and member is not speaker)

    def enter(self, live: LiveSession, pace: Pace) -> RoomMember:
        """A new member, not yet told to the others."""
        taken = {member.stream for member in self.members.values()}
        stream = None
        if live.agreement.takes is not None:
            stream = next(number for number in range(1, 65536) if number not in taken)
        self._numbers += 1
        member = self.members[self._numbers] = RoomMember(self, live, self._numbers, stream, pace)
        return member

    def facts(self, member: RoomMember) -> RoomFacts:
        """What a new member is told."""
        members = tuple(other.facts for other in self.members.values())
        return RoomFacts(name=self.name, id=member.facts.id, members=members)

    def announce(self, member: RoomMember) -> None:
        """Tell the others of a new member."""
        for other in list(self.members.values()):
            if other is not member:
                other.live.protocol.joined(member.facts)
                other.pump()

    def leave(self, member: RoomMember, reason: str) -> None:
        self.members.pop(member.facts.id, None)
        member.close_decoder()
        for other in list(self.members.values()):
            other.live.protocol.left(member.facts.id, reason, member.stream)
            if member.stream is not None:
                other.forget(member.stream)
            other.pump()


class Rooms:
    """All rooms of a server. lag: seconds from which a listener is slow; members, speakers: of a room at most."""

    def __init__(
        self, engine: Engines, *, members: int, speakers: int, lag: float,
        dropped: Callable[[int], None], reduced: Callable[[], None],
    ) -> None:  # fmt: skip
        self._engine, self._members, self._speakers, self._lag = engine, members, speakers, lag
        self._dropped, self._reduced = dropped, reduced
        self._rooms: dict[str, Room] = {}

    def __len__(self) -> int:
        return len(self._rooms)

    def check(self, name: str, codec: str, speaks: bool) -> None:
        """Raises ProtocolError where the room cannot take another member like this."""
        room = self._rooms.get(name)
        if room is None:
            return
        if room.codec != codec:
            raise ProtocolError("unknown_codec", f"room {name} speaks {room.codec}", allowed=[room.codec])
        if len(room.members) >= self._members:
            raise ProtocolError("room_full", f"room {name} has {self._members} members", allowed=self._members)
        speakers = sum(member.stream is not None for member in room.members.values())
        if speaks and speakers >= self._speakers:
            raise ProtocolError("room_full", f"room {name} has {self._speakers} speakers", allowed=self._speakers)

    def enter(self, name: str, live: LiveSession) -> RoomMember:
        """A new member; call `check` before."""
        codec = live.agreement.codec.name
        room = self._rooms.setdefault(name, Room(name, codec, self._engine))
        return room.enter(live, Pace(live, self._lag, self._dropped, self._reduced))

    def leave(self, member: RoomMember, reason: str) -> None:
        member.leave(reason)
        if not member.room.members:
            self._rooms.pop(member.room.name, None)
