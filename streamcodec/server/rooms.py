"""Rooms: what a speaker says goes to every listener, coded once and decoded at most once."""

from collections.abc import Callable, Iterator

from ..protocol import Member, ProtocolError, RoomFacts
from .dub import Dub, History
from .listening import CodesEar, Pace, PcmEar
from .live import Live
from .voice import Array, Engines, Frames

__all__ = ["Place", "Room", "Rooms"]


class Place:
    """A member of a room. number: its own; stream: of what it says, None for one that only listens."""

    def __init__(self, room: "Room", live: Live, number: int, stream: int | None, pace: Pace) -> None:
        hello = live.agreement.hello
        assert hello.room is not None
        self.room, self.live, self.stream, self.pace = room, live, stream, pace
        self.facts = Member(id=number, member=hello.room.member, role=hello.room.role, stream=stream)
        self.gets = live.agreement.gives
        asked = hello.bandwidth is not None and live.agreement.takes is None
        self.most = live.agreement.codebooks if asked else live.agreement.codec.num_codebooks  # that it wants to get
        self._codes: dict[int, CodesEar] = {}
        self._pcm: dict[int, PcmEar] = {}
        self._codec = room.engine.codecs[room.codec]
        self._history = History(self._codec)
        self._dub: Dub | None = None

    # -- as a speaker

    def spread(self, frames: Frames) -> None:
        """What was said, to all who listen."""
        assert self.stream is not None
        pcm = False
        for place in self.room.listeners(self):
            if place.gets == "codes":
                place.codes_ear(self.stream).hear(frames, self._history.end, place.most)
                place.pump()
            else:
                pcm = True
        if pcm and self._dub is None:
            self._dub = Dub(self, self.room.engine, self._codec, self._history, self.live.credit)
        elif not pcm:
            self._close_dub()
        self._history.hear(frames)
        if self._dub is not None:
            self._dub.hear(frames)

    def end(self, length: int | None) -> int:
        """A stretch ends, the next begins with index 0. length: in samples at the codec's rate; returns its frames."""
        assert self.stream is not None
        frames = self._history.end
        self._history.restart()
        for place in self.room.listeners(self):
            if place.gets == "codes":
                place.codes_ear(self.stream).end(frames, length)
                place.pump()
        if self._dub is not None:
            self._dub.end(length)
        return frames

    def dubbed(self, audio: Array | None, sample: int, ends: list[int | None]) -> None:
        """Audio [C, n] of what was said, from `sample` of its stretch on, and the ends of stretches after it."""
        assert self.stream is not None
        for place in self.room.listeners(self):
            if place.gets == "pcm":
                ear = place.pcm_ear(self.stream)
                if audio is not None and audio.shape[1]:
                    ear.hear(audio, sample)
                for length in ends:
                    ear.end(length)
                place.pump()

    def dub_failed(self) -> None:
        """What was said so far cannot be decoded; another decoder is opened for what follows."""
        self._history.forget()
        self._close_dub()

    def _close_dub(self) -> None:
        if self._dub is not None:
            self._dub.close()
            self._dub = None

    @property
    def backlog(self) -> int:
        """Frames that wait to be decoded for those who hear PCM."""
        return 0 if self._dub is None else self._dub.backlog

    @property
    def silent(self) -> bool:
        """Whether all that was said has come to those who listen."""
        return self._dub is None or self._dub.silent

    # -- as a listener

    @property
    def hears(self) -> bool:
        """Whether it still listens; who has said goodbye does not, while what it said is on its way."""
        return self.gets is not None and self.live.ended is None

    def codes_ear(self, stream: int) -> CodesEar:
        if stream not in self._codes:
            self._codes[stream] = CodesEar(self.live, stream, self.pace)
            self.pace.heard = len(self._codes)
        return self._codes[stream]

    def pcm_ear(self, stream: int) -> PcmEar:
        if stream not in self._pcm:
            self._pcm[stream] = PcmEar(self.live, stream, self.pace)
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
        self.places: dict[int, Place] = {}
        self._numbers = 0

    def listeners(self, speaker: Place) -> Iterator[Place]:
        """Those who hear `speaker`."""
        return (place for place in list(self.places.values()) if place.hears and place is not speaker)

    def enter(self, live: Live, pace: Pace) -> Place:
        """A new member, not yet told to the others."""
        taken = {place.stream for place in self.places.values()}
        stream = None
        if live.agreement.takes is not None:
            stream = next(number for number in range(1, 65536) if number not in taken)
        self._numbers += 1
        place = self.places[self._numbers] = Place(self, live, self._numbers, stream, pace)
        return place

    def facts(self, place: Place) -> RoomFacts:
        """What a new member is told."""
        members = tuple(other.facts for other in self.places.values())
        return RoomFacts(name=self.name, id=place.facts.id, members=members)

    def announce(self, place: Place) -> None:
        """Tell the others of a new member."""
        for other in list(self.places.values()):
            if other is not place:
                other.live.protocol.joined(place.facts)
                other.pump()

    def leave(self, place: Place, reason: str) -> None:
        self.places.pop(place.facts.id, None)
        place._close_dub()
        for other in list(self.places.values()):
            other.live.protocol.left(place.facts.id, reason, place.stream)
            if place.stream is not None:
                other.forget(place.stream)
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
        if len(room.places) >= self._members:
            raise ProtocolError("room_full", f"room {name} has {self._members} members", allowed=self._members)
        speakers = sum(place.stream is not None for place in room.places.values())
        if speaks and speakers >= self._speakers:
            raise ProtocolError("room_full", f"room {name} has {self._speakers} speakers", allowed=self._speakers)

    def enter(self, name: str, live: Live) -> Place:
        """The member's place; call `check` before."""
        codec = live.agreement.codec.name
        room = self._rooms.setdefault(name, Room(name, codec, self._engine))
        return room.enter(live, Pace(live, self._lag, self._dropped, self._reduced))

    def leave(self, place: Place, reason: str) -> None:
        place.leave(reason)
        if not place.room.places:
            self._rooms.pop(place.room.name, None)
