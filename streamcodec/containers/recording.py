"""An audio file as its samples, from the first to the last."""

import io
import os
from collections.abc import Iterator
from dataclasses import replace
from typing import BinaryIO

import numpy as np
import soundfile
from numpy.typing import NDArray

from ..errors import AudioError, NonFiniteError
from .au import au_layout
from .chunks import chunk_layout
from .flac import flac_layout
from .mpeg import begins_mpeg, mpeg_layout
from .ogg import ogg_layout
from .part import UNKNOWN_LENGTH, Layout, Part, PartWindow, Sound
from .tags import without_tags

__all__ = ["Recording"]

PLAIN = {"PCM_S8", "PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW"}
SDS_BLOCK = 120  # samples; libsndfile loses some of an SDS file that is read by parts of its blocks
LOWEST_RATE, HIGHEST_RATE = 100, 1_000_000  # Hz; beyond them a resampler takes all memory or time
UNCOUNTED = 1 << 62  # frames that libsndfile says where it does not know


class Recording:
    """The samples of a file, at its own rate, read once.

    file: can seek; read from where it is. name: what messages call it.

    sample_rate: Hz. channels: at least 1. length: samples a channel, None where nobody knows before the end.
    notes: what is odd about the file, a sentence each.

    Raises AudioError for what is no audio, empty, cut short, or made of recordings that do not fit each other.
    """

    def __init__(self, file: BinaryIO, name: str) -> None:
        self._file, self.name = file, name
        layout = self._layout()
        self._parts, self.notes = layout.parts, layout.notes
        lengths = [self._examine(part) for part in self._parts]
        self.length = None if None in lengths else sum(length or 0 for length in lengths)
        if self.length == 0 or not lengths:
            raise AudioError(f"{name} holds no samples")

    sample_rate: int = 0
    channels: int = 0

    def pieces(self, frames: int) -> Iterator[NDArray[np.float32]]:
        """All samples, at most `frames` a channel at a time, float32 [n, C].

        Raises AudioError where the file turns out to be damaged, NonFiniteError where a sample is no number.
        """
        count = 0
        for part in self._parts:
            for piece in self._read(part, frames, count):
                yield piece
                count += len(piece)

    # Opening

    def _layout(self) -> Layout:
        file, name = self._file, self.name
        begin = file.tell()
        stop = file.seek(0, io.SEEK_END)
        start, _ = without_tags(file, begin, stop)
        for find in (chunk_layout, au_layout, flac_layout, ogg_layout):
            if layout := find(file, start, stop, name):
                return layout
        if begins_mpeg(file, start, stop) and (layout := mpeg_layout(file, start, stop, name)):
            return layout
        whole = Part(begin, stop)
        try:
            with self._open(whole) as sound:
                if sound.format != "MP3":
                    return Layout([whole])
        except AudioError:
            return mpeg_layout(file, start, stop, name) or self._by_name(whole)
        return mpeg_layout(file, start, stop, name) or Layout([whole])

    def _by_name(self, whole: Part) -> Layout:
        """A format without anything in it that libsndfile could tell it by."""
        part = replace(whole, by_name=isinstance(getattr(self._file, "name", None), (str, os.PathLike)))
        self._open(part).close()
        return Layout([part])

    def _open(self, part: Part) -> Sound:
        window = PartWindow(self._file, part)
        try:
            sound = Sound(self._file.name if part.by_name else window)
        except (OSError, TypeError, ValueError, soundfile.LibsndfileError) as error:
            self._pass_on(window)
            reason = getattr(error, "error_string", "samples without a header")
            raise AudioError(
                f"{self.name} cannot be read as audio ({reason.rstrip('.')}); give a WAV, FLAC, OGG or MP3 file"
            ) from error
        sound.window = window
        return sound

    def _examine(self, part: Part) -> int | None:
        """The samples of a part. Raises AudioError if it does not go with the others, or is not whole."""
        with self._open(part) as sound:
            found, before = (sound.samplerate, sound.channels), (self.sample_rate, self.channels)
            if before != (0, 0) and found != before:
                raise AudioError(
                    f"{self.name} is made of recordings that do not go together: {before[0]} Hz with {before[1]} "
                    f"channels, then {found[0]} Hz with {found[1]}; cut it there"
                )
            if not LOWEST_RATE <= found[0] <= HIGHEST_RATE:
                raise AudioError(
                    f"{self.name} says that it has {found[0]} Hz; {LOWEST_RATE} to {HIGHEST_RATE} are read"
                )
            self.sample_rate, self.channels = found
            length = self._length(part, sound)
            if length and (sound.format == "FLAC" or sound.subtype in PLAIN) and sound.format not in ("PAF", "SDS"):
                if not self._has(sound, length - 1):
                    raise AudioError(
                        f"{self.name} is cut short or damaged: its header tells of {length} samples, and the last is "
                        "not there"
                    )
                if part.samples is not None and self._has(sound, length):
                    return None  # there are more than the header tells of
            return length

    def _length(self, part: Part, sound: Sound) -> int | None:
        frames = sound.frames
        if part.samples == UNKNOWN_LENGTH or (part.samples is None and frames >= UNCOUNTED):
            return None
        if part.most and frames - part.block < part.most < frames:
            return part.most
        return frames if part.samples is None else part.samples

    def _has(self, sound: Sound, place: int) -> bool:
        """Whether there is a sample at a place: asked before the work, not after it."""
        try:
            sound.seek(place)
            return len(sound.read(1)) == 1
        except soundfile.LibsndfileError:
            return False

    # Reading

    def _read(self, part: Part, frames: int, before: int) -> Iterator[NDArray[np.float32]]:
        count = 0
        frames = max(SDS_BLOCK, frames - frames % SDS_BLOCK)
        with self._open(part) as sound:
            length = self._length(part, sound)
            if sound.format == "MP3":
                sound.seek(0)  # as soundfile.read does: libmpg123 then adds up in another order, by the last bit
            while not part.most or count < (length or 0):
                left = frames if length is None or count >= length else length - count
                try:  # not past the length at first: what follows may be no sound, and take the last samples with it
                    piece = sound.read(min(frames, left), dtype="float32", always_2d=True)
                except soundfile.LibsndfileError as error:
                    self._pass_on(sound.window)
                    if length is not None and count >= length:  # what is behind the samples is none
                        return
                    raise AudioError(self._damaged(before + count)) from error
                self._pass_on(sound.window)
                if not len(piece):
                    break
                self._require_finite(piece, before + count)
                yield piece
                count += len(piece)
        if length is not None and count < length:
            raise AudioError(self._damaged(before + count))

    def _pass_on(self, window: PartWindow) -> None:
        """Raise what a callback of libsndfile could not."""
        if isinstance(window.problem, OSError):
            raise AudioError(f"cannot read {self.name}: {window.problem}") from window.problem
        if window.problem:
            raise window.problem

    def _damaged(self, place: int) -> str:
        known = "" if self.length is None else f" of {self.length}"
        return (
            f"cannot read {self.name} past sample {place}{known} ({place / self.sample_rate:.2f} s): it is damaged or "
            "cut short"
        )

    def _require_finite(self, piece: NDArray[np.float32], before: int) -> None:
        if np.isfinite(piece).all():
            return
        sample, channel = np.argwhere(~np.isfinite(piece))[0].tolist()
        place = before + sample
        what = "NaN" if np.isnan(piece[sample, channel]) else "infinite"
        raise NonFiniteError(
            f"{self.name}: sample {place} ({place / self.sample_rate:.3f} s) of channel {channel} is {what}; every "
            "sample must be finite"
        )
