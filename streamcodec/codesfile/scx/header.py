"""The header of a section of a .scx file: whose codes they are, and how a decoder begins."""

import dataclasses
import json
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from ..safetensors_file import CodesHeader, portable

__all__ = ["ScxHeader"]

FORMAT, VERSION = "streamcodec-scx", 1
MAX_BYTES = 2**16  # of JSON
MOST = 2**53 - 1  # of a number


@dataclass(frozen=True)
class ScxHeader:
    """What a .scx file says about its codes, before the first of them.

    codes: as in the other codes files; its length is 0, for it is not known. created: when, in ISO 8601.
    metadata: what the writer's user wants to be there. pre_skip: samples at the beginning that a decoder makes and
    nobody hears; the time of the file begins after them.
    pre_roll: frames that a decoder hears before a place where it begins (`Codec.pre_roll`), or None where the writer
    did not know; pre_roll_exact: whether what comes then is exact. decoder_delay: samples by which audio trails the
    frames (`CodecSpec.decoder_delay`), so that what is cut off takes some frames more with it.
    segment_frames, segment_stride: of a codec with overlapping segments, in frames and samples; else 0.
    entropy_model: SHA-256 of the model that codes were coded with, "" where they lie there as they are.
    """

    codes: CodesHeader
    created: str = field(default_factory=lambda: datetime.now(timezone.utc).isoformat(timespec="milliseconds"))
    metadata: dict[str, str] = field(default_factory=dict)
    pre_skip: int = 0
    pre_roll: int | None = None
    pre_roll_exact: bool = False
    decoder_delay: int = 0
    segment_frames: int = 0
    segment_stride: int = 0
    entropy_model: str = ""

    def __post_init__(self) -> None:
        if self.codes.length:
            object.__setattr__(self, "codes", dataclasses.replace(self.codes, length=0))

    @property
    def bits(self) -> int:
        """Of a code."""
        return max(1, (self.codes.codebook_size - 1).bit_length())

    def samples(self, frames: int) -> int:
        """Samples that the first `frames` frames of the section stand for, those that nobody hears too."""
        hop = self.codes.hop_length
        if not self.segment_frames:
            return frames * hop
        whole, rest = divmod(frames, self.segment_frames)
        return whole * self.segment_stride + min(rest * hop, self.segment_stride)

    def frame(self, sample: int) -> int:
        """The frame that sample `sample` of the section belongs to; with segments the first of its segment."""
        if not self.segment_frames:
            return sample // self.codes.hop_length
        return sample // self.segment_stride * self.segment_frames

    def begin(self, sample: int, pre_roll: int) -> int:
        """The frame with which a decoder begins that is to be heard from `sample` on."""
        frame = max(0, self.frame(sample) - pre_roll)
        return frame - frame % (self.segment_frames or 1)

    def goes_with(self, other: "ScxHeader") -> bool:
        """Whether the codes of both can stand in one file: those of one codec."""
        mine, its = (dataclasses.replace(one.codes, bandwidth=0, start="exact", source="") for one in (self, other))
        return mine == its and (self.segment_frames, self.segment_stride) == (
            other.segment_frames,
            other.segment_stride,
        )

    def body(self) -> bytes:
        """As JSON."""
        values = dataclasses.asdict(self)
        codes = values.pop("codes")
        del codes["length"]
        return json.dumps({"format": FORMAT, "version": VERSION} | portable(codes | values)).encode()

    @staticmethod
    def parse(body: bytes) -> "ScxHeader":
        """The inverse of `body`. Raises ValueError, its message a clause that follows the file's name."""
        try:
            values = json.loads(body) if len(body) <= MAX_BYTES else None
        except (ValueError, RecursionError):
            values = None
        if not isinstance(values, dict) or values.get("format") != FORMAT:
            raise ValueError("has a header that is not that of a .scx file")
        if values.get("version") != VERSION:
            raise ValueError(f"has version {values.get('version')!r} of the format; this streamcodec reads {VERSION}")
        codes = CodesHeader.of(values | {"length": 0})
        return ScxHeader(
            codes,
            created=_text(values, "created"),
            metadata=_metadata(values.get("metadata", {})),
            pre_skip=_count(values, "pre_skip", 0),
            pre_roll=None if values.get("pre_roll") is None else _count(values, "pre_roll", 0),
            pre_roll_exact=values.get("pre_roll_exact") is True,
            decoder_delay=_count(values, "decoder_delay", 0),
            entropy_model=_text(values, "entropy_model"),
            **_segments(values),
        )


def _segments(values: dict[str, Any]) -> dict[str, int]:
    frames, stride = _count(values, "segment_frames", 0), _count(values, "segment_stride", 0)
    if bool(frames) != bool(stride):
        raise ValueError("has one of segment_frames and segment_stride; it must have both or none")
    return {"segment_frames": frames, "segment_stride": stride}


def _count(values: dict[str, Any], name: str, default: int) -> int:
    value = values.get(name, default)
    if type(value) is not int or not 0 <= value <= MOST:
        raise ValueError(f"has {name} = {value!r}; it must be a whole number from 0 to 2**53 - 1")
    return value


def _text(values: dict[str, Any], name: str) -> str:
    value = values.get(name, "")
    if type(value) is not str:
        raise ValueError(f"has {name} = {value!r}; it must be a text")
    return value


def _metadata(values: Any) -> dict[str, str]:
    if not isinstance(values, dict) or not all(type(value) is str for value in values.values()):
        raise ValueError("has metadata that are not texts by names")
    return values
