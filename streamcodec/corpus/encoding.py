"""Recordings to codes, one after the other, while the next ones are being read and resampled."""

import contextlib
import queue
import threading
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..checkpoint import load
from ..codecs import Codec
from ..codes import Codes
from ..errors import BackendError
from ..sources import reason
from .items import Failure, Item, Tokens

__all__ = ["Encoder", "Settings"]

T = TypeVar("T")
Block = NDArray[np.float32]

AHEAD = 32  # blocks that may wait for the codec
SILENCE = 1e-3  # -60 dBFS, of the root mean square of a tenth of a second
CHUNK_SECONDS = 30.0  # of recordings that are encoded together
BATCHES = 4  # that are gathered, so that recordings of about one length can be encoded together
GATHERED_SECONDS = 1200.0  # after which no more are gathered, however few they are


class Settings(NamedTuple):
    """How to encode.

    codec, device, precision: as for `streamcodec.load`; backend: likewise, but "auto" is on a CPU "native" where that
    can run; num_codebooks: how many; batch: recordings encoded together, 1 for one after the other, each as a stream.
    """

    codec: str | None
    num_codebooks: int
    device: str = "cpu"
    backend: str = "auto"
    batch: int = 1
    precision: str = "float32"

    @property
    def gathered(self) -> int:
        """Recordings that are in memory together, at most."""
        return 1 if self.batch == 1 else BATCHES * self.batch

    def load(self) -> Codec:
        """The codec, on what encodes whole recordings fastest."""
        codec = load(self.codec, device=self.device, backend=self.backend, precision=self.precision)
        if self.backend == "auto" and self.device == "cpu":
            with contextlib.suppress(BackendError):  # no library here, and no compiler
                return codec.on("native")
        return codec


class _End(NamedTuple):
    """Where a recording's audio ends, and what was wrong with it."""

    error: Exception | None


class Encoder:
    """Items to tokens with one codec."""

    def __init__(self, settings: Settings, codec: Codec | None = None) -> None:
        self.settings = settings
        self.codec = settings.load() if codec is None else codec
        self._dtype = np.int16 if self.codec.spec.codebook_size <= 2**15 else np.int32

    def __call__(self, items: Iterable[Item]) -> Iterator[Tokens | Failure]:
        """The tokens of each item, or why there are none; in order, the reading `AHEAD` of the codec."""
        together: list[tuple[Item, Block]] = []
        events = _ahead(self._read(items), AHEAD)
        streams = self.settings.batch == 1 and self.codec.framing.analyse_each is not None
        for item in events:
            assert isinstance(item, Item)
            if streams:
                yield self._streamed(item, events)
                continue
            heard = self._whole(events)
            if isinstance(heard, Exception):
                yield Failure(item.key, _why(heard))
                continue
            together.append((item, heard))
            if self._suffice(together):
                yield from self._together(together)
                together = []
        yield from self._together(together)

    def _read(self, items: Iterable[Item]) -> Iterator[Item | Block | _End]:
        for item in items:
            yield item
            try:
                yield from item.blocks(self.codec.spec)
            except Exception as error:  # whatever one file does, the others are still to be read
                yield _End(error)
            else:
                yield _End(None)

    def _streamed(self, item: Item, events: Iterator[Any]) -> Tokens | Failure:
        """Long or short, a recording takes the memory of some blocks."""
        quiet, parts, error = _Quiet(self.codec.spec.sample_rate), [], None
        stream = self.codec.open_encoder(num_codebooks=self.settings.num_codebooks)
        for event in events:
            if isinstance(event, _End):
                error = error or event.error
                break
            if error is None:
                quiet.hear(event)
                try:
                    parts.append(stream.push(event[None]))
                except Exception as failure:
                    error = failure
        if error is not None:
            return Failure(item.key, _why(error))
        return self._tokens(item, Codes.cat([*parts, stream.flush()]), quiet.share)

    def _suffice(self, together: list[tuple[Item, Block]]) -> bool:
        seconds = sum(heard.shape[1] for _, heard in together) / self.codec.spec.sample_rate
        return len(together) >= self.settings.gathered or seconds >= GATHERED_SECONDS

    def _whole(self, events: Iterator[Any]) -> Block | Exception:
        blocks: list[Block] = [np.zeros((self.codec.spec.channels, 0), np.float32)]
        for event in events:
            if isinstance(event, _End):
                return event.error or np.concatenate(blocks, 1)
            blocks.append(event)
        raise AssertionError("a recording has an end")

    def _together(self, recordings: list[tuple[Item, Block]]) -> Iterator[Tokens | Failure]:
        try:
            coded = self._encode([heard for _, heard in recordings])
        except Exception as error:
            if len(recordings) == 1:
                yield Failure(recordings[0][0].key, _why(error))
                return
            for each in recordings:  # that which fails alone is lost, and no other
                yield from self._together([each])
            return
        for (item, heard), codes in zip(recordings, coded, strict=True):
            quiet = _Quiet(self.codec.spec.sample_rate)
            quiet.hear(heard)
            yield self._tokens(item, codes, quiet.share)

    def _encode(self, heard: list[Block]) -> list[Codes]:
        chunk = None if self.codec.framing.analyse_each is None else CHUNK_SECONDS
        return self.codec.encode(list(heard), num_codebooks=self.settings.num_codebooks, chunk_seconds=chunk)

    def _tokens(self, item: Item, codes: Codes, silence: float) -> Tokens:
        data = codes.data[0].cpu().numpy().astype(self._dtype)
        scale = None if codes.scale is None else codes.scale[0].cpu().numpy().astype(np.float32)
        length = self.codec.spec.samples(data.shape[1]) if codes.length is None else codes.length
        return Tokens(item.key, data, scale, length, silence, item.fields)


def _why(error: Exception) -> str:
    return reason(error) if type(error).__module__.startswith("streamcodec") else f"{type(error).__name__}: {error}"


class _Quiet:
    """The share of a recording that is silent, in tenths of a second; what fills no whole one at the end counts too."""

    def __init__(self, sample_rate: int) -> None:
        self.window = max(1, sample_rate // 10)
        self.rest = np.zeros((1, 0), np.float32)
        self.silent = self.total = 0

    def hear(self, block: Block) -> None:
        power = np.concatenate([self.rest, np.square(block).mean(0, keepdims=True)], 1)
        whole = power.shape[1] // self.window * self.window
        windows = power[0, :whole].reshape(-1, self.window)
        self.silent += int((windows.mean(1) < SILENCE**2).sum())
        self.total += len(windows)
        self.rest = power[:, whole:]

    @property
    def share(self) -> float:
        if self.rest.shape[1]:
            more = int(self.rest.mean() < SILENCE**2)
            return (self.silent + more) / (self.total + 1)
        return self.silent / max(1, self.total)


class _Raised(NamedTuple):
    error: BaseException


def _ahead(values: Iterable[T], most: int) -> Iterator[T]:
    """The same values, made in a thread that is at most so many of them ahead."""
    waiting: queue.Queue[Any] = queue.Queue(most)
    end, left = object(), threading.Event()

    def put(value: Any) -> bool:
        while not left.is_set():
            try:
                waiting.put(value, timeout=0.1)
            except queue.Full:
                continue
            return True
        return False

    def work() -> None:
        try:
            for value in values:
                if not put(value):
                    return
        except BaseException as error:
            put(_Raised(error))
        put(end)

    thread = threading.Thread(target=work, daemon=True, name="reading ahead")
    thread.start()
    try:
        while (value := waiting.get()) is not end:
            if isinstance(value, _Raised):
                raise value.error
            yield value
    finally:
        left.set()
