"""Sessions that run one by one: codecs that have no framed network in a direction (segments, windows).

Each is an `EncoderStream` or `DecoderStream` behind the same interface as a batched one. What was fed waits in order,
calls included, so that the results do not depend on when steps run.
"""

from abc import abstractmethod
from collections import deque
from typing import Any

import torch
from torch import Tensor

from ..codes import Codes
from ..counts import DecoderCount, EncoderCount, whole_numbers
from ..errors import StateError
from ..stream import DecoderStream, EncoderStream, Start
from .lane import Lane, Result, Saved, Side

__all__ = ["SingleDecoders", "SingleEncoders"]


class SingleSide(Side):
    """stream: the stream; waiting: what it will be given, in order."""

    stream: EncoderStream | DecoderStream

    def __init__(self, lane: "SingleLane", slot: int, owner: Any):
        super().__init__(slot, owner)
        self.lane = lane
        self.waiting: deque[Any] = deque()
        self._queued = 0

    @property
    def queued(self) -> int:
        return self._queued

    def end(self) -> None:
        self.ended = True

    @abstractmethod
    def advance(self) -> Any:
        """Give the stream the next piece, or flush it: pieces of codes, or audio."""

    def flush(self) -> Any:
        self.done = True
        return self.stream.flush()

    def _save(self, items: list[Any], tensors: dict[str, Tensor], count: dict[str, int]) -> Saved:
        state = torch.frombuffer(bytearray(self.stream.save()), dtype=torch.uint8)
        return Saved(tensors | {"stream": state}, {"items": items, "count": count, "ended": int(self.ended)})


class SingleLane(Lane[Any]):
    """Streams that advance one after the other."""

    @property
    def nbytes(self) -> int:
        return 0

    def prepare(self) -> None:
        """Nothing can be prepared."""

    @abstractmethod
    def _make(self, slot: int, owner: Any, start: Start, bandwidth: float, saved: Saved | None) -> SingleSide: ...

    def open(self, owner: Any, start: Start, bandwidth: float, saved: Saved | None = None) -> SingleSide:
        slot = self.admit()
        with torch.inference_mode(False):
            side = self._make(slot, owner, start, bandwidth, saved)
        if saved is not None:
            side.ended = bool(whole_numbers({"ended": saved.numbers.get("ended")}, {"ended"})["ended"])
        self.sides[slot] = side
        return side

    def ready(self, side: SingleSide) -> bool:
        return not side.done and (side.ended or side.queued > 0)

    def run(self) -> list[Result]:
        results = []
        for side in [side for side in self.sides if side is not None and self.ready(side)]:
            if side.closed:
                continue
            self.alone += 1
            try:
                with torch.inference_mode(False):  # as a caller would: what streams keep and give is theirs
                    result = Result(side, side.advance())
            except Exception as error:
                result = Result(side, error=error)
            if not side.closed:
                results.append(result)
        return results


def _stream_bytes(saved: Saved | None) -> bytes | None:
    if saved is None:
        return None
    state = saved.tensors.get("stream")
    if state is None or state.dtype != torch.uint8 or state.dim() != 1:
        raise StateError("saved session lacks its stream")
    return state.numpy().tobytes()


def _items(saved: Saved) -> list[Any]:
    items = saved.numbers.get("items")
    if not isinstance(items, list):
        raise StateError("saved session lacks what waits")
    return items


class SingleEncoder(SingleSide):
    """What waits: rows [n, channels], and bandwidths to change to."""

    stream: EncoderStream

    def __init__(self, lane: "SingleEncoders", slot: int, owner: Any, stream: EncoderStream):
        super().__init__(lane, slot, owner)
        self.stream = stream
        self.count = EncoderCount(lane.codec)

    def put(self, item: Tensor, bounded: bool = True) -> None:
        rows = item.shape[1]
        self.lane.check_room(self._queued, rows, "samples", self.lane.codec.spec.hop_length)
        if rows:
            self.waiting.append(item[0].clone(memory_format=torch.contiguous_format))
            self._queued += rows

    def change(self, bandwidth: float) -> None:
        if self.waiting and isinstance(self.waiting[-1], float):
            self.waiting.pop()
        self.waiting.append(bandwidth)

    def _settle_bandwidth(self) -> None:
        while self.waiting and isinstance(self.waiting[0], float):
            self.stream.bandwidth = self.waiting.popleft()

    def advance(self) -> list[Codes]:
        self._settle_bandwidth()
        if not self.waiting:
            codes = self.flush()
        else:
            rows, most = self.waiting.popleft(), self.lane.frames * self.lane.codec.spec.hop_length
            if rows.shape[0] > most:
                self.waiting.appendleft(rows[most:])
            self._queued -= min(most, rows.shape[0])
            codes = self.stream.push(rows[:most].t()[None])
        self.count.frames += codes.data.shape[2]
        return [codes] if codes.data.shape[2] or codes.length else []

    def save(self) -> Saved:
        tensors = {f"item {i}": item for i, item in enumerate(self.waiting) if isinstance(item, Tensor)}
        items = [item if isinstance(item, float) else None for item in self.waiting]
        return self._save(items, {name: item.cpu().clone() for name, item in tensors.items()}, self.count.save())


class SingleEncoders(SingleLane):
    """Audio to codes."""

    def _make(self, slot: int, owner: Any, start: Start, bandwidth: float, saved: Saved | None) -> SingleEncoder:
        state = _stream_bytes(saved)
        if saved is None or state is None:
            return SingleEncoder(self, slot, owner, self.codec.open_encoder(bandwidth, 1, start=start))
        side = SingleEncoder(self, slot, owner, self.codec.open_encoder(state=state))
        side.count.load(saved.numbers.get("count"))
        shape = (self.codec.spec.channels, self.codec.dtype)
        for i, item in enumerate(_items(saved)):
            rows = saved.tensors.get(f"item {i}")
            if item is not None:
                if item not in self.codec.spec.bandwidths:
                    raise StateError(f"saved session has bandwidth {item!r}, which its codec does not offer")
                side.waiting.append(float(item))
            elif rows is None or rows.dim() != 2 or (rows.shape[1], rows.dtype) != shape:
                raise StateError("saved session lacks the audio that waits, or has it in another shape")
            else:
                side.waiting.append(rows.to(self.codec.device))
                side._queued += rows.shape[0]
        self.check_restored(side.queued // self.codec.spec.hop_length)
        return side


class SingleDecoder(SingleSide):
    """What waits: Codes."""

    stream: DecoderStream

    def __init__(self, lane: "SingleDecoders", slot: int, owner: Any, stream: DecoderStream):
        super().__init__(lane, slot, owner)
        self.stream = stream
        self.count = DecoderCount(lane.codec)

    def put(self, item: Codes, bounded: bool = True) -> None:
        frames = item.data.shape[2]
        room = frames if bounded else 0
        whole = self.count.take(item, lambda: self.lane.check_room(self._queued, room, "frames", 1))
        scale = None if item.scale is None else item.scale.clone()
        # Whole frames may be split from step to step; those that say where the audio ends stay together.
        length = None if whole else item.length
        if frames or length:
            self.waiting.append(Codes(item.data.clone(), scale, length))
            self._queued += frames

    def cut(self, fade: int) -> None:
        if not self.ended:
            self.waiting.clear()
            self._queued = 0
        self.count.fade, self.ended = fade, True

    def advance(self) -> Tensor:
        if self.count.fade:
            self.done = True
            return self.stream.cut(self.count.fade)
        if not self.waiting:
            return self.flush()
        codes, most = self.waiting.popleft(), self.lane.frames
        if codes.length is None and codes.data.shape[2] > most:
            codes, rest = (_part(codes, slice(0, most)), _part(codes, slice(most, None)))
            self.waiting.appendleft(rest)
        self._queued -= codes.data.shape[2]
        return self.stream.push(codes)

    def save(self) -> Saved:
        tensors, items = {}, []
        for i, codes in enumerate(self.waiting):
            tensors[f"codes {i}"] = codes.data.cpu().clone()
            if codes.scale is not None:
                tensors[f"scale {i}"] = codes.scale.cpu().clone()
            items.append(codes.length)
        return self._save(items, tensors, self.count.save())


def _part(codes: Codes, frames: slice) -> Codes:
    return Codes(codes.data[:, :, frames], None if codes.scale is None else codes.scale[:, frames])


class SingleDecoders(SingleLane):
    """Codes to audio."""

    def ready(self, side: SingleSide) -> bool:
        return not side.done and (side.ended or bool(side.waiting))

    def _make(self, slot: int, owner: Any, start: Start, bandwidth: float, saved: Saved | None) -> SingleDecoder:
        state = _stream_bytes(saved)
        if saved is None or state is None:
            return SingleDecoder(self, slot, owner, self.codec.open_decoder(1, start=start, bandwidth=bandwidth))
        side = SingleDecoder(self, slot, owner, self.codec.open_decoder(state=state))
        side.count.load(saved.numbers.get("count"))
        for i, length in enumerate(_items(saved)):
            data, scale = saved.tensors.get(f"codes {i}"), saved.tensors.get(f"scale {i}")
            if data is None:
                raise StateError("saved session lacks codes that wait")
            codes = self.codec.checked(Codes(data, scale, length), 1)
            side.waiting.append(codes)
            side._queued += data.shape[2]
        self.check_restored(side.queued)
        return side
