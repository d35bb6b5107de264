"""Containers made of chunks: WAV (RIFF, RIFX, RF64, BW64), Wave64, AIFF and CAF.

A chunk is an identifier, a size and as many bytes; the samples are one of them. Sizes are wrong where a writer could
not seek back, died, or had more than its 32 bits can say. A file whose sizes hold is left to libsndfile; of another one
the samples are found by what is there, and given to it behind headers of their own.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import BinaryIO, Literal

from ..errors import AudioError
from .heads import MPEG_IN_WAV, Heads, aiff_heads, caf_heads, wav_heads
from .mpeg import mpeg_layout
from .part import Layout, Part, beyond, is_unknown, joined, read_at, require_few
from .tags import tag_in_front

__all__ = ["chunk_layout"]

MOST_CHUNKS = 100_000
LONGEST_FORMAT = 1 << 16
W64_RIFF = bytes.fromhex("726966662e91cf11a5d628db04c10000")
W64_TAIL = bytes.fromhex("f3acd3118cd100c04f8edb8a")  # after the four letters of every other identifier


@dataclass(frozen=True)
class Dialect:
    """How a container has its chunks.

    first: bytes before the first one. name, size: bytes of the identifier and of the size. order: "little" or "big".
    align: what a chunk's place is a multiple of. whole: the size counts identifier and size too. samples: the chunk of
    the samples. skipped: bytes of it before them.
    """

    first: int
    samples: bytes
    name: int = 4
    size: int = 4
    order: Literal["little", "big"] = "little"
    align: int = 2
    whole: bool = False
    skipped: int = 0

    @property
    def header(self) -> int:
        return self.name + self.size


WAV = Dialect(12, b"data")
W64 = Dialect(40, b"data" + W64_TAIL, name=16, size=8, align=8, whole=True)
AIFF = Dialect(12, b"SSND", order="big", skipped=8)
CAF = Dialect(8, b"data", size=8, order="big", align=1, skipped=4)


@dataclass(frozen=True)
class Chunk:
    name: bytes
    start: int  # of its content
    size: int


def dialect_at(file: BinaryIO, at: int) -> Dialect | None:
    """What begins here."""
    head = read_at(file, at, 40)
    if head[8:12] == b"WAVE" and head[:4] in (b"RIFF", b"RIFX", b"RF64", b"BW64"):
        return replace(WAV, order="big") if head[:4] == b"RIFX" else WAV
    if head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
        return AIFF
    if head[:16] == W64_RIFF and head[24:28] == b"wave":
        return W64
    return CAF if head[:4] == b"caff" and len(head) >= 8 else None


def chunk_layout(file: BinaryIO, start: int, stop: int, name: str) -> Layout | None:
    """The samples of a file of chunks, and of those that are joined to it; None if it is none.

    Raises AudioError where there are fewer than it says.
    """
    layout = Layout([])
    at, count = start, 0
    while at < stop and (dialect := dialect_at(file, at)):
        one = _File(file, dialect, at, stop, name)
        layout.parts += one.parts()
        layout.notes += one.notes
        require_few(layout.parts, name)
        at, count = one.end, count + 1
    layout.notes += joined(count)
    return layout if layout.parts else None


class _File:
    """One file of chunks, which ends where another one begins, or the file that holds it ends."""

    def __init__(self, file: BinaryIO, dialect: Dialect, start: int, stop: int, name: str) -> None:
        self.file, self.dialect, self.start, self.stop, self.name = file, dialect, start, stop, name
        self.notes: list[str] = []
        self.end = stop
        self.chunks: dict[bytes, Chunk] = {}
        self.samples: Chunk | None = None
        for chunk in self._walk(start + dialect.first):
            if chunk.name == dialect.samples:
                self.samples = chunk
                break
            self.chunks.setdefault(chunk.name[:4], chunk)

    def parts(self) -> list[Part]:
        """Raises AudioError."""
        if self.samples is None:
            return [Part(self.start, self.stop)]  # libsndfile says what is wrong
        begin = self.samples.start + self.dialect.skipped
        declared = max(0, self._declared(self.samples) - self.dialect.skipped)
        stretches = self._stretches(begin, declared)
        heads = self._heads()
        if heads is None:
            layouts = [mpeg_layout(self.file, *stretch, self.name) or Layout([]) for stretch in stretches]
            self.notes += [note for layout in layouts for note in layout.notes]
            return [part for layout in layouts for part in layout.parts]
        if stretches == [(begin, begin + declared)]:
            return self._sound(heads)
        return [part for stretch in stretches for part in heads.parts(*stretch, self.name)]

    def _sound(self, heads: Heads) -> list[Part]:
        """The file as it is."""
        if read_at(self.file, self.start, 4) == b"BW64":  # which libsndfile knows by its older name
            return [Part(self.start + 4, self.end, b"RF64")]
        return [Part(self.start, self.end, most=self._count(), block=heads.samples)]

    def _count(self) -> int | None:
        """How many samples there are, where the last block can have room for more."""
        fact = self.chunks.get(b"fact")
        if fact is None:
            return None
        size = min(8, fact.size) if self.dialect is W64 else 4
        return int.from_bytes(read_at(self.file, fact.start, size), self.dialect.order) or None

    def _walk(self, at: int) -> Iterator[Chunk]:
        """The chunks from `at` on, as long as what is there can be one."""
        form = self.dialect
        for _ in range(MOST_CHUNKS):
            head = read_at(self.file, at, form.header)
            if at + form.header > self.stop or not all(0x20 <= letter < 0x7F for letter in head[:4]):
                return
            size = int.from_bytes(head[form.name :], form.order)
            size = max(0, size - form.header) if form.whole else size
            yield Chunk(head[: form.name], at + form.header, size)
            at += form.header + size
            at += -(at - self.start) % form.align
        raise AudioError(f"{self.name} has more than {MOST_CHUNKS} chunks; no audio file needs as many")

    def _declared(self, chunk: Chunk) -> int:
        """The size of the chunk of samples; RF64 has it in another one."""
        long = self.chunks.get(b"ds64")
        if chunk.size == 0xFFFFFFFF and long:
            return int.from_bytes(read_at(self.file, long.start + 8, 8), "little")
        return chunk.size

    def _stretches(self, begin: int, declared: int) -> list[tuple[int, int]]:
        """Where samples are."""
        there = self.stop - begin
        if declared > there:
            if not self._unknown(declared):
                raise AudioError(f"{self.name} is cut short: {there} of {declared} bytes of samples are there")
            return [(begin, self.stop)]
        for size in range(declared, there + 1, 1 << 32):  # what is beyond 4 GiB is not in a size of 32 bits
            after = self._behind(begin + size)
            if after is not None:
                return [stretch for stretch in [(begin, begin + size), *after] if stretch[1] > stretch[0]]
        size, notes = beyond(declared, there)
        self.notes += notes
        return [(begin, begin + size)]

    def _unknown(self, declared: int) -> bool:
        """Whether a size is what a writer puts that does not know it."""
        form = self.dialect
        if form.size == 8:
            return declared >= 1 << 62
        outer = int.from_bytes(read_at(self.file, self.start + 4, 4), form.order)
        return is_unknown(declared + form.skipped) or outer == 0 or is_unknown(outer)

    def _behind(self, at: int) -> list[tuple[int, int]] | None:
        """More samples in the chunks behind the samples; None where something else is there."""
        form = self.dialect
        places = {at + -(at - self.start) % form.align, at}  # the byte that makes a place even may be missing
        for place in sorted(places, reverse=True):
            end = place
            found: list[tuple[int, int]] = []
            for chunk in self._walk(place):
                if dialect_at(self.file, chunk.start - form.header):
                    self.end = chunk.start - form.header
                    return found
                end = chunk.start + chunk.size
                if chunk.name == form.samples:
                    found.append((chunk.start + form.skipped, min(end, self.stop)))
            if end + 8 > self.stop or tag_in_front(self.file, end):
                return found
        return None

    def _heads(self) -> Heads | None:
        """None: the samples are MPEG audio, which has its own."""
        form = self.dialect
        if form is CAF:
            assert self.samples is not None
            return caf_heads(read_at(self.file, self.start, self.samples.start + 4 - self.start))
        name = b"COMM" if form is AIFF else b"fmt "
        if name not in self.chunks:
            raise AudioError(f"{self.name} cannot be read as audio: no {name.decode().strip()} chunk comes first")
        content = read_at(self.file, self.chunks[name].start, min(self.chunks[name].size, LONGEST_FORMAT))
        if form is AIFF:
            return aiff_heads(read_at(self.file, self.start + 8, 4), content)
        if int.from_bytes(content[:2], form.order) == MPEG_IN_WAV:
            return None
        return wav_heads(content, form.order)
