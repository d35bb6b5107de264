"""Headers that say how many samples follow, for samples whose own header does not."""

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from ..errors import AudioError
from .part import MOST_IN_HEADER, Part

__all__ = ["MPEG_IN_WAV", "Heads", "aiff_heads", "au_heads", "caf_heads", "wav_heads"]

LONGEST_PART = 1 << 30  # bytes behind one header
LONGEST_BLOCK = 320  # samples of the codings that do not say it: GSM 6.10, G.721, NMS
PLAIN_WAV = {1, 3, 6, 7}  # formats with as many bytes for each sample: PCM, float, A-law, µ-law
EXTENSIBLE = 0xFFFE
MPEG_IN_WAV = 0x55
COMPRESSED_AIFF = {b"ima4", b"GSM ", b"DWVW", b"MAC3", b"MAC6", b"QDM2", b"Qclp"}


@dataclass(frozen=True)
class Heads:
    """make: the header for so many bytes. block: bytes that belong together; 0 where samples cannot be cut.

    samples: a block's, where it is compressed.
    """

    make: Callable[[int], bytes]
    block: int
    samples: int = 1

    def parts(self, start: int, stop: int, name: str) -> Iterator[Part]:
        """The samples from `start` to `stop`, in as many parts as headers can tell of. Raises AudioError."""
        step = max(1, LONGEST_PART // self.block) * self.block if self.block else max(1, stop - start)
        if step > MOST_IN_HEADER:
            raise AudioError(f"{name} has over 2 GiB of samples of a kind that cannot be cut; convert it to FLAC first")
        stop -= (stop - start) % (self.block or 1)
        for begin in range(start, stop, step):
            end = min(begin + step, stop)
            yield Part(begin, end, self.make(end - begin))


def wav_heads(form: bytes, order: Literal["little", "big"]) -> Heads:
    """form: what the chunk "fmt " holds."""
    sign = "<" if order == "little" else ">"
    tag, channels, _, _, _, bits = struct.unpack(sign + "HHIIHH", form[:16].ljust(16, b"\0"))
    if tag == EXTENSIBLE:
        tag = int.from_bytes(form[24:26], order)

    def make(size: int) -> bytes:
        chunk = b"fmt " + struct.pack(sign + "I", len(form)) + form + bytes(len(form) % 2)
        riff = struct.pack(sign + "I", 4 + len(chunk) + 8 + size)
        magic = b"RIFF" if order == "little" else b"RIFX"
        return magic + riff + b"WAVE" + chunk + b"data" + struct.pack(sign + "I", size)

    if tag in PLAIN_WAV:
        return Heads(make, channels * -(-bits // 8))
    return Heads(make, 0, max(LONGEST_BLOCK, int.from_bytes(form[18:20], order)))


def aiff_heads(kind: bytes, common: bytes) -> Heads:
    """kind: AIFF or AIFC. common: what the chunk "COMM" holds."""
    channels, _, bits = struct.unpack(">HIH", common[:8].ljust(8, b"\0"))
    frame = channels * (1 if common[18:22].lower() in (b"ulaw", b"alaw") else -(-bits // 8))
    cut = common[18:22] not in COMPRESSED_AIFF

    def make(size: int) -> bytes:
        frames = struct.pack(">I", size // frame) if cut and frame else common[2:6]
        chunk = b"COMM" + struct.pack(">I", len(common)) + common[:2] + frames + common[6:] + bytes(len(common) % 2)
        sound = b"SSND" + struct.pack(">III", size + 8, 0, 0)
        return b"FORM" + struct.pack(">I", 4 + len(chunk) + len(sound) + size) + kind + chunk + sound

    return Heads(make, frame if cut else 0)


def caf_heads(head: bytes) -> Heads:
    """head: all before the samples, the last 12 bytes of it their size and the count of edits."""
    place = head.find(b"desc")
    name, _, packet = struct.unpack(">4sII", head[place + 20 : place + 32].ljust(12, b"\0"))
    block = packet if name in (b"lpcm", b"ulaw", b"alaw") else 0
    return Heads(lambda size: head[:-12] + struct.pack(">Q", size + 4) + head[-4:], block)


def au_heads(head: bytes, order: Literal["little", "big"]) -> Heads:
    """head: all before the samples."""
    kind, _, channels = (int.from_bytes(head[at : at + 4], order) for at in (12, 16, 20))
    width = {1: 1, 2: 1, 3: 2, 4: 3, 5: 4, 6: 4, 7: 8, 27: 1}.get(kind, 0)
    return Heads(lambda size: head[:8] + size.to_bytes(4, order) + head[12:], width * channels)
